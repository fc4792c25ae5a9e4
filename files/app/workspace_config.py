"""The part of `config.yaml` that the codex adapter reads: the image's file, and the workspace's over it.

The runtime reads its own part (name, port, prompts) by itself. This one stands alone, so that the image works
with another runtime, and so that the entrypoint can render codex's configuration before any runtime runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

__all__ = [
    "IMAGE_CONFIG",
    "Bridge",
    "ConfigFileError",
    "Provider",
    "RuntimeConfig",
    "WorkspaceConfig",
    "load_workspace_config",
]

IMAGE_CONFIG = Path(__file__).with_name("config.yaml")
_SLUG = r"^[A-Za-z0-9_-]+$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
# codex has providers of these names, and refuses a configuration that defines them again.
_RESERVED_SLUGS = frozenset({"openai", "ollama", "lmstudio", "amazon-bedrock"})

Variable = Annotated[str, Field(pattern=_VARIABLE)]


class ConfigFileError(ValueError):
    """A `config.yaml` that cannot be used: which file, which key, what was given and what is allowed."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Provider(_Strict):
    """One entry of `providers`: an endpoint, how to log in there, and which models it serves."""

    name: Annotated[str, Field(pattern=_SLUG)]
    auth_mode: Literal["chatgpt_subscription", "openai_api", "openai_compat_responses"]
    auth_env: Annotated[list[Variable], Field(min_length=1)]
    model_prefixes: list[str] = Field(default_factory=list)
    model_aliases: list[str] = Field(default_factory=list)
    base_url: str | None = None
    base_url_env: Variable | None = None
    wire_api: Literal["responses"] = "responses"
    model_provider_slug: Annotated[str, Field(pattern=_SLUG)] | None = None
    model_id_override: str | None = None
    explicit_only: bool = False

    @property
    def built_in(self) -> bool:
        """Whether codex knows the endpoint by itself."""
        return self.auth_mode != "openai_compat_responses"

    @property
    def slug(self) -> str:
        """The provider's name in codex's config.toml."""
        return self.model_provider_slug or self.name

    def serves(self, model: str) -> bool:
        """Whether `model` is one of its models, upper and lower case alike."""
        lowered = model.lower()
        return any(lowered.startswith(prefix.lower()) for prefix in self.model_prefixes) or lowered in {
            alias.lower() for alias in self.model_aliases
        }

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value

    @model_validator(mode="after")
    def _fits_its_mode(self) -> Self:
        if self.built_in:
            if self.base_url or self.base_url_env or self.model_provider_slug:
                raise ValueError(
                    f"{self.name}: base_url, base_url_env and model_provider_slug are for "
                    f"auth_mode openai_compat_responses, not for {self.auth_mode}"
                )
        elif not (self.base_url or self.base_url_env):
            raise ValueError(f"{self.name}: auth_mode openai_compat_responses needs a base_url")
        elif self.slug in _RESERVED_SLUGS:
            raise ValueError(f"{self.name}: codex reserves the name {self.slug}; set model_provider_slug")
        return self


class Bridge(_Strict):
    """How codex is run. Times in seconds."""

    app_server_command: str = "codex"
    app_server_args: list[str] = Field(default_factory=lambda: ["app-server"])
    sandbox: Literal["danger-full-access", "workspace-write", "read-only"] = "danger-full-access"
    mid_turn: Literal["steer", "queue"] = "steer"
    threads: Literal["shared", "per_context"] = "shared"
    inactivity_seconds: Annotated[float, Field(gt=0)] = 300.0
    turn_seconds: Annotated[float, Field(gt=0)] = 3600.0
    activity_seconds: Annotated[float, Field(gt=0, le=300)] = 240.0
    max_line_bytes: Annotated[int, Field(ge=1024 * 1024)] = 32 * 1024 * 1024


class RuntimeConfig(BaseModel):
    """`runtime_config`, of which only model and provider matter here."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: str = ""
    provider: str = ""


class WorkspaceConfig(BaseModel):
    """What the adapter needs of the merged `config.yaml`; the rest is the runtime's business."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str = ""
    runtime_config: RuntimeConfig = Field(default_factory=RuntimeConfig)
    providers: Annotated[list[Provider], Field(min_length=1)]
    bridge: Bridge = Field(default_factory=Bridge)
    # As they are written: prices.py and budgets.py read them.
    prices: Any = None
    budgets: Any = None

    @property
    def chosen_model(self) -> str:
        """The model that is asked for: `runtime_config.model`, else `model`."""
        return (self.runtime_config.model or self.model).strip()


def load_workspace_config(workspace: Path | None, image: Path = IMAGE_CONFIG) -> WorkspaceConfig:
    """Read `image`, and `workspace` (a file or the directory that holds config.yaml) over it if it exists.

    Raises ConfigFileError.
    """
    document = _read(image)
    source = image
    if workspace is not None:
        path = workspace / "config.yaml" if workspace.is_dir() else workspace
        if path.exists():
            document, source = _merged(document, _read(path)), path
    try:
        return WorkspaceConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigFileError(f"{source}: {_explained(error)}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigFileError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigFileError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigFileError(f"{path}{where} is not YAML: {getattr(error, 'problem', error)}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigFileError(f"{path} holds a {type(document).__name__}, not keys such as 'model: gpt-5.5'")
    return document


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Mappings merge key by key, `providers` by name; everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merged(old, value)
        elif key == "providers" and isinstance(old, list) and isinstance(value, list):
            merged[key] = _merged_by_name(old, value)
        elif value is not None:
            merged[key] = value
    return merged


def _merged_by_name(base: list[Any], over: list[Any]) -> list[Any]:
    entries = {_name(entry, number): entry for number, entry in enumerate(base)}
    entries.update({_name(entry, len(base) + number): entry for number, entry in enumerate(over)})
    return list(entries.values())


def _name(entry: Any, number: int) -> object:
    name = entry.get("name") if isinstance(entry, dict) else None
    return name.lower() if isinstance(name, str) else number


def _explained(error: ValidationError) -> str:
    problems = []
    for one in error.errors(include_url=False):
        where = ".".join(str(part) for part in one["loc"])
        given = one.get("input")
        shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
        problems.append(f"{where}: {one['msg']}{shown}")
    return "; ".join(problems)
