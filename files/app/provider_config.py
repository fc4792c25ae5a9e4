"""Which provider and model the workspace uses, out of the registry in `config.yaml` and the environment.

The order (PLATFORM.md 10.5): a provider that is named; the ChatGPT subscription where its credential is
there; one that serves the model and has its credential; the first with a credential, so that the one key that
is given is used; one that serves the model; the first of all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from workspace_config import Provider, WorkspaceConfig

__all__ = ["NAMED_BY", "ProviderError", "Selection", "last_refresh", "missing_credential", "resolve_provider"]

log = structlog.get_logger(__name__)

# The platform says by these which arm it has resolved. MODEL_PROVIDER used to carry a model's id instead.
NAMED_BY: Final = ("MOLECULE_RESOLVED_PROVIDER", "LLM_PROVIDER", "MODEL_PROVIDER")
_OPENAI: Final = "openai"


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
    provider = _named(config, env, credentials) or _found(model, config.providers, credentials)
    base_url = None
    if not provider.built_in:
        base_url = (env.get(provider.base_url_env) if provider.base_url_env else None) or provider.base_url
        if not base_url:
            raise ProviderError(
                f"provider {provider.name} has no address: set {provider.base_url_env}, or base_url"
            )
    return Selection(
        provider=provider,
        model=provider.model_id_override or model,
        credential=credentials[provider.name],
        base_url=base_url,
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
    names = sorted({provider.name for provider in providers} | {_OPENAI})
    if model.lower() in {name.lower() for name in names}:
        raise ProviderError(
            f"model is {model!r}, which is the name of a provider ({', '.join(names)}). "
            f"Set model to a model, such as gpt-5.5, and runtime_config.provider to {model!r}"
        )


def _named(
    config: WorkspaceConfig, env: Mapping[str, str], credentials: Mapping[str, str | None]
) -> Provider | None:
    for variable in NAMED_BY:
        if name := env.get(variable, "").strip():
            if provider := _by_name(name, config.providers, credentials):
                return provider
            log.warning("provider.ignored", variable=variable, value=name, reason="not in the registry")
    name = config.runtime_config.provider.strip()
    if not name:
        return None
    if provider := _by_name(name, config.providers, credentials):
        return provider
    known = ", ".join(provider.name for provider in config.providers)
    raise ProviderError(
        f"runtime_config.provider is {name!r}, which is not in the registry. Known: {known}, {_OPENAI}. "
        "Choose one of them, or add an entry of that name to providers in config.yaml"
    )


def _by_name(
    name: str, providers: Sequence[Provider], credentials: Mapping[str, str | None]
) -> Provider | None:
    for provider in providers:
        if provider.name.lower() == name.lower():
            return provider
    if name.lower() == _OPENAI:
        # The plain name means either way to OpenAI: the one that can log in.
        own = [provider for provider in providers if provider.built_in]
        return next((one for one in own if credentials[one.name]), own[0] if own else None)
    return None


def _found(model: str, providers: Sequence[Provider], credentials: Mapping[str, str | None]) -> Provider:
    candidates = [provider for provider in providers if not provider.explicit_only] or list(providers)
    satisfied = [provider for provider in candidates if credentials[provider.name]]
    serving = [provider for provider in candidates if provider.serves(model)]
    choices = (
        [provider for provider in satisfied if provider.auth_mode == "chatgpt_subscription"],
        [provider for provider in serving if provider in satisfied],
        satisfied,
        serving,
        candidates,
    )
    return next(choice[0] for choice in choices if choice)


def _credential(provider: Provider, env: Mapping[str, str], codex_home: Path | None) -> str | None:
    for variable in provider.auth_env:
        if env.get(variable, "").strip():
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
