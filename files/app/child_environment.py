"""What the codex child gets of this process's environment: no credential that it does not need itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credentials import is_credential, without_line_ends
from proxies import past_the_proxy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from provider_config import Selection
    from workspace_config import Provider

__all__ = ["child_environment"]


def child_environment(
    env: Mapping[str, str], selection: Selection, providers: list[Provider], *, codex_home: str
) -> dict[str, str]:
    """`env` without the credentials of the platform and of the providers that are not in use.

    The key of a foreign endpoint stays, since codex reads it from its environment; that of OpenAI goes to
    codex by its login, and a subscription by its auth.json.
    """
    secret = {name for provider in providers for name in provider.auth_env}
    kept = {
        name: value
        for name, value in without_line_ends(env, secret).items()
        if name == selection.env_key or not is_credential(name, secret)
    }
    return {**kept, **past_the_proxy(env), "CODEX_HOME": codex_home}
