"""`config.yaml` as plain values: one file, and the merge of the image's with the workspace's.

What is odd in a file is a warning that names file and key. Only a file that cannot be read as a mapping at
all is an error.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from config_document.encoding import NotTextError, read_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

__all__ = [
    "KNOWN_KEYS",
    "ConfigFileError",
    "Document",
    "Layers",
    "config_file",
    "load",
    "merged",
    "read",
    "unknown_keys",
]

DEFAULT_DIRECTORY: Final = Path("/configs")
Place = tuple[str | int, ...]

_NAME: Final = "config.yaml"
_ALIKE: Final = 0.75
_STANDARD: Final = "tag:yaml.org,2002:"
# What a plain scalar may be besides text. Dates are not among them: no key holds one, and a name may look so.
_SCALARS: Final = frozenset(_STANDARD + name for name in ("null", "bool", "int", "float"))
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Top-level keys that somebody reads or writes: this workspace, other runtimes, the platform and its editor.
KNOWN_KEYS: Final = frozenset({
    "a2a", "bridge", "budgets", "category", "category_routing", "channels", "compliance", "delegation",
    "description", "effort", "emoji", "env", "governance", "hitl", "idle_interval_seconds", "idle_prompt",
    "idle_prompt_file", "initial_prompt", "initial_prompt_file", "memory", "model", "models", "name",
    "observability", "plugins", "prices", "prompt_files", "provider", "providers", "rbac", "required_env",
    "role", "runtime", "runtime_config", "sandbox", "schedules", "security_scan", "shared_context", "skills",
    "sub_workspaces", "task_budget", "template_schema_version", "tier", "tools", "version",
})  # fmt: skip


class ConfigFileError(ValueError):
    """A `config.yaml` that cannot be used: which file, which place, and what to do."""


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its values without nulls, where the nulls were, and what is odd. `source` is its path."""

    source: str
    values: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    blanks: tuple[tuple[str, ...], ...] = ()
    root: yaml.MappingNode | None = None

    def text(self, place: Sequence[str | int]) -> str | None:
        """What stands in the file at `place`, as it is written there; None where that is no single value.

        `version: 1.10` is read as the number 1.1, and a version is a text.
        """
        node: yaml.Node | None = self.root
        for part in place:
            if isinstance(node, yaml.MappingNode):
                node = next(
                    (value for key, value in reversed(node.value) if _key(key) == str(part)),
                    None,
                )
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
            else:
                return None
        return node.value if isinstance(node, yaml.ScalarNode) else None

    def providers(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The entries of `providers` that are mappings, with their numbers."""
        entries = self.values.get("providers")
        for number, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, dict):
                yield number, entry


@dataclass(frozen=True, slots=True)
class Layers:
    """The image's document and the workspace's, which lies over it."""

    image: Document
    workspace: Document

    @property
    def values(self) -> dict[str, Any]:
        """Both together."""
        return merged(self.image.values, self.workspace.values)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about the files themselves; `typed` adds what is odd about values."""
        return (*self.image.warnings, *self.workspace.warnings)

    @property
    def credential_variables(self) -> frozenset[str]:
        """Variables that may hold a provider's login, by either file, usable or not."""
        names: set[str] = set()
        for document in (self.image, self.workspace):
            for _, entry in document.providers():
                for given in (entry.get("auth_env"), entry.get("auth_token_env")):
                    names.update(each for each in _several(given) if isinstance(each, str) and each.strip())
        return frozenset(names)


def config_file(given: Path) -> Path:
    """The file that `given` means: itself, or the config.yaml in a directory of that name."""
    return given if given.is_file() else given / _NAME


def load(image: Path | None, workspace: Path | None) -> Layers:
    """Read both; `workspace` is a directory or its file. One that does not exist counts as empty.

    A workspace's configuration that was asked for elsewhere than in /configs and is not there is a warning.
    Raises ConfigFileError.
    """
    base = Document("config.yaml") if image is None else read(image)
    if workspace is None:
        return Layers(base, Document("config.yaml"))
    path = config_file(workspace)
    over = read(path)
    if over.root is None and not path.exists() and workspace != DEFAULT_DIRECTORY:
        warning = (
            f"there is no {path}, so the image's configuration is used: put the file there, or set "
            "WORKSPACE_CONFIG_PATH to the directory that holds it"
        )
        over = Document(over.source, warnings=(warning,))
    return Layers(base, over)


def read(path: Path) -> Document:
    """Read one file; an absent one is empty. Raises ConfigFileError."""
    source = str(path)
    try:
        text = read_text(path)
        loader = _LOADER(text)
        try:
            root = loader.get_single_node()
            reading = _Reading(source, loader)
            values = {} if root is None else reading.value(root, ())
        finally:
            loader.dispose()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise ConfigFileError(f"{path} is a link to nowhere: correct or remove it") from error
        return Document(source)
    except NotADirectoryError:
        return Document(source)
    except NotTextError as error:
        raise ConfigFileError(str(error)) from error
    except OSError as error:
        raise ConfigFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except yaml.YAMLError as error:
        raise ConfigFileError(f"{path}{_where(error)} is not YAML: {_problem(error)}") from error
    except RecursionError as error:
        raise ConfigFileError(f"{path} is nested too deeply: correct it") from error
    if values is None or values == "":
        return Document(source)
    if not isinstance(values, dict):
        raise ConfigFileError(
            f"{path} holds a {_kind(values)}; it must be a mapping such as 'model: gpt-5.5'"
        )
    warnings = [*reading.warnings, *unknown_keys(source, (), values, KNOWN_KEYS)]
    return Document(source, values, tuple(warnings), tuple(reading.blanks), root)


def unknown_keys(source: str, place: Sequence[str | int], section: Any, known: Collection[str]) -> list[str]:
    """A warning for each key of `section` that nobody knows, with the one that may have been meant."""
    warnings = []
    for key in section if isinstance(section, dict) else ():
        if key in known or key.startswith("x-"):
            continue
        close = difflib.get_close_matches(key.lower(), known, n=1, cutoff=_ALIKE)
        name = dotted((*place, key))
        meant = f"; did you mean {dotted((*place, close[0]))}?" if close else ""
        warnings.append(f"{source}: unknown key {name} is ignored{meant}")
    return warnings


def dotted(place: Sequence[str | int]) -> str:
    """A place in a document as people write it: `providers[2].auth_env`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on `base`, key by key through nested mappings; neither is changed.

    Lists are replaced, except `providers`: there an entry lies key by key over the one of the same name, and
    others are added. What is blank (nothing, or an empty text) leaves what `base` has.
    """
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if value is None or (is_blank(value) and old is not None):
            continue
        if isinstance(old, dict) and isinstance(value, dict):
            result[key] = merged(old, value)
        elif key == "providers" and isinstance(old, list) and isinstance(value, list):
            result[key] = _merged_by_name(old, value)
        else:
            result[key] = value
    return result


def is_blank(value: Any) -> bool:
    """Whether nothing was given: null, or a text without a letter."""
    return value is None or (isinstance(value, str) and not value.strip())


def _merged_by_name(base: list[Any], over: list[Any]) -> list[Any]:
    entries = {_name(entry, number): entry for number, entry in enumerate(base)}
    for number, entry in enumerate(over):
        name = _name(entry, len(base) + number)
        old = entries.get(name)
        if isinstance(old, dict) and isinstance(entry, dict):
            entries[name] = merged(old, entry)
        else:
            entries[name] = entry
    return list(entries.values())


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _name(entry: Any, number: int) -> object:
    name = entry.get("name") if isinstance(entry, dict) else None
    return name.strip().lower() if isinstance(name, str) and name.strip() else number


class _Reading:
    """Makes values of the nodes of one file. Aliases are made once; what refers to itself is refused."""

    def __init__(self, source: str, loader: Any) -> None:
        self.warnings: list[str] = []
        self.blanks: list[tuple[str, ...]] = []
        self._source = source
        self._loader = loader
        self._made: dict[int, Any] = {}
        self._open: set[int] = set()

    def value(self, node: yaml.Node, place: Place) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        if id(node) in self._made:
            return self._made[id(node)]
        if id(node) in self._open:
            raise ConfigFileError(
                f"{self._source}: line {node.start_mark.line + 1} refers to itself: write it out"
            )
        self._open.add(id(node))
        if isinstance(node, yaml.MappingNode):
            made: Any = self._mapping(node, place)
        else:
            made = [self.value(each, (*place, number)) for number, each in enumerate(node.value)]
        self._open.discard(id(node))
        self._made[id(node)] = made
        return made

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        inherited: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _STANDARD + "merge":
                inherited = self._inherited(value_node, place) | inherited
                continue
            key = _key(key_node)
            if key is None:
                self._warn(key_node, f"a key of {_name_of(place)} is a {_kind_of(key_node)}: it is left out")
                continue
            if key in own:
                self._warn(key_node, f"{dotted((*place, key))} is given twice; the last one counts")
            own[key] = self.value(value_node, (*place, key))
        names = [part for part in place if isinstance(part, str)]
        if len(names) == len(place):
            self.blanks += [(*names, key) for key, value in own.items() if value is None]
        return {key: value for key, value in {**inherited, **own}.items() if value is not None}

    def _inherited(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        """What `<<` brings: of several mappings the first that has a key."""
        value = self.value(node, (*place, "<<"))
        found: dict[str, Any] = {}
        for each in reversed(_several(value)):
            found |= each if isinstance(each, dict) else {}
        return found

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        if node.tag in _SCALARS:
            try:
                return self._loader.construct_object(node)
            except (ValueError, LookupError, OverflowError, yaml.YAMLError):
                return node.value  # `0x_` has the form of a number, and is none.
        if not node.tag.startswith(_STANDARD):
            self._warn(node, f"the tag {node.tag} of {_name_of(place)} means nothing here")
        return node.value

    def _warn(self, node: yaml.Node, what: str) -> None:
        self.warnings.append(f"{self._source}: line {node.start_mark.line + 1}: {what}")


def _name_of(place: Place) -> str:
    return dotted(place) or "the file"


def _key(node: yaml.Node) -> str | None:
    return node.value if isinstance(node, yaml.ScalarNode) else None


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f": line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _problem(error: yaml.YAMLError) -> str:
    return " ".join(str(getattr(error, "problem", None) or error).split())


def _kind_of(node: yaml.Node) -> str:
    return "mapping" if isinstance(node, yaml.MappingNode) else "list"


def _kind(value: Any) -> str:
    """The name that people have for the kind of a value."""
    names = {list: "list", str: "text", bool: "true or false", int: "number", float: "number"}
    return names.get(type(value), type(value).__name__)
