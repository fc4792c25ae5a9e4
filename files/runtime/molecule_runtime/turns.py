"""Between the SDK and an adapter's executor: every message becomes a task that ends, and is counted."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from a2a.helpers import new_text_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.types import (
    Artifact,
    Message,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)

from molecule_runtime import logs
from molecule_runtime.executor_helpers import extract_message_text, sanitize_agent_error
from molecule_runtime.metrics import METRICS, Metrics
from molecule_runtime.redaction import redact
from molecule_runtime.task_store import TERMINAL_STATES

if TYPE_CHECKING:
    from a2a.server.events import Event

    from molecule_runtime.heartbeat import Heartbeat

__all__ = ["TurnExecutor"]

_log = logs.get_logger(__name__)

_ABOUT = 120
_WITHOUT_TEXT = "a message without text"
_PAUSED = frozenset({TaskState.TASK_STATE_INPUT_REQUIRED, TaskState.TASK_STATE_AUTH_REQUIRED})
_OUTCOMES = {
    TaskState.TASK_STATE_COMPLETED: "completed",
    TaskState.TASK_STATE_CANCELED: "canceled",
    TaskState.TASK_STATE_FAILED: "failed",
    TaskState.TASK_STATE_REJECTED: "rejected",
    TaskState.TASK_STATE_INPUT_REQUIRED: "input_required",
    TaskState.TASK_STATE_AUTH_REQUIRED: "auth_required",
}


@dataclass(slots=True)
class _Turn:
    task_id: str
    context_id: str
    queue: EventQueue
    message: Message | None = None
    running: asyncio.Task[None] | None = None
    started: float = field(default_factory=time.monotonic)
    announced: bool = False
    first_output: bool = False
    about: str = ""
    state: TaskState = TaskState.TASK_STATE_UNSPECIFIED
    reason: str = ""

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL_STATES

    async def announce(self) -> None:
        """A status or an artifact needs a task to belong to: 1.x refuses it otherwise."""
        if self.announced:
            return
        self.announced = True
        task = Task(id=self.task_id, context_id=self.context_id)
        task.status.state = TaskState.TASK_STATE_SUBMITTED
        task.status.timestamp.GetCurrentTime()
        if self.message is not None:
            task.history.append(self.message)
        await self.queue.enqueue_event(task)

    async def end(self, state: TaskState, text: str = "") -> None:
        """End the task once; later endings are dropped."""
        if self.ended:
            return
        await self.announce()
        status = TaskStatus(state=state)
        status.timestamp.GetCurrentTime()
        if text:
            message = new_text_message(text, context_id=self.context_id, task_id=self.task_id)
            status.message.CopyFrom(message)
            self.reason = text
        self.state = state
        await self.queue.enqueue_event(
            TaskStatusUpdateEvent(task_id=self.task_id, context_id=self.context_id, status=status)
        )


class _TurnQueue(EventQueue):
    """The queue that an executor writes to. It keeps the protocol's order whatever the executor does."""

    def __init__(self, turn: _Turn, metrics: Metrics) -> None:
        self._turn = turn
        self._metrics = metrics

    async def enqueue_event(self, event: Event) -> None:
        """Pass `event` on; a bare message becomes a finished task, and nothing follows an ending."""
        turn = self._turn
        if turn.ended:
            return
        if isinstance(event, Message):
            await self._finish_with(event)
        elif isinstance(event, Task):
            await self._pass_task(event)
        else:
            await turn.announce()
            if isinstance(event, TaskStatusUpdateEvent):
                turn.state = event.status.state
                turn.reason = _text(event.status.message)
            elif isinstance(event, TaskArtifactUpdateEvent):
                self._saw_output()
            await turn.queue.enqueue_event(event)

    async def _finish_with(self, message: Message) -> None:
        turn = self._turn
        await turn.announce()
        self._saw_output()
        artifact = Artifact(artifact_id=str(uuid.uuid4()), parts=message.parts)
        await turn.queue.enqueue_event(
            TaskArtifactUpdateEvent(
                task_id=turn.task_id, context_id=turn.context_id, artifact=artifact, last_chunk=True
            )
        )
        await turn.end(TaskState.TASK_STATE_COMPLETED)

    async def _pass_task(self, task: Task) -> None:
        turn = self._turn
        if turn.announced:
            return
        turn.announced = True
        turn.state = task.status.state
        if turn.message is not None and not task.history:
            task.history.append(turn.message)
        await turn.queue.enqueue_event(task)

    def _saw_output(self) -> None:
        if not self._turn.first_output:
            self._turn.first_output = True
            self._metrics.first_output.observe(time.monotonic() - self._turn.started)


class TurnExecutor(AgentExecutor):
    """Runs an adapter's executor and keeps what it may forget.

    A message always ends as a task: with the executor's own ending, as failed with a reason in plain words
    if it raised or ended without one, or as canceled. Counters go up and down by one, whatever happens in
    between.
    """

    def __init__(
        self, inner: AgentExecutor, heartbeat: Heartbeat | None = None, metrics: Metrics = METRICS
    ) -> None:
        self._inner = inner
        self._heartbeat = heartbeat
        self._metrics = metrics
        self._turns: dict[str, _Turn] = {}

    @property
    def active(self) -> int:
        """How many turns run or wait now."""
        return len(self._turns)

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Run one message to its end. Raises nothing but CancelledError."""
        turn = _Turn(
            task_id=context.task_id or "",
            context_id=context.context_id or "",
            queue=event_queue,
            message=context.message,
            running=asyncio.current_task(),
            announced=context.current_task is not None,
            about=_about(context.message),
        )
        self._turns[turn.task_id] = turn
        self._metrics.running.inc()
        if self._heartbeat is not None:
            self._heartbeat.turn_started(turn.about)
        try:
            await self._inner.execute(context, _TurnQueue(turn, self._metrics))
            if not turn.ended and turn.state not in _PAUSED:
                await turn.end(
                    TaskState.TASK_STATE_FAILED, "The agent ended its turn without an answer. Send it again."
                )
        except asyncio.CancelledError:
            turn.state = turn.state if turn.ended else TaskState.TASK_STATE_CANCELED
            raise
        except Exception as error:  # noqa: BLE001 (whatever an adapter raises, the task must end with its reason)
            _log.error(
                "turn failed", task=turn.task_id, error=sanitize_agent_error(error), kind=type(error).__name__
            )
            await turn.end(TaskState.TASK_STATE_FAILED, sanitize_agent_error(error))
        finally:
            self._finish(turn)

    def _finish(self, turn: _Turn) -> None:
        self._turns.pop(turn.task_id, None)
        self._metrics.running.dec()
        self._metrics.turns.labels(_OUTCOMES.get(turn.state, "failed")).inc()
        self._metrics.duration.observe(time.monotonic() - turn.started)
        if self._heartbeat is not None:
            failed = turn.state in (TaskState.TASK_STATE_FAILED, TaskState.TASK_STATE_REJECTED)
            self._heartbeat.turn_ended(turn.reason or "turn failed" if failed else None, turn.about)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Stop one task. The end is written while its streams are still open, so that they see it."""
        turn = self._turns.get(context.task_id or "")
        if turn is None:
            turn = _Turn(
                task_id=context.task_id or "",
                context_id=context.context_id or "",
                queue=event_queue,
                announced=context.current_task is not None,
            )
        try:
            await self._inner.cancel(context, _TurnQueue(turn, self._metrics))
        finally:
            await turn.end(TaskState.TASK_STATE_CANCELED)

    async def stop_all(self, reason: str) -> None:
        """End every open task as canceled with `reason`, for a workspace that is going down."""
        for turn in list(self._turns.values()):
            await turn.end(TaskState.TASK_STATE_CANCELED, reason)

    async def abandon_all(self) -> None:
        """Cancel what still runs after `stop_all`, so that its streams end too, and wait for it."""
        left = [turn.running for turn in self._turns.values() if turn.running is not None]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _text(message: Message) -> str:
    return " ".join(part.text for part in message.parts if part.text)


def _about(message: Message | None) -> str:
    """The beginning of `message`, for people who look on; never ""."""
    words = redact(" ".join(extract_message_text(message)[: 10 * _ABOUT].split()))
    return (words if len(words) <= _ABOUT else f"{words[: _ABOUT - 1]}…") or _WITHOUT_TEXT
