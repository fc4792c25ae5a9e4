"""How git in the workspace comes by the token that the platform holds, with nothing of it on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["git_variables"]

_CONFIGURATION: Final = Path(__file__).with_name("gitconfig")


def git_variables(env: Mapping[str, str]) -> dict[str, str]:
    """What to add to the environment of the agent's programs.

    Nothing where no platform is named, or where the deployer has said which system configuration git reads.
    """
    has_platform = env.get("PLATFORM_URL", "").strip().lower().startswith(("http://", "https://"))
    if not has_platform or env.get("GIT_CONFIG_SYSTEM") or env.get("GIT_CONFIG_NOSYSTEM"):
        return {}
    return {"GIT_CONFIG_SYSTEM": str(_CONFIGURATION)}
