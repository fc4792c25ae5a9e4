"""Tasks in bounded memory: finished ones are dropped, oldest first, running ones never."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING

from a2a.server.tasks import InMemoryTaskStore, TaskStore
from a2a.types import Artifact, ListTasksRequest, ListTasksResponse, Part, Task, TaskState

if TYPE_CHECKING:
    from a2a.server.context import ServerCallContext

__all__ = ["TERMINAL_STATES", "BoundedTaskStore"]

TERMINAL_STATES = frozenset(
    {
        TaskState.TASK_STATE_COMPLETED,
        TaskState.TASK_STATE_CANCELED,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_REJECTED,
    }
)


_MANY_PARTS = 256


class BoundedTaskStore(TaskStore):
    """The SDK's in-memory store with a limit on finished tasks, by number and by bytes.

    Two more things differ from the SDK's own copying store, for the sake of long streamed answers. Each
    delta is one `save`, so a save keeps the reference and only reads copy. And the SDK appends each delta
    to the artifact as a part of its own: neighbouring texts are joined here, in the object that the SDK
    goes on working with, so that clients find one text in a finished task instead of thousands of pieces.
    """

    def __init__(self, max_finished: int = 512, max_bytes: int = 24 << 20) -> None:
        self._tasks = InMemoryTaskStore(use_copying=False)
        self._finished: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0
        self._max_finished = max_finished
        self._max_bytes = max_bytes

    async def save(self, task: Task, context: ServerCallContext) -> None:
        """Keep `task`; if it is finished, drop the oldest finished ones over the limit (never this one)."""
        finished = task.status.state in TERMINAL_STATES
        for artifact in task.artifacts:
            if len(artifact.parts) > (1 if finished else _MANY_PARTS):
                _join_text_parts(artifact)
        await self._tasks.save(task, context)
        if not finished:
            return
        size = task.ByteSize()
        self._bytes += size - self._finished.pop(task.id, 0)
        self._finished[task.id] = size
        while len(self._finished) > 1 and (
            len(self._finished) > self._max_finished or self._bytes > self._max_bytes
        ):
            oldest, freed = self._finished.popitem(last=False)
            self._bytes -= freed
            await self._tasks.delete(oldest, context)

    async def get(self, task_id: str, context: ServerCallContext) -> Task | None:
        """A copy of the task; None if it is unknown or was dropped."""
        task = await self._tasks.get(task_id, context)
        if task is None:
            return None
        copy = Task()
        copy.CopyFrom(task)
        return copy

    async def list(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        """One page of tasks, newest first, as copies."""
        page = await self._tasks.list(params, context)
        copy = ListTasksResponse()
        copy.CopyFrom(page)
        return copy

    async def delete(self, task_id: str, context: ServerCallContext) -> None:
        """Forget the task."""
        self._bytes -= self._finished.pop(task_id, 0)
        await self._tasks.delete(task_id, context)


def _join_text_parts(artifact: Artifact) -> None:
    joined: list[Part] = []
    for plain, group in itertools.groupby(artifact.parts, _plain_text):
        run = list(group)
        joined += [Part(text="".join(part.text for part in run))] if plain else run
    del artifact.parts[:]
    artifact.parts.extend(joined)


def _plain_text(part: Part) -> bool:
    return (
        part.HasField("text") and not part.HasField("metadata") and not part.filename and not part.media_type
    )
