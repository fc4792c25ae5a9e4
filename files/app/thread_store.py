"""Which codex thread belongs to which conversation, kept over restarts in one small JSON file.

`{"version": 1, "threads": {"<key>": "<thread id>"}}`; the oldest entry comes first. The id is no secret, but
the file lies among secrets and gets the same mode.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import structlog

from atomic_file import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ThreadStore"]

log = structlog.get_logger(__name__)

_VERSION = 1
_KEPT = 1000


class ThreadStore:
    """Thread ids by conversation key. A file that cannot be read or written costs no turn, only memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = self._load()

    def get(self, key: str) -> str | None:
        """The thread of `key`, or None."""
        return self._threads.get(key)

    def latest(self) -> str | None:
        """The thread that was begun last, or None."""
        return next(reversed(self._threads.values()), None)

    def set(self, key: str, thread_id: str) -> None:
        """Remember `thread_id` for `key`; the least recently set of more than 1000 are forgotten."""
        if self._threads.get(key) == thread_id:
            return
        self._threads.pop(key, None)
        self._threads[key] = thread_id
        while len(self._threads) > _KEPT:
            self._threads.pop(next(iter(self._threads)))
        self._save()

    def forget(self, key: str) -> None:
        """Drop `key`: its thread cannot be resumed."""
        if self._threads.pop(key, None) is not None:
            self._save()

    def _load(self) -> dict[str, str]:
        try:
            data = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("threads.unreadable", path=str(self._path), error=str(error))
            return {}
        threads = data.get("threads") if isinstance(data, dict) and data.get("version") == _VERSION else None
        if not isinstance(threads, dict):
            log.warning("threads.unreadable", path=str(self._path), error="not a thread file of version 1")
            return {}
        return {str(key): value for key, value in threads.items() if isinstance(value, str)}

    def _save(self) -> None:
        data = json.dumps({"version": _VERSION, "threads": self._threads}, indent=1)
        try:
            write_atomically(self._path, data)
        except OSError as error:
            log.warning("threads.not_saved", path=str(self._path), error=str(error))
