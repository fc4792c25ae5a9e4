"""Which provider and model the workspace uses, out of the registry in `config.yaml` and the environment.

The order: a provider that is named in the environment; one that is named in config.yaml, where its credential
is there; one that the model's id names; the ChatGPT subscription where its credential is there; one that
serves the model and has its credential; the first with a credential, so that the one key that is given is
used; one that serves the model; the first of all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import structlog

from config_document import is_http_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from workspace_config import Provider, WorkspaceConfig

__all__ = ["NAMED_BY", "ProviderError", "Selection", "last_refresh", "missing_credential", "resolve_provider"]

log = structlog.get_logger(__name__)

# The platform says by these which arm it has resolved. MODEL_PROVIDER used to carry a model's id instead.
NAMED_BY: Final = ("MOLECULE_RESOLVED_PROVIDER", "LLM_PROVIDER", "MODEL_PROVIDER")
_MODEL_OR_PROVIDER: Final = NAMED_BY[-1]
_OPENAI: Final = "openai"
_UNUSABLE: Final = "whose entry in config.yaml cannot be used"
# The platform puts it into OPENAI_API_KEY as well, with the address of its proxy in OPENAI_BASE_URL.
_USAGE_TOKEN: Final = "MOLECULE_LLM_USAGE_TOKEN"  # noqa: S105 (a variable's name)
# And beside a person's own key it puts OpenAI's address there, which says nothing of a proxy.
_OPENAI_BASE_URL: Final = "OPENAI_BASE_URL"
_OPENAI_HOST: Final = "api.openai.com"


class ProviderError(ValueError):
    """A provider or model that the workspace must not start with. The text says what to change."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcome. `credential` names what holds the login: a variable or `auth.json`; None if nothing does.

    `model` is the id that the endpoint is asked for; `base_url` is set for endpoints that codex does not
    know.
    """

    provider: Provider
    model: str
    credential: str | None
    base_url: str | None = None

    @property
    def env_key(self) -> str | None:
        """The variable that codex reads the key of a foreign endpoint from; None for a built-in one."""
        return None if self.provider.built_in else self.credential or self.provider.auth_env[0]


def resolve_provider(
    config: WorkspaceConfig, env: Mapping[str, str], *, codex_home: Path | None = None
) -> Selection:
    """Choose provider and model. `codex_home` is looked into for a subscription that is logged in already.

    Raises ProviderError for a name that is not in the registry, a provider's name in place of a model, and an
    endpoint without an address.
    """
    model = config.chosen_model
    _refuse_provider_as_model(model, config.providers)
    credentials = {provider.name: _credential(provider, env, codex_home) for provider in config.providers}
    provider = (
        _named(config, env, credentials)
        or _configured(config, credentials)
        or _meant(model, config.providers, credentials)
        or _found(model, config.providers, credentials)
    )
    return Selection(
        provider=provider,
        model=_model_for(provider, model, config.providers),
        credential=credentials[provider.name],
        base_url=None if provider.built_in else _base_url(provider, env),
    )


def missing_credential(selection: Selection, providers: Sequence[Provider]) -> str | None:
    """What to say where no credential was found for the selection; None where there is one."""
    if selection.credential is not None:
        return None
    wanted = " or ".join(selection.provider.auth_env)
    others = sorted(
        {name for one in providers if not one.explicit_only for name in one.auth_env}
        - set(selection.provider.auth_env)
    )
    return (
        f"no credential for provider {selection.provider.name}: set {wanted}"
        f" (or, for another provider, one of {', '.join(others)})"
    )


def last_refresh(codex_home: Path) -> float | None:
    """When the tokens in `auth.json` were refreshed, as Unix time; None if it does not say."""
    try:
        return datetime.fromisoformat(str(_auth_json(codex_home).get("last_refresh"))).timestamp()
    except ValueError:
        return None


def _refuse_provider_as_model(model: str, providers: Sequence[Provider]) -> None:
    """codex accepts any text as a model and fails at every turn, so that mistake must stop the boot."""
    if not model:
        raise ProviderError("config.yaml names no model: set model, for example to gpt-5.5")
    names = sorted({name for one in providers for name in (one.name, *one.name_aliases)} | {_OPENAI})
    if model.lower() in {name.lower() for name in names}:
        raise ProviderError(
            f"model is {model!r}, which is the name of a provider ({', '.join(names)}). "
            f"Set model to a model, such as gpt-5.5, and runtime_config.provider to {model!r}"
        )


def _model_for(provider: Provider, model: str, providers: Sequence[Provider]) -> str:
    """The id that the endpoint knows: without a prefix that only names the provider."""
    if provider.model_id_override:
        return provider.model_id_override
    for one in (provider, *(one for one in providers if one.built_in and provider.built_in)):
        model = one.without_arm(model)
    return model


def _base_url(provider: Provider, env: Mapping[str, str]) -> str:
    """Where a foreign endpoint is: what the environment says, else the registry. Raises ProviderError."""
    for variable in provider.base_url_env:
        given = env.get(variable, "").strip().rstrip("/")
        if not given:
            continue
        if not is_http_url(given):
            raise ProviderError(f"{variable} must be http://HOST... or https://HOST...: correct or unset it")
        if variable != _OPENAI_BASE_URL or urlsplit(given).hostname != _OPENAI_HOST:
            return given
    if not provider.base_url:
        variables = " or ".join(provider.base_url_env)
        raise ProviderError(f"provider {provider.name} has no address: set {variables}, or base_url")
    return provider.base_url


def _named(
    config: WorkspaceConfig, env: Mapping[str, str], credentials: Mapping[str, str | None]
) -> Provider | None:
    """The provider that the environment names: who set that knew the credentials."""
    for variable in NAMED_BY:
        name = env.get(variable, "").strip()
        if provider := _by_name(name, config.providers, credentials):
            return provider
        if reason := config.unusable.get(name.lower()):
            raise ProviderError(f"{variable} is {name!r}, {_UNUSABLE}: {reason}")
        if name and variable != _MODEL_OR_PROVIDER:
            log.warning("provider.ignored", variable=variable, value=name, reason="not in the registry")
    return None


def _configured(config: WorkspaceConfig, credentials: Mapping[str, str | None]) -> Provider | None:
    """The provider that config.yaml names, or one that can log in where that one cannot.

    The platform writes the name without a look at the credentials: with nothing but an API key it says
    `openai-subscription` all the same. OpenAI's two ways in stand in for each other; no other vendor does,
    who would see what was meant for the one that is named.
    """
    name = config.runtime_config.provider.strip()
    if not name:
        return None
    provider = _by_name(name, config.providers, credentials)
    if provider is None:
        if reason := config.unusable.get(name.lower()):
            raise ProviderError(f"runtime_config.provider is {name!r}, {_UNUSABLE}: {reason}")
        known = ", ".join(provider.name for provider in config.providers)
        raise ProviderError(
            f"runtime_config.provider is {name!r}, which is not in the registry. Known: {known}, {_OPENAI}. "
            "Choose one of them, or add an entry of that name to providers in config.yaml"
        )
    if credentials[provider.name] or not provider.built_in:
        return provider
    ready = (one for one in config.providers if one.built_in and credentials[one.name])
    if (stands_in := next(ready, None)) is not None:
        log.warning(
            "provider.stands_in",
            configured=provider.name,
            used=stands_in.name,
            reason=f"none of {', '.join(provider.auth_env)} is set",
        )
    return stands_in or provider


def _by_name(
    name: str, providers: Sequence[Provider], credentials: Mapping[str, str | None]
) -> Provider | None:
    wanted = name.strip().lower()
    if not wanted:
        return None
    for provider in providers:
        if provider.name.lower() == wanted:
            return provider
    for provider in providers:
        if wanted in {alias.lower() for alias in provider.name_aliases}:
            return provider
    if wanted == _OPENAI:
        # The plain name means either way to OpenAI: the one that can log in.
        own = [provider for provider in providers if provider.built_in]
        return next((one for one in own if credentials[one.name]), own[0] if own else None)
    return None


def _meant(
    model: str, providers: Sequence[Provider], credentials: Mapping[str, str | None]
) -> Provider | None:
    """The provider that the model's id names; of several, one with a key of one's own before the metered."""
    meant = sorted((one for one in providers if one.is_meant_by(model)), key=lambda one: one.explicit_only)
    return next((one for one in meant if credentials[one.name]), meant[0] if meant else None)


def _found(model: str, providers: Sequence[Provider], credentials: Mapping[str, str | None]) -> Provider:
    candidates = [provider for provider in providers if not provider.explicit_only] or list(providers)
    satisfied = [provider for provider in candidates if credentials[provider.name]]
    serving = sorted(
        (provider for provider in candidates if provider.serves(model)),
        key=lambda provider: not provider.lists(model),
    )
    choices = (
        [provider for provider in satisfied if provider.auth_mode == "chatgpt_subscription"],
        [provider for provider in serving if provider in satisfied],
        satisfied,
        serving,
        candidates,
    )
    return next(choice[0] for choice in choices if choice)


def _credential(provider: Provider, env: Mapping[str, str], codex_home: Path | None) -> str | None:
    usage_token = env.get(_USAGE_TOKEN, "").strip()
    for variable in provider.auth_env:
        value = env.get(variable, "").strip()
        if value and value == usage_token and _USAGE_TOKEN not in provider.auth_env:
            log.warning("credential.ignored", variable=variable, reason=f"it is that of {_USAGE_TOKEN}")
        elif value:
            return variable
    if provider.auth_mode == "chatgpt_subscription" and codex_home is not None and _logged_in(codex_home):
        return "auth.json"
    return None


def _logged_in(codex_home: Path) -> bool:
    """Whether `auth.json` holds a subscription: a restarted workspace may have it on its volume only."""
    tokens = _auth_json(codex_home).get("tokens")
    return isinstance(tokens, dict) and bool(tokens.get("refresh_token") or tokens.get("access_token"))


def _auth_json(codex_home: Path) -> dict[str, Any]:
    try:
        document = json.loads((codex_home / "auth.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
