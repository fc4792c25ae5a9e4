"""Tells the platform what the agent does: a row for each use of a tool, and signs of life of a long turn.

The platform restarts a workspace that says it is busy and shows nothing for twelve minutes. Rows are told in
order, one at a time, beside the turn, which never waits for them: what the platform does not take within five
seconds is not told again, and what it is too slow for is left out.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import structlog

from tool_calls import tool_call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Activity", "Row"]

log = structlog.get_logger(__name__)

Row = dict[str, Any]
"""The body of one row, as the platform takes it."""

SILENT_SECONDS: Final = 240.0
FIRST_SECONDS: Final = 60.0
_AGAIN_SECONDS: Final = 30.0
_WAITING: Final = 256
_SUMMARY: Final = 256
_TOOL: Final = "\N{HAMMER AND WRENCH} "


class Activity:
    """`tool` and `turn` are told what happens and never wait. `close` it at the end.

    Args:
        write: Hands one row over; whether the platform took it. It may take as long as it likes.
        workspace_id: Who does it all.
        redact: Takes secrets out of a text.
        silent: Seconds without a row after which a running turn says that it lives.
        first: The same, for the beginning of a turn.
    """

    def __init__(
        self,
        write: Callable[[Row], Awaitable[bool]],
        workspace_id: str,
        redact: Callable[[str], str],
        *,
        silent: float = SILENT_SECONDS,
        first: float = FIRST_SECONDS,
    ) -> None:
        self._write = write
        self._id = workspace_id
        self._redact = redact
        self._silent = silent
        self._first = min(first, silent)
        self._again = min(_AGAIN_SECONDS, silent)
        self._rows: asyncio.Queue[Row] = asyncio.Queue(_WAITING)
        self._left_out = 0
        self._turns = 0
        self._about = ""
        self._taken_at = float("-inf")
        self._writing: asyncio.Task[None] | None = None
        self._signs: asyncio.Task[None] | None = None

    def tool(self, item: dict[str, Any]) -> None:
        """An item of codex is completed."""
        if (call := tool_call(item)) is not None:
            self._put("agent_log", call.name, f"{_TOOL}{call.name}({_one_line(self._redact(call.input))})")

    def turn(self, about: str) -> None:
        """A message is taken up, with its first words; with "", one has ended."""
        if about:
            self._turns += 1
            self._about = about
        else:
            self._turns -= 1
        if self._turns > 0 and self._signs is None:
            self._signs = asyncio.create_task(self._live(), name="signs of life")
        elif self._turns <= 0 and self._signs is not None:
            self._signs.cancel()
            self._signs = None

    async def close(self) -> None:
        """Tell nothing more; what waits is left out."""
        running = [task for task in (self._signs, self._writing) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _put(self, kind: str, method: str, summary: str) -> None:
        row = {
            "activity_type": kind,
            "source_id": self._id,
            "target_id": self._id,
            "method": method,
            "summary": summary if len(summary) <= _SUMMARY else f"{summary[: _SUMMARY - 2]}…)",
            "status": "ok",
        }
        if self._writing is None:
            self._writing = asyncio.create_task(self._tell(), name="activity")
        try:
            self._rows.put_nowait(row)
        except asyncio.QueueFull:
            if self._left_out == 0:
                log.warning(
                    "activity.left_out", reason="the platform takes rows too slowly", waiting=_WAITING
                )
            self._left_out += 1

    async def _tell(self) -> None:
        failing = False
        while True:
            row = await self._rows.get()
            try:
                taken = await self._write(row)
            except Exception as error:  # noqa: BLE001 (whatever a runtime's client does, the next row is told)
                log.warning("activity.not_written", reason=f"{type(error).__name__}: {error}")
                taken = False
            if taken:
                self._taken_at = asyncio.get_running_loop().time()
            elif not failing:
                log.warning("activity.not_taken", method=row["method"])
            failing = not taken
            if self._left_out and self._rows.empty():
                log.warning("activity.left_out", rows=self._left_out)
                self._left_out = 0

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        began, told_at = loop.time(), float("-inf")
        while True:
            due = self._taken_at + self._silent if self._taken_at >= began else began + self._first
            due = max(due, told_at + self._again)
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
                continue
            told_at = loop.time()
            minutes = int((told_at - began) // 60)
            self._put(
                "task_update", "turn", _one_line(self._redact(f"Working ({minutes} min): {self._about}"))
            )


def _one_line(text: str) -> str:
    return " ".join(text.split())
