"""One turn of the agent as its notifications tell it: no input or output here, only what happened to whom.

A turn works for one message, and in steer mode for those that come while it runs. Each has its own answer:
what the agent says after taking it up. When the agent takes up a steered message after it has finished what
it had to say, the earlier messages are answered and end there; when it is in the middle of its tools, they
stay open and share the rest. A turn belongs to the oldest message that it still works for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from answer import Answer
from failures import FailureKind, TurnFailure, turn_failure
from reply import Canceled, Completed, Failed, Outcome, Reply
from tool_calls import tool_call

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from app_server import ChildLostError
    from tool_calls import ToolCall
    from usage import Spent

__all__ = ["InputItem", "Message", "Turn"]

InputItem = dict[str, Any]
"""One item of a turn's input, such as `{"type": "text", "text": "..."}`."""

_COMMENTARY = "commentary"
_TRACED = 100


class Message:
    """One message of a user on its way: its input, which may still be downloading, and its reply.

    `tools` are the tools that were used for it, the last hundred, in order.
    """

    def __init__(self, message_id: str, prepare: Coroutine[Any, Any, list[InputItem]]) -> None:
        self.id = message_id
        self.reply = Reply()
        self.input: asyncio.Task[list[InputItem]] = asyncio.create_task(prepare, name=f"prepare {message_id}")
        self.attempts = 0
        self.answer = Answer()
        self.spent: Spent | None = None
        self.tools: deque[ToolCall] = deque(maxlen=_TRACED)

    @property
    def done(self) -> bool:
        """Whether it has its outcome."""
        return self.reply.outcome is not None

    def finish(self, outcome: Outcome) -> None:
        """End it; only the first outcome counts."""
        self.reply.finish(outcome)
        self.input.cancel()

    def fail(self, kind: FailureKind, detail: str = "") -> None:
        """End it as failed."""
        self.finish(Failed(TurnFailure(kind, detail)))

    def cancel(self) -> None:
        """End it as taken back."""
        self.finish(Canceled())

    def restart(self) -> None:
        """Forget what was said to it: it is going to be sent again."""
        self.answer = Answer()
        self.tools.clear()
        self.reply.replace("")


class Turn:
    """The state of one turn. `handle` takes the notifications of its thread; `changed` is called after each.

    `status` is None while it runs, then `completed`, `failed` or `interrupted`; `last_sign` is the loop's
    time of the last notification and `owned_since` the time since which the present owner has been worked for
    (s).
    """

    def __init__(
        self, first: Message, *, changed: Callable[[], None], on_tool: Callable[[dict[str, Any], bool], None]
    ) -> None:
        self.id: str | None = None
        self.started = False
        self.status: str | None = None
        self.error: dict[str, Any] | None = None
        self.error_at: float | None = None
        self.lost: ChildLostError | None = None
        self.over = asyncio.Event()
        self.steered: deque[Message] = deque()
        self.open: list[Message] = [first]
        self._first_taken = False
        self._finished_speaking = False
        self._changed = changed
        self._on_tool = on_tool
        self._handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "turn/started": self._turn_started,
            "turn/completed": self._turn_completed,
            "item/started": self._item_started,
            "item/completed": self._item_completed,
            "item/agentMessage/delta": self._delta,
            "item/commandExecution/terminalInteraction": self._active,
            "turn/plan/updated": self._active,
            "error": self._error,
        }
        self._early: list[tuple[str, dict[str, Any]]] = []
        self._loop = asyncio.get_running_loop()
        self.last_sign = self.owned_since = self._loop.time()

    @property
    def owner(self) -> Message | None:
        """The oldest message that it still works for; None if nobody waits for it any more."""
        return next((message for message in self.open if not message.done), None)

    @property
    def taken(self) -> bool:
        """Whether codex has taken up its first message, so that sending that again might do things twice."""
        return self.started or self._first_taken

    @property
    def spends(self) -> bool:
        """Whether it may still spend something. With its last words said, only its end is to come."""
        return not self._finished_speaking or bool(self.steered)

    def count(self, spent: Spent) -> None:
        """So much was spent for whom it works for now."""
        if (owner := self.owner) is not None:
            owner.spent = spent if owner.spent is None else owner.spent + spent
        self._changed()

    def stop(self, reason: str) -> None:
        """The budget is used up. An answer that stands is given out; all others end with `reason`."""
        for message in self._listeners():
            if self._finished_speaking:
                message.finish(Completed(message.answer.final))
            else:
                message.fail(FailureKind.BUDGET, reason)
        for message in self.steered:
            message.fail(FailureKind.BUDGET, reason)

    def identify(self, turn_id: str) -> None:
        """Say which turn this is, once `turn/start` is answered. What came before that is handled now."""
        self.id = turn_id
        early, self._early = self._early, []
        for method, params in early:
            self.handle(method, params)

    def lose(self, error: ChildLostError) -> None:
        """The child is gone."""
        self.lost = error
        self._changed()

    def handle(self, method: str, params: dict[str, Any]) -> None:
        """Take one notification of this thread, or of none. Other turns are signs of life at most."""
        self.last_sign = self._loop.time()
        if self.id is None:
            self._early.append((method, params))
            return
        turn = params.get("turn") or {}
        if self.id != (turn.get("id") or params.get("turnId")):
            return
        handler = self._handlers.get(method)
        if handler is not None:
            handler(params)
        self._changed()

    def end(self, *, interrupted_by_us: bool) -> list[Message]:
        """Give out the outcomes. Returns the messages that are to be sent again, in order."""
        waiting = [message for message in self.open if not message.done]
        if interrupted_by_us and self.status == "interrupted":
            again = waiting
        else:
            again = []
            for message in waiting:
                message.finish(self._outcome(message))
        again += [message for message in self.steered if not message.done]
        for message in again:
            message.restart()
        return again

    # -- items ---------------------------------------------------------------------------------------------

    def _turn_started(self, _params: dict[str, Any]) -> None:
        self.started = True
        self.open[0].reply.work()

    def _turn_completed(self, params: dict[str, Any]) -> None:
        status = str(params["turn"].get("status") or "completed")
        # A turn that fails says so in an `error` of its own. One that never began (an empty input) leaves its
        # error behind, and codex 0.130.0 reports it once more with the next turn, however well that one went.
        if status == "failed" and self.error is None and any(m.answer.final for m in self._listeners()):
            status = "completed"
        self.status = status
        self.error = params["turn"].get("error") or self.error

    def _active(self, _params: dict[str, Any]) -> None:
        """The agent has gone on after its last words, with something that is no item of its own."""
        self._finished_speaking = False

    def _item_started(self, params: dict[str, Any]) -> None:
        item = params.get("item") or {}
        kind = item.get("type")
        if kind == "userMessage":
            self._user_message(item)
        elif kind == "agentMessage":
            self._finished_speaking = False
            for message in self._listeners():
                if message.answer.start(str(item.get("id")), item.get("phase")):
                    message.reply.replace(message.answer.streamed)
        elif kind != "reasoning":
            self._finished_speaking = False
            self._on_tool(item, False)

    def _delta(self, params: dict[str, Any]) -> None:
        item_id, text = str(params.get("itemId")), str(params.get("delta", ""))
        for message in self._listeners():
            message.reply.append(message.answer.delta(item_id, text))

    def _item_completed(self, params: dict[str, Any]) -> None:
        item = params.get("item") or {}
        kind = item.get("type")
        if kind == "agentMessage":
            phase = item.get("phase")
            self._finished_speaking = phase != _COMMENTARY
            for message in self._listeners():
                grown = message.answer.complete(str(item.get("id")), str(item.get("text", "")), phase)
                if grown is None:
                    message.reply.replace(message.answer.streamed)
                else:
                    message.reply.append(grown)
        elif kind not in ("userMessage", "reasoning"):
            if (call := tool_call(item)) is not None:
                for message in self._listeners():
                    message.tools.append(call)
            self._on_tool(item, True)

    def _user_message(self, item: dict[str, Any]) -> None:
        if not self._first_taken:
            self._first_taken = True
            return
        if not self.steered or not _same_text(self.steered[0], item):
            return
        if self._finished_speaking:
            for message in self._listeners():
                message.finish(Completed(message.answer.final))
        if self.owner is None:
            self.open = []
            self.owned_since = self._loop.time()
        self._finished_speaking = False
        message = self.steered.popleft()
        self.open.append(message)
        message.reply.work()

    def _error(self, params: dict[str, Any]) -> None:
        if params.get("willRetry"):
            for message in self._listeners():
                if message.answer.drop_unfinished():
                    message.reply.replace(message.answer.streamed)
            return
        # `turn/completed` follows with the same error, except where the turn never began (an empty input).
        error = params.get("error")
        self.error = error if isinstance(error, dict) else {}
        self.error_at = self._loop.time()

    def _listeners(self) -> list[Message]:
        return [message for message in self.open if not message.done]

    def _outcome(self, message: Message) -> Outcome:
        if self.lost is not None:
            return Failed(TurnFailure(FailureKind.CHILD_LOST, str(self.lost)))
        if self.status == "completed":
            return Completed(message.answer.final)
        if self.status == "interrupted":
            return Failed(TurnFailure(FailureKind.OTHER, "the turn was interrupted"))
        return Failed(turn_failure(self.error))


def _same_text(message: Message, item: dict[str, Any]) -> bool:
    """Whether a userMessage item is `message`, and not something that codex put in by itself."""
    sent = [part.get("text") for part in message.input.result() if part.get("type") == "text"]
    content = item.get("content")
    parts = content if isinstance(content, list) else []
    return sent == [
        part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"
    ]
