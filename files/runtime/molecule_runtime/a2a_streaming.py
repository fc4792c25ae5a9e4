"""Where a2a-sdk 1.3.0 makes a long stream expensive, or cuts it, put right. Nowhere else.

1. With every event the SDK queues a copy of the whole task for each subscriber, who looks at it for status
updates only. For a streamed answer that is a copy of everything said so far with each delta: gigabytes for
an answer of two megabytes, and a thousand such copies in memory behind a client that reads slowly. 2. A
subscriber more than 1,024 events behind is dropped without a word: its stream just ends. A client on a slow
line is no reason to lose the answer, and deltas are small.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from a2a.server.agent_execution import active_task
from a2a.types import Task, TaskArtifactUpdateEvent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from a2a.server.events import Event

__all__ = ["install", "unhurried"]


class _LeanConsumer(active_task.EventConsumer):
    """Queues the task with status updates, and without it with pieces of an artifact."""

    async def _enqueue_to_subscribers(self, event: Event, updated_task: Task | None) -> None:
        without_task = isinstance(event, TaskArtifactUpdateEvent)
        await super()._enqueue_to_subscribers(event, None if without_task else updated_task)


def install() -> None:
    """Let the SDK use the lean consumer: it names the class in one place and takes no other."""
    active_task.EventConsumer = _LeanConsumer  # type: ignore[misc]  # the one patch of the SDK's own names


async def unhurried(events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """The same events, taken from the SDK as they come, however slowly they are asked for."""
    waiting: asyncio.Queue[Event | BaseException] = asyncio.Queue()

    async def take() -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    waiting.put_nowait(event)
        except Exception as error:  # noqa: BLE001 (raised again below, where the events are asked for)
            waiting.put_nowait(error)
        else:
            waiting.put_nowait(StopAsyncIteration())

    taking = asyncio.create_task(take())
    try:
        while not isinstance(event := await waiting.get(), BaseException):
            yield event
        if not isinstance(event, StopAsyncIteration):
            raise event
    finally:
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
