"""Tasks in bounded memory: finished ones are dropped, oldest first, running ones never."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from a2a.server.tasks import InMemoryTaskStore, TaskStore
from a2a.types import ListTasksRequest, ListTasksResponse, Part, Task, TaskState

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


class BoundedTaskStore(TaskStore):
    """The SDK's in-memory store with a limit on finished tasks, by number and by bytes.

    Two things differ from the SDK's own copying store, both for the sake of long streamed answers. Each
    delta is one `save`, so a save keeps the reference and only reads copy. And a delta is appended to the
    artifact as a part of its own, so that every later copy is of all parts so far: neighbouring text parts
    are joined here, in the object that the SDK goes on working with. Clients get one text part instead of
    thousands.
    """

    def __init__(self, max_finished: int = 512, max_bytes: int = 24 << 20) -> None:
        self._tasks = InMemoryTaskStore(use_copying=False)
        self._finished: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0
        self._max_finished = max_finished
        self._max_bytes = max_bytes

    async def save(self, task: Task, context: ServerCallContext) -> None:
        """Keep `task`; if it is finished, drop the oldest finished ones over the limit (never this one)."""
        _join_text_parts(task)
        await self._tasks.save(task, context)
        if task.status.state not in TERMINAL_STATES:
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


def _join_text_parts(task: Task) -> None:
    for artifact in task.artifacts:
        parts = artifact.parts
        for index in range(len(parts) - 1, 0, -1):
            if not (_plain_text(parts[index]) and _plain_text(parts[index - 1])):
                break
            parts[index - 1].text += parts[index].text
            del parts[index]


def _plain_text(part: Part) -> bool:
    return (
        part.HasField("text") and not part.HasField("metadata") and not part.filename and not part.media_type
    )
