"""The part of `config.yaml` that the codex adapter reads; `config_document` reads the files and merges them.

The runtime reads its own part (name, port, prompts) by itself. This one stands alone, so that the image works
with another runtime, and so that the entrypoint can render codex's configuration before any runtime runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

import config_document
from config_document import ConfigFileError, is_http_url
from config_document.document import unknown_keys
from config_document.typed import typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from config_document import Layers

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
_OPENAI_HOSTS = frozenset({"api.openai.com", "chatgpt.com"})
AuthMode = Literal["chatgpt_subscription", "openai_api", "openai_compat_responses"]
# Keys of the platform's schema that say nothing to this workspace.
_PROVIDER_KEYS_UNUSED = frozenset({"auth_token_env", "display_name", "models", "type"})
_RUNTIME_CONFIG_KEYS_UNUSED = frozenset({
    "effort", "models", "providers", "recommended_env", "required_env", "task_budget", "timeout",
})  # fmt: skip
# A wrong value of these may not become the default, which allows more than any value that was meant.
_NEVER_GUESSED = (("bridge", "sandbox"), ("bridge", "threads"))


def _listed(value: Any) -> Any:
    """One value where several may be given."""
    return [value] if isinstance(value, str) and value.strip() else value


Variable = Annotated[str, Field(pattern=_VARIABLE)]
Texts = Annotated[list[str], BeforeValidator(_listed)]
Variables = Annotated[list[Variable], BeforeValidator(_listed)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Provider(_Section):
    """One entry of `providers`: an endpoint, how to log in there, and which models it serves."""

    name: Annotated[str, Field(pattern=_SLUG)]
    name_aliases: Texts = Field(default_factory=list)
    auth_mode: AuthMode
    auth_env: Annotated[Variables, Field(min_length=1)]
    model_prefixes: Texts = Field(default_factory=list)
    model_aliases: Texts = Field(default_factory=list)
    arm_prefixes: Texts = Field(default_factory=list)
    base_url: str | None = None
    base_url_env: Variables = Field(default_factory=list)
    wire_api: Literal["responses"] = "responses"
    model_provider_slug: Annotated[str, Field(pattern=_SLUG)] | None = None
    model_id_override: str | None = None
    explicit_only: bool = False

    model_config = ConfigDict(coerce_numbers_to_str=True)

    @property
    def built_in(self) -> bool:
        """Whether codex knows the endpoint by itself."""
        return self.auth_mode != "openai_compat_responses"

    @property
    def slug(self) -> str:
        """The provider's name in codex's config.toml."""
        return self.model_provider_slug or self.name

    def lists(self, model: str) -> bool:
        """Whether `model` is by its whole id one of its models, upper and lower case alike."""
        return model.lower() in {alias.lower() for alias in self.model_aliases}

    def serves(self, model: str) -> bool:
        """Whether `model` is one of its models, by its whole id or by its beginning."""
        return self.lists(model) or _begins(model, [*self.model_prefixes, *self.arm_prefixes])

    def is_meant_by(self, model: str) -> bool:
        """Whether the id says that this provider is meant and no other: `openai-api:gpt-5.4`."""
        return _begins(model, self.arm_prefixes) or (self.explicit_only and self.serves(model))

    def without_arm(self, model: str) -> str:
        """`model` as the endpoint knows it."""
        prefix = next((each for each in self.arm_prefixes if _begins(model, [each])), "")
        return model[len(prefix) :] or model

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is None or not value.strip():
            return None
        if not is_http_url(value.strip()):
            raise ValueError("must begin with http:// or https:// and name a host")
        return value.strip().rstrip("/")

    @model_validator(mode="after")
    def _fits_its_mode(self) -> Self:
        if self.built_in:
            # codex sends to the address that it knows, so a key that was meant for another must not go there.
            if self.base_url is not None and urlsplit(self.base_url).hostname not in _OPENAI_HOSTS:
                raise ValueError(
                    f"base_url is for auth_mode openai_compat_responses, not for {self.auth_mode}"
                )
        elif not (self.base_url or self.base_url_env):
            raise ValueError("auth_mode openai_compat_responses needs a base_url")
        elif self.slug in _RESERVED_SLUGS:
            raise ValueError(f"codex reserves the name {self.slug}; set model_provider_slug")
        return self


class Bridge(_Section):
    """How codex is run. Times in seconds."""

    app_server_command: str = "codex"
    app_server_args: list[str] = Field(default_factory=lambda: ["app-server"])
    sandbox: Literal["danger-full-access", "workspace-write", "read-only"] = "danger-full-access"
    mid_turn: Literal["steer", "queue"] = "steer"
    threads: Literal["shared", "per_context"] = "shared"
    inactivity_seconds: Seconds = 300.0
    turn_seconds: Seconds = 3600.0
    activity_seconds: Annotated[float, Field(gt=0, le=300)] = 240.0
    max_line_bytes: Annotated[int, Field(ge=1024 * 1024)] = 32 * 1024 * 1024


class RuntimeConfig(_Section):
    """`runtime_config`, of which only model and provider matter here."""

    model: str = ""
    provider: str = ""


class _File(_Section):
    """The keys that are read here, `providers` still as they are written."""

    model: str = ""
    provider: str = ""
    runtime_config: RuntimeConfig = Field(default_factory=RuntimeConfig)
    providers: list[dict[str, Any]] = Field(default_factory=list)
    bridge: Bridge = Field(default_factory=Bridge)
    prices: Any = None
    budgets: Any = None


class WorkspaceConfig(_Section):
    """What the adapter needs of the merged `config.yaml`; the rest is the runtime's business.

    `unusable` are entries of `providers` that are left out, by name, with the reason. `credential_variables`
    may hold a provider's login, those of entries that are left out among them.
    """

    model: str = ""
    runtime_config: RuntimeConfig = Field(default_factory=RuntimeConfig)
    providers: Annotated[list[Provider], Field(min_length=1)]
    bridge: Bridge = Field(default_factory=Bridge)
    # As they are written: prices.py and budgets.py read them.
    prices: Any = None
    budgets: Any = None
    unusable: dict[str, str] = Field(default_factory=dict)
    credential_variables: frozenset[str] = frozenset()
    _warnings: tuple[str, ...] = PrivateAttr(())

    @property
    def chosen_model(self) -> str:
        """The model that is asked for."""
        return self.runtime_config.model or self.model

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd about the files. Each names the file, the key, what was given and what is used."""
        return self._warnings


def load_workspace_config(
    workspace: Path | None, image: Path = IMAGE_CONFIG, env: Mapping[str, str] | None = None
) -> WorkspaceConfig:
    """Read `image`, and `workspace` (a file or the directory that holds config.yaml) over it if it exists.

    `env` may name the model. Raises ConfigFileError.
    """
    layers = config_document.load(image, workspace)
    file, values, odd = typed(_File, layers, refused=_NEVER_GUESSED)
    model = config_document.choose_model(values, env or {})
    providers, unusable, dropped = _providers(layers)
    if not providers:
        raise ConfigFileError(f"{image}: providers holds no entry that can be used ({'; '.join(dropped)})")
    named, doubt = _provider_name(layers.workspace.source, file)
    config = WorkspaceConfig(
        model=model.id,
        runtime_config=RuntimeConfig(provider=named),
        providers=providers,
        bridge=file.bridge,
        prices=file.prices,
        budgets=file.budgets,
        unusable=unusable,
        credential_variables=layers.credential_variables,
    )
    # Private, so that no file can set it.
    config._warnings = (*layers.warnings, *_unknown(layers), *odd, *model.warnings, *doubt, *dropped)
    return config


def _provider_name(source: str, file: _File) -> tuple[str, list[str]]:
    """The platform writes the name twice, its editor keeps the one in runtime_config."""
    inner, outer = file.runtime_config.provider.strip(), file.provider.strip()
    if inner and outer and inner.lower() != outer.lower():
        return inner, [
            f"{source}: provider is {outer!r} and runtime_config.provider is {inner!r}; the latter counts"
        ]
    return inner or outer, []


def _unknown(layers: Layers) -> Iterator[str]:
    for document in (layers.image, layers.workspace):
        source, values = document.source, document.values
        runtime_config = {*RuntimeConfig.model_fields, *_RUNTIME_CONFIG_KEYS_UNUSED}
        yield from unknown_keys(source, ("runtime_config",), values.get("runtime_config"), runtime_config)
        yield from unknown_keys(source, ("bridge",), values.get("bridge"), Bridge.model_fields.keys())
        known = {*Provider.model_fields, *_PROVIDER_KEYS_UNUSED}
        for number, entry in document.providers():
            yield from unknown_keys(source, ("providers", number), entry, known)


def _providers(layers: Layers) -> tuple[list[Provider], dict[str, str], list[str]]:
    """The entries that can be used, in order; why others cannot, by name; and a warning for each of those.

    One of the workspace that cannot be used leaves the image's of that name as it was, except where it gives
    an address: the key that is meant for that must not go to another.
    """
    found: dict[str, Provider] = {}
    written: dict[str, dict[str, Any]] = {}
    unusable: dict[str, str] = {}
    warnings: list[str] = []
    for document in (layers.image, layers.workspace):
        for number, entry in document.providers():
            name = str(entry.get("name", "")).strip()
            key = name.lower()
            whole = config_document.merged(written.get(key, {}), {**entry, "name": name})
            try:
                found[key] = Provider.model_validate(whole)
            except ValidationError as error:
                reason = _explained(error)
                foreign = entry.get("auth_mode", "") not in ("", *get_args(AuthMode))
                if key in found and (foreign or not entry.get("base_url")):
                    outcome = "the image's entry of that name is used"
                else:
                    outcome = "it is left out"
                    unusable[key] = reason
                    found.pop(key, None)
                warnings.append(f"{document.source}: providers[{number}] ({name}): {reason}; {outcome}")
            else:
                written[key] = whole
                unusable.pop(key, None)
    return list(found.values()), unusable, warnings


def _explained(error: ValidationError) -> str:
    problems = []
    for one in error.errors(include_url=False):
        where = ".".join(str(part) for part in one["loc"])
        given = one.get("input")
        shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
        problems.append(f"{where}: {one['msg']}{shown}" if where else one["msg"])
    return "; ".join(problems)


def _begins(model: str, prefixes: list[str]) -> bool:
    return any(prefix and model.lower().startswith(prefix.lower()) for prefix in prefixes)
