"""Takes leave of dead processes that became ours because their own parents ended first.

The runtime is the container's first process, so whatever the agent leaves behind is handed to it: an MCP
server of a killed codex, a daemon that a command started. Nobody else waits for them, and each would keep its
entry in the process table until the container ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

__all__ = ["reap_for_ever"]

_SECONDS = 5.0


async def reap_for_ever() -> None:
    """Look every 5 s. What was dead at two looks is nobody's: who starts a process here awaits its end."""
    before: set[int] = set()
    while True:
        dead = _dead_children()
        for pid in dead & before:
            _reap(pid)
        before = dead - before
        await asyncio.sleep(_SECONDS)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _dead_children() -> set[int]:
    children: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children.update(map(int, listing.read_text().split()))
    return {pid for pid in children if _is_dead(pid)}


def _is_dead(pid: int) -> bool:
    try:
        # The name in brackets may hold anything, the state follows it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False
