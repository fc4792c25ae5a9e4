"""A workspace that shares its ChatGPT account with others, and leaves the refreshing to one of them.

A refresh token is single-use: workspaces that each refreshed would lock each other out within seconds (B-24).
So a follower only fetches, with GET and nothing else, what the platform holds: once before codex starts, then
every ten minutes, since the platform refreshes a quarter of an hour before the tokens expire, and sooner as
long as it has not worked yet: a new workspace has no token for that call before it has registered.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

import auth_json
from codex_auth_refresh import record_not_owner
from refresh_owner import VARIABLE, refresh_role
from runtime_hooks import without_secrets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

__all__ = ["Follower", "is_follower", "must_follow", "sync_interval"]

log = structlog.get_logger(__name__)

_INTERVAL: Final = "CODEX_AUTH_SYNC_INTERVAL_SECONDS"
_DEFAULT_SECONDS: Final = 600.0
_YEAR: Final = 31_536_000
_FIRST_SECONDS: Final = 10.0
_FIRST_RETRY: Final = 5.0
_REASON: Final = 500


def is_follower(env: Mapping[str, str]) -> bool:
    """Whether somebody else refreshes this account. Raises RefreshOwnerError."""
    return not refresh_role(env).refreshes


def must_follow(env: Mapping[str, str], home: Path) -> bool:
    """Whether there is, or by the setting has to be, a subscription to fetch. Raises RefreshOwnerError.

    Under a platform a workspace with no subscription at all is a follower too, and has nothing to follow.
    """
    if not is_follower(env):
        return False
    told = env.get(VARIABLE) == "0"
    return told or auth_json.given(env) is not None or auth_json.is_subscription(home)


def sync_interval(env: Mapping[str, str]) -> float:
    """Seconds between two fetches. Raises ValueError for a setting that is no such number."""
    given = env.get(_INTERVAL, "").strip()
    if not given:
        return _DEFAULT_SECONDS
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= _YEAR:
        raise ValueError(
            f"{_INTERVAL} is {given[:40]!r}: give a whole number of seconds from 1 to {_YEAR}, or unset it "
            f"for {_DEFAULT_SECONDS:g}"
        )
    return float(given)


class Follower:
    """Keeps auth.json in `home` as the platform has it. `fetch` returns the workspace's secrets by name."""

    def __init__(
        self,
        home: Path,
        fetch: Callable[[], Awaitable[Mapping[str, str]]],
        *,
        interval: float = _DEFAULT_SECONDS,
    ) -> None:
        self._home = home
        self._fetch = fetch
        self._interval = interval
        self._has_synced = False
        self._syncing = asyncio.Lock()

    async def now(self) -> None:
        """Fetch once, in bounded time: without the platform the workspace goes on with the tokens it has."""
        try:
            async with asyncio.timeout(_FIRST_SECONDS):
                await self.sync()
        except TimeoutError:
            log.warning("auth.not_synced", reason=f"the platform did not answer within {_FIRST_SECONDS:g} s")

    async def run(self) -> None:
        """Fetch for ever."""
        retry = _FIRST_RETRY
        while True:
            await asyncio.sleep(self._interval if self._has_synced else min(retry, self._interval))
            retry *= 2
            await self.sync()

    async def sync(self) -> None:
        """Fetch, and replace auth.json where the platform's tokens are newer. What fails is only logged."""
        async with self._syncing:
            await self._fetch_and_install()
            await asyncio.to_thread(self._leave_in_order)

    def _leave_in_order(self) -> None:
        """Somebody may have signed in here by hand; codex is not given that refresh token either."""
        try:
            auth_json.settle(self._home, withhold=True)
        except OSError as error:
            log.warning("auth.not_withheld", reason=str(error))
        record_not_owner(self._home / "auth.json")

    async def _fetch_and_install(self) -> None:
        try:
            subscription = auth_json.given(await self._fetch())
            if subscription is None:
                log.warning(
                    "auth.not_synced", reason="the platform has no CODEX_AUTH_JSON for this workspace"
                )
                return
            name, text = subscription
            # In a thread: it waits for the disk, and perhaps for a lock.
            outcome = await asyncio.to_thread(
                auth_json.install,
                self._home,
                text,
                f"{name} of the platform",
                withhold=True,
                if_as_old=True,
            )
        except Exception as error:  # noqa: BLE001 (whatever fails, the next round tries again)
            reason = without_secrets(" ".join(str(error).split()) or type(error).__name__)
            log.warning("auth.not_synced", reason=reason[:_REASON])
            return
        self._has_synced = True
        log.info("auth.synced", outcome=outcome)
