"""`config.yaml` as typed values: the image's file first, the workspace's over it, key by key."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

__all__ = ["ConfigError", "WorkspaceConfig", "load", "merge", "read_yaml"]

_TYPO = 0.75


class ConfigError(ValueError):
    """A `config.yaml` that cannot be used: says what was given, what is allowed, and where."""


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a whole number, not true or false")  # noqa: TRY004 (pydantic wants ValueError)
    return value


Whole = Annotated[int, BeforeValidator(_not_bool)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, strict=False)


class A2AConfig(_Section):
    """How the workspace is spoken to."""

    port: Annotated[Whole, Field(ge=1, le=65535)] = 8000
    streaming: bool = True
    push_notifications: bool = False
    delivery_mode: Literal["push", "poll"] = "push"


class SkillConfig(_Section):
    """A skill as the card shows it."""

    id: str = ""
    name: str
    description: str = ""
    tags: list[str] = Field(default_factory=list)


class RbacConfig(_Section):
    """Who may do what to the memory."""

    roles: list[str] = Field(default_factory=lambda: ["operator"])
    allowed_actions: dict[str, list[str]] = Field(default_factory=dict)


class ObservabilityConfig(_Section):
    """What is reported, and how often."""

    heartbeat_interval_seconds: float = 30
    log_level: str = ""

    @property
    def heartbeat_interval(self) -> float:
        """Seconds between two beats, within the platform's 5 to 300."""
        return min(max(self.heartbeat_interval_seconds, 5.0), 300.0)


class WorkspaceConfig(_Section):
    """The keys of `config.yaml` that the runtime reads; `raw` is the whole merged document."""

    name: str = "Workspace"
    description: str = ""
    version: str = "1.0.0"
    role: str = ""
    tier: Whole = 1
    runtime: str = ""
    template_schema_version: Annotated[Literal[1], BeforeValidator(_not_bool)] = 1
    model: str = ""
    runtime_config: dict[str, Any] = Field(default_factory=dict)
    a2a: A2AConfig = Field(default_factory=A2AConfig)
    initial_prompt: str = ""
    initial_prompt_file: str = ""
    idle_prompt: str = ""
    idle_prompt_file: str = ""
    idle_interval_seconds: Annotated[float, Field(gt=0)] = 600
    prompt_files: list[str] = Field(default_factory=list)
    skills: list[SkillConfig | str] = Field(default_factory=list)
    tools: list[Any] = Field(default_factory=list)
    rbac: RbacConfig = Field(default_factory=RbacConfig)
    observability: ObservabilityConfig = Field(default_factory=ObservabilityConfig)
    raw: dict[str, Any] = Field(default_factory=dict, exclude=True)
    warnings: tuple[str, ...] = Field(default=(), exclude=True)

    @property
    def effective_model(self) -> str:
        """The model asked for: `runtime_config.model`, else `model`."""
        chosen = self.runtime_config.get("model")
        return chosen if isinstance(chosen, str) and chosen else self.model


# Keys that others read: adapters, other runtimes, the control plane.
_FOREIGN = {
    "bridge", "budgets", "category", "channels", "compliance", "delegation", "effort", "emoji", "env",
    "governance", "hitl", "plugins", "prices", "providers", "required_env", "sandbox", "security_scan",
    "shared_context", "sub_workspaces", "task_budget",
}  # fmt: skip
_OWN = set(WorkspaceConfig.model_fields) - {"raw", "warnings"}


def load(*paths: Path) -> WorkspaceConfig:
    """Read and merge the files that exist, later ones over earlier ones; none at all gives the defaults.

    Raises ConfigError for a file that is no YAML mapping, a value out of range, and a key that is one
    typing error away from a known one. Other unknown keys are named in `warnings`: a newer platform may
    well send them.
    """
    document: dict[str, Any] = {}
    for path in paths:
        if path.is_file():
            document = merge(document, read_yaml(path))
    source = paths[-1] if paths else Path("config.yaml")
    warnings = [
        *_unknown(source, "", document, _OWN | _FOREIGN),
        *_unknown(source, "a2a.", document.get("a2a"), set(A2AConfig.model_fields)),
    ]
    try:
        config = WorkspaceConfig.model_validate({**document, "raw": document, "warnings": tuple(warnings)})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        given = first.get("input")
        shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
        raise ConfigError(f"{source}: {where}: {first['msg']}{shown}") from error
    if config.a2a.push_notifications:
        notice = f"{source}: a2a.push_notifications is not implemented; the card does not declare it"
        return config.model_copy(update={"warnings": (*config.warnings, notice)})
    return config


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in `path`, {} for an empty file. Raises ConfigError with the line, or OSError."""
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(
            f"{path}:{where} is not YAML: {getattr(error, 'problem', None) or error}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(
            f"{path}: holds a {type(document).__name__}; it must be a mapping such as 'model: gpt-5.5'"
        )
    return {str(key): value for key, value in document.items()}


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on `base`, key by key through nested mappings.

    Lists are replaced, except `providers`: there an entry replaces the one of the same `name`, and others
    are added.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = merge(old, value)
        elif key == "providers" and isinstance(old, list) and isinstance(value, list):
            merged[key] = _merge_named(old, value)
        else:
            merged[key] = value
    return merged


def _merge_named(base: list[Any], over: list[Any]) -> list[Any]:
    def name(item: Any) -> Any:
        return item.get("name") if isinstance(item, dict) else None

    replacements = {name(item): item for item in over if name(item) is not None}
    kept = [replacements.pop(name(item), item) if name(item) is not None else item for item in base]
    return [*kept, *(item for item in over if name(item) is None or name(item) in replacements)]


def _unknown(source: Path, prefix: str, section: Any, known: set[str]) -> list[str]:
    warnings = []
    for key in section if isinstance(section, dict) else ():
        if key in known or key.startswith("x-"):
            continue
        if close := difflib.get_close_matches(key, known, n=1, cutoff=_TYPO):
            raise ConfigError(f"{source}: unknown key {prefix}{key}; did you mean {prefix}{close[0]}?")
        warnings.append(f"{source}: unknown key {prefix}{key} is ignored")
    return warnings
