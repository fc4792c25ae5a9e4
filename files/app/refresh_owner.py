"""Who refreshes the ChatGPT account: this workspace (the owner), or somebody else (then it is a follower).

A refresh token is single-use, so of all who hold one exactly one may spend it. A platform refreshes the
accounts that it gives out by itself, some minutes before they expire: under one, a workspace is a follower
unless it is told that the account is its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RefreshOwnerError", "Role", "refresh_role"]

VARIABLE: Final = "CODEX_AUTH_REFRESH_OWNER"
_WITHOUT_PLATFORM: Final = ("off", "none")


class RefreshOwnerError(ValueError):
    """A value of CODEX_AUTH_REFRESH_OWNER that says nothing. The text has the remedy."""


@dataclass(frozen=True, slots=True)
class Role:
    """Whether this workspace refreshes its account, and why that is so, in words for the log."""

    refreshes: bool
    why: str


def refresh_role(env: Mapping[str, str]) -> Role:
    """The role of a workspace with the variables `env`. Raises RefreshOwnerError."""
    value = env.get(VARIABLE, "")
    if value not in ("", "0", "1"):
        raise RefreshOwnerError(
            f"{VARIABLE} is {value[:40]!r}: give 1 (this workspace refreshes its own account) or 0 (another "
            "one does), or unset it for 0 under a platform and 1 without one"
        )
    if value:
        return Role(value == "1", f"{VARIABLE}={value}")
    if env.get("PLATFORM_URL", "").strip().rstrip("/").lower() in _WITHOUT_PLATFORM:
        return Role(refreshes=True, why=f"{VARIABLE} is not set, and PLATFORM_URL is off")
    return Role(
        refreshes=False,
        why=f"{VARIABLE} is not set, and the platform refreshes the account; set it to 1 where the account "
        "is this workspace's own",
    )
