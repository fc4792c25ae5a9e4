"""Results of tasks that were handed to peers, brought back to the agent."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molecule_runtime import logs, spending
from molecule_runtime.executor_helpers import DELEGATION_RESULTS
from molecule_runtime.initial_prompt import self_message

if TYPE_CHECKING:
    from molecule_runtime.platform import PlatformClient

__all__ = ["DelegationWatch", "unread_results"]

_log = logs.get_logger(__name__)

_TERMINAL = {"completed", "failed"}
_ANNOUNCE_PAUSE = 60.0


def unread_results() -> bool:
    """Whether results wait to be taken with the next prompt."""
    path = _results_file()
    return path.exists() and path.stat().st_size > 0


class DelegationWatch:
    """Looks at the delegations after each regular heartbeat.

    A row counts only if this workspace sent it: anything else could be planted by a peer. The announcement
    names ids and states and nothing that a peer wrote, because it arrives in the user's role (B-46).
    """

    def __init__(self, client: PlatformClient, announce_pause: float = _ANNOUNCE_PAUSE) -> None:
        self._client = client
        self._pause = announce_pause
        self._seen: set[str] | None = None
        self._unannounced: list[tuple[str, str]] = []
        self._announced_at = float("-inf")

    async def look(self) -> None:
        """Append new results to the file and announce them, at most once a minute. Raises PlatformError."""
        rows = [row for row in await self._client.delegations() if self._is_own_result(row)]
        ids = {str(row["delegation_id"]) for row in rows}
        if self._seen is None:
            # What ended before this process started was told to the one before it.
            self._seen = ids
            return
        fresh = [row for row in rows if str(row["delegation_id"]) not in self._seen]
        self._seen = ids
        for row in reversed(fresh):
            _append(row)
            self._unannounced.append((str(row["delegation_id"]), str(row["status"])))
        await self._announce()

    def _is_own_result(self, row: dict[str, Any]) -> bool:
        return (
            row.get("status") in _TERMINAL
            and row.get("source_id") == self._client.workspace_id
            and bool(row.get("delegation_id"))
        )

    async def _announce(self) -> None:
        if not self._unannounced or time.monotonic() - self._announced_at < self._pause:
            return
        if spending.closed():
            return
        announced = len(self._unannounced)
        listed = ", ".join(f"{identifier} ({status})" for identifier, status in self._unannounced)
        text = f"Delegated tasks have ended: {listed}. Their results are given with this message."
        self._announced_at = time.monotonic()
        await self._client.send_a2a(self._client.workspace_id, self_message("delegation", text))
        del self._unannounced[:announced]


def _append(row: dict[str, Any]) -> None:
    kept = {
        key: row.get(key)
        for key in ("delegation_id", "target_id", "status", "summary", "response_preview", "error")
    }
    path = _results_file()
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(kept) + "\n")


def _results_file() -> Path:
    return Path(os.environ.get("DELEGATION_RESULTS_FILE") or DELEGATION_RESULTS)
