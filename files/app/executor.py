"""The A2A side of codex: each message becomes a task that streams what the agent says and ends with its
outcome.

The answer is the task's artifact `answer`; it grows by appended chunks and stands in one piece at the end. A
failed task says why in its status message. Turns, steering and the child are elsewhere: `conversation`,
`turns`, `codex`.
"""

from __future__ import annotations

import asyncio
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import structlog
from a2a.server.agent_execution import AgentExecutor
from a2a.server.tasks import TaskUpdater
from a2a.types import Part, Task, TaskState, TaskStatus

from attachments import is_empty
from conversation import Conversation, Limits
from failures import FailureKind, TurnFailure
from reply import Canceled, Chunk, Completed, Failed, Working
from runtime_hooks import queue_changed, tool_active, without_secrets
from turns import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from a2a.server.agent_execution import RequestContext
    from a2a.server.events import EventQueue
    from a2a.types import Message as A2AMessage

    from attachments import Attachments
    from codex import Codex
    from tool_calls import ToolCall

__all__ = ["CodexExecutor"]

log = structlog.get_logger(__name__)

_SHARED: Final = "shared"
_ARTIFACT: Final = "answer"
# The SDK drops a stream that is 1024 events behind and copies the whole task for each event, so deltas that
# follow each other faster than this many seconds join. The first one never waits.
_PACE: Final = 0.02
_LABEL: Final = 80
_TRACE: Final = "tool_trace"
_USAGE: Final = "usage"
_TRACED_INPUT: Final = 500
_EMPTY_MESSAGE: Final = "The message was empty: send a text or a file."
_NO_WORDS: Final = "The agent finished without saying anything."


@dataclass(frozen=True, slots=True)
class _Running:
    conversation: Conversation
    message: Message
    told: asyncio.Event = field(default_factory=asyncio.Event)


class CodexExecutor(AgentExecutor):
    """Runs messages on codex, in one conversation for all, or one for each A2A context.

    `preamble` is asked once per message for text that goes before it, such as results of delegated tasks.
    `on_turn` is told the first words of each message when it is taken up, and "" when it has ended. `redact`
    takes secrets out of what goes out beside the answer. While `closed` gives a reason, messages end with it
    at once.
    """

    def __init__(
        self,
        codex: Codex,
        attachments: Attachments,
        *,
        limits: Limits | None = None,
        threads: Literal["shared", "per_context"] = "shared",
        preamble: Callable[[], str] = lambda: "",
        on_turn: Callable[[str], None] = lambda _about: None,
        redact: Callable[[str], str] = without_secrets,
        closed: Callable[[], str] = lambda: "",
    ) -> None:
        self._codex = codex
        self._attachments = attachments
        self._limits = limits or Limits()
        self._per_context = threads == "per_context"
        self._preamble = preamble
        self._on_turn = on_turn
        self._redact = redact
        self._closed = closed
        self._conversations: dict[str, Conversation] = {}
        self._running: dict[str, _Running] = {}

    @property
    def problem(self) -> str:
        """Why no message can be worked on now; "" when one can."""
        return self._codex.problem

    @property
    def codex_pid(self) -> int | None:
        """The child's process id; None without one."""
        return self._codex.pid

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Answer one message. Its task ends as completed, failed, canceled or (when empty) rejected."""
        task_id, context_id = context.task_id or "", context.context_id or ""
        updater = TaskUpdater(event_queue, task_id, context_id)
        if context.current_task is None:
            task = Task(
                id=task_id, context_id=context_id, status=TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
            )
            task.status.timestamp.GetCurrentTime()
            if context.message is not None:
                task.history.append(context.message)
            await event_queue.enqueue_event(task)
        if is_empty(context.message):
            await updater.reject(updater.new_agent_message([Part(text=_EMPTY_MESSAGE)]))
            return
        if reason := self._closed():
            # Before its input is prepared: results of delegated tasks would be taken, and lost.
            await updater.failed(_failure(updater, TurnFailure(FailureKind.BUDGET, reason), self._redact))
            return
        conversation = self._conversation(context_id)
        message = Message(task_id, self._input(context))
        running = self._running[task_id] = _Running(conversation, message)
        conversation.submit(message)
        self._count()
        self._on_turn(_about(context.message))
        try:
            await _Stream(updater, message, self._redact).run()
        finally:
            # Cancelled from outside, the message must not begin a turn that nobody reads.
            conversation.withdraw(message)
            self._running.pop(task_id, None)
            running.told.set()
            self._count()
            self._on_turn("")

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Take one message back, interrupting the turn that works for it; its task ends as canceled."""
        task_id = context.task_id or ""
        if (found := self._running.get(task_id)) is not None:
            await found.conversation.cancel(found.message)
            # The task's end is written by `execute`. The SDK closes the streams when either returns, so that
            # the end must be written before this does.
            await found.told.wait()
        else:
            await TaskUpdater(event_queue, task_id, context.context_id or "").cancel()

    def budget_closed(self) -> None:
        """A cap was reached: no turn waits for its next event to hear of it."""
        for conversation in self._conversations.values():
            conversation.wake()

    async def close(self) -> None:
        """Interrupt what runs and end the child."""
        for conversation in list(self._conversations.values()):
            await conversation.close()
        await self._codex.close()

    async def _input(self, context: RequestContext) -> list[dict[str, Any]]:
        return await self._attachments.input(context.message, preamble=self._preamble())

    def _conversation(self, context_id: str) -> Conversation:
        key = f"context:{context_id}" if self._per_context else _SHARED
        if self._per_context:
            for idle in [
                other for other, known in self._conversations.items() if known.idle and other != key
            ]:
                del self._conversations[idle]
        if key not in self._conversations:
            self._conversations[key] = Conversation(
                key, self._codex, self._limits, on_tool=_tool, closed=self._closed
            )
        return self._conversations[key]

    def _count(self) -> None:
        queue_changed(sum(conversation.waiting for conversation in self._conversations.values()))


@dataclass(slots=True)
class _Stream:
    """Carries the reply to one message into the events of one task, and what was done for it."""

    updater: TaskUpdater
    message: Message
    redact: Callable[[str], str]
    _parts: list[str] = field(default_factory=list)

    async def run(self) -> None:
        async for update in self.message.reply.updates():
            match update:
                case Working():
                    await self.updater.start_work()
                case Chunk(text, append):
                    await self._send(text, append=append)
                    await self.message.reply.pause(_PACE)
                case Completed(text):
                    await self._complete(text)
                case Failed(failure):
                    words = _failure(self.updater, failure, self.redact)
                    await self._end(TaskState.TASK_STATE_FAILED, words)
                case Canceled():
                    await self._end(TaskState.TASK_STATE_CANCELED)

    async def _send(self, text: str, *, append: bool, last: bool = False) -> None:
        append = append and bool(self._parts)
        if not append:
            self._parts.clear()
        self._parts.append(text)
        await self.updater.add_artifact(
            [Part(text=text)], artifact_id=_ARTIFACT, name=_ARTIFACT, append=append, last_chunk=last
        )

    async def _complete(self, text: str) -> None:
        """Leave the artifact in one piece: its first part is the whole answer for whoever reads it later."""
        if self._parts != [text] and (text or self._parts):
            await self._send(text, append=False, last=True)
        message = None if text else self.updater.new_agent_message([Part(text=_NO_WORDS)])
        await self._end(TaskState.TASK_STATE_COMPLETED, message)

    async def _end(self, state: TaskState, message: A2AMessage | None = None) -> None:
        """The task's metadata is where the platform looks for the tools that were used, and for the usage."""
        metadata: dict[str, Any] = {}
        if trace := [self._traced(call) for call in self.message.tools]:
            metadata[_TRACE] = trace
        if (spent := self.message.spent) is not None:
            metadata[_USAGE] = spent.as_metadata()
        await self.updater.update_status(state, message, metadata=metadata or None)

    def _traced(self, call: ToolCall) -> dict[str, str]:
        given = self.redact(call.input)[:_TRACED_INPUT]
        return {"tool": call.name, "input": given} if given else {"tool": call.name}


def _failure(updater: TaskUpdater, failure: TurnFailure, redact: Callable[[str], str]) -> A2AMessage:
    text = redact(failure.text)
    return updater.new_agent_message([Part(text=text)], metadata={"reason": failure.kind.value})


def _about(message: A2AMessage | None) -> str:
    """The first line of `message`, short enough for a label; never ""."""
    texts = (part.text for part in message.parts) if message is not None else ()
    line = next((line.strip() for text in texts for line in text.splitlines() if line.strip()), "")
    return textwrap.shorten(line, _LABEL, placeholder="...") if line else "a message without text"


def _tool(item: dict[str, Any], done: bool) -> None:
    tool_active()
    if done:
        log.info("tool.completed", type=item.get("type"), status=item.get("status"))
