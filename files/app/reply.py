"""What one message gets back while it is worked on: text that grows, then one outcome.

The side that produces is the reader of the app-server and never waits; the side that consumes is the A2A
request. Between two looks of the consumer, deltas join: a slow client costs neither memory per delta nor the
others' time.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from failures import TurnFailure

__all__ = ["Canceled", "Chunk", "Completed", "Failed", "Outcome", "Reply", "Update", "Working"]


@dataclass(frozen=True, slots=True)
class Working:
    """The agent has taken the message up."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the answer. `append` is False where it replaces everything that came before."""

    text: str
    append: bool


@dataclass(frozen=True, slots=True)
class Completed:
    """The answer is `text`, the whole of it."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no answer, for this reason."""

    failure: TurnFailure


@dataclass(frozen=True, slots=True)
class Canceled:
    """The sender took the message back."""


Outcome = Completed | Failed | Canceled
Update = Working | Chunk | Outcome


class Reply:
    """One producer, one consumer. Everything after the outcome is ignored."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._finished = asyncio.Event()
        self._working = False
        self._texts: list[str] = []
        self._append = True
        self._streamed = False
        self._outcome: Outcome | None = None

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None before that."""
        return self._outcome

    def work(self) -> None:
        """The agent has taken the message up (once is enough)."""
        if self._outcome is None and not self._working:
            self._working = True
            self._changed.set()

    def append(self, text: str) -> None:
        """The answer goes on with `text`."""
        if self._outcome is None and text:
            self._texts.append(text)
            self._streamed = True
            self._changed.set()

    def replace(self, text: str) -> None:
        """The answer so far is `text`, and what was streamed before is void."""
        if self._outcome is None and self._streamed:
            self._texts = [text]
            self._append = False
            self._changed.set()

    def finish(self, outcome: Outcome) -> None:
        """Say how it ended. Only the first outcome counts."""
        if self._outcome is None:
            self._outcome = outcome
            self._changed.set()
            self._finished.set()

    async def updates(self) -> AsyncIterator[Update]:
        """Yield what happens, ending with the outcome."""
        told_working = False
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._working and not told_working:
                told_working = True
                yield Working()
            while self._texts:
                chunk = Chunk("".join(self._texts), self._append)
                self._texts, self._append = [], True
                yield chunk
            if self._outcome is not None:
                yield self._outcome
                return

    async def pause(self, seconds: float) -> None:
        """Let deltas join for `seconds`, or less if the outcome is there."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._finished.wait()
