"""The transcript of a thread: the lines of the rollout file that codex itself writes (CODEX.md 6)."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["find_rollout", "read_lines"]


def find_rollout(codex_home: Path, thread_id: str) -> Path | None:
    """`sessions/YYYY/MM/DD/rollout-<ts>-<thread_id>.jsonl`, or None before the thread's first turn."""
    return next((codex_home / "sessions").glob(f"*/*/*/rollout-*-{thread_id}.jsonl"), None)


def read_lines(path: Path, since: int, limit: int) -> tuple[list[Any], bool]:
    """At most `limit` entries from number `since` on, and whether there are more.

    A last line that is still being written counts as not there yet. Raises OSError.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        complete = (line for line in file if line.endswith("\n"))
        lines = list(itertools.islice(complete, since, since + limit + 1))
    return [_entry(line) for line in lines[:limit]], len(lines) > limit


def _entry(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return {"type": "unreadable", "text": line.rstrip("\n")}
