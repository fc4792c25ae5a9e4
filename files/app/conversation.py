"""One codex thread and the messages for it: turns in order of arrival, steering, cancelling, time-outs.

`Conversation` drives turns; what happens inside one is the business of `turns.Turn`, and what happens to the
process is that of `codex.Codex`. In steer mode at most one message at a time is on its way into the running
turn, so that each gets an answer of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import structlog

from app_server import AppServerError, ChildLostError, InvalidConfigError, RpcError
from codex import LoginError, MismatchError
from failures import FailureKind
from turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from codex import Codex, LoadedThread
    from turns import InputItem, Message

__all__ = ["Conversation", "Limits"]

log = structlog.get_logger(__name__)

_START_TIMEOUT: Final = 60.0
_STEER_TIMEOUT: Final = 5.0
_INTERRUPT_TIMEOUT: Final = 10.0
_CLOSE_TIMEOUT: Final = 2.0
# How long `turn/completed` may stay away after the error that ends a turn. It never comes for an empty input.
_ERROR_GRACE: Final = 2.0
_ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a turn may be silent and how long it may work for one message (s); how messages queue."""

    inactivity: float = 300.0
    total: float = 3600.0
    mid_turn: Literal["steer", "queue"] = "steer"


class Conversation:
    """The messages of one thread, answered in order. `submit` and `cancel` never wait."""

    def __init__(
        self,
        key: str,
        codex: Codex,
        limits: Limits,
        *,
        on_tool: Callable[[dict[str, Any], bool], None] = lambda _item, _done: None,
        closed: Callable[[], str] = lambda: "",
    ) -> None:
        self._key = key
        self._codex = codex
        self._limits = limits
        self._on_tool = on_tool
        self._closed = closed
        self._queue: deque[Message] = deque()
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._turn: Turn | None = None
        self._interrupt_wanted = False
        self._steerable = True

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        return self._worker is None

    @property
    def waiting(self) -> int:
        """How many messages wait for their turn."""
        return sum(not message.done for message in self._queue)

    def submit(self, message: Message) -> None:
        """Take a message; its reply says what becomes of it."""
        self._queue.append(message)
        message.input.add_done_callback(lambda _task: self._changed.set())
        self._changed.set()
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name=f"conversation {self._key}")

    def wake(self) -> None:
        """Look again at what is outside of it, such as the budget."""
        self._changed.set()

    def withdraw(self, message: Message) -> None:
        """Take a message back. The turn that works for it is interrupted, others in it are sent again."""
        turn = self._turn
        owned = turn is not None and turn.owner is message
        message.cancel()
        if owned:
            self._interrupt_wanted = True
        self._changed.set()

    async def cancel(self, message: Message) -> None:
        """Take a message back, and wait (for a limited time) until nothing works for it any more."""
        turn = self._turn
        self.withdraw(message)
        if turn is not None and self._interrupt_wanted:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_INTERRUPT_TIMEOUT):
                    await turn.over.wait()

    async def close(self) -> None:
        """Take everything back, interrupt the running turn and end."""
        worker = self._worker
        if worker is None:
            return
        for message in (*self._queue, *((*self._turn.open, *self._turn.steered) if self._turn else ())):
            self.withdraw(message)
        await asyncio.wait([worker], timeout=_CLOSE_TIMEOUT)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        for message in self._queue:
            message.cancel()

    # -- the worker ----------------------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            while self._queue:
                message = self._queue.popleft()
                if not message.done:
                    await self._answer(message)
        finally:
            self._worker = None

    async def _answer(self, message: Message) -> None:
        """Run one turn that `message` begins; whatever goes wrong ends messages, never the worker."""
        if reason := self._closed():
            message.fail(FailureKind.BUDGET, reason)
            return
        try:
            items = await self._input(message)
            if items is not None:
                await self._run(message, items)
        except (InvalidConfigError, LoginError, MismatchError) as error:
            message.fail(FailureKind.CONFIGURATION, str(error))
        except (AppServerError, TimeoutError) as error:
            message.fail(FailureKind.CHILD_LOST, str(error))
        except asyncio.CancelledError:
            message.cancel()
            raise
        except Exception as error:
            log.exception("conversation.failed", key=self._key)
            message.fail(FailureKind.OTHER, type(error).__name__)

    async def _input(self, message: Message) -> list[InputItem] | None:
        """The prepared input; None where the message ended instead."""
        await asyncio.wait([message.input])
        if message.done or message.input.cancelled():
            message.cancel()
            return None
        if error := message.input.exception():
            log.warning("conversation.bad_input", message=message.id, error=str(error))
            message.fail(FailureKind.INPUT, str(error))
            return None
        return message.input.result()

    async def _run(self, message: Message, items: list[InputItem]) -> None:
        thread = await self._codex.thread(self._key)
        if message.done:
            return
        turn = Turn(message, changed=self._changed.set, on_tool=self._on_tool)
        self._turn, self._interrupt_wanted, self._steerable = turn, False, True
        thread.attach(turn.handle, turn.lose, turn.count)
        interrupted = False
        try:
            if await self._start(thread, turn, message, items):
                interrupted = await self._drive(thread, turn)
        finally:
            thread.detach()
            self._turn = None
            turn.over.set()
            self._queue.extendleft(reversed(turn.end(interrupted_by_us=interrupted)))
            self._interrupt_wanted = False

    async def _start(
        self, thread: LoadedThread, turn: Turn, message: Message, items: list[InputItem]
    ) -> bool:
        """Send `turn/start`. False where no turn came of it, and the message's fate is decided."""
        message.attempts += 1
        try:
            result = await thread.request("turn/start", {"input": items}, timeout=_START_TIMEOUT)
        except RpcError as error:
            message.fail(FailureKind.INPUT if _too_large(error) else FailureKind.OTHER, error.message)
            return False
        except TimeoutError as error:
            message.fail(FailureKind.TIMEOUT, str(error))
            await self._codex.give_up(thread, obeys=False)
            return False
        except ChildLostError as error:
            self._lost_before_it_began(turn, message, error)
            return False
        turn.identify(str(result["turn"]["id"]))
        return True

    def _lost_before_it_began(self, turn: Turn, message: Message, error: ChildLostError) -> None:
        """codex died with the message unread: sending it again does nothing twice, but not for ever."""
        if turn.taken or message.attempts >= _ATTEMPTS:
            message.fail(FailureKind.CHILD_LOST, str(error))
        else:
            turn.open.clear()
            turn.steered.appendleft(message)

    async def _drive(self, thread: LoadedThread, turn: Turn) -> bool:
        """See the turn to its end. Returns whether it ended because we interrupted it."""
        interrupted = told = False
        while turn.status is None:
            if turn.lost is not None:
                if turn.owner and not turn.taken:
                    self._lost_before_it_began(turn, turn.owner, turn.lost)
                return False
            if turn.started and not told:
                told = True
                thread.ran()
            if turn.spends and (reason := self._closed()):
                turn.stop(reason)
            if turn.started and not interrupted and (self._interrupt_wanted or self._nobody_waits(turn)):
                interrupted = True
                if not await self._interrupt(thread, turn):
                    await self._codex.give_up(thread, obeys=False)
                    turn.status = "interrupted"
                continue
            if (overdue := self._overdue(turn)) is not None:
                await self._give_up(thread, turn, overdue)
                return True
            if not await self._steer(thread, turn):
                await self._wait(turn)
        return interrupted

    def _nobody_waits(self, turn: Turn) -> bool:
        return turn.owner is None and not any(not message.done for message in turn.steered)

    # -- time ----------------------------------------------------------------------------------------------

    async def _wait(self, turn: Turn) -> None:
        """Wait for the next event, at most until something is overdue."""
        deadline = min(turn.last_sign + self._limits.inactivity, turn.owned_since + self._limits.total)
        if turn.error_at is not None:
            deadline = min(deadline, turn.error_at + _ERROR_GRACE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._changed.wait()
        self._changed.clear()

    def _overdue(self, turn: Turn) -> str | None:
        """Why the turn has to end now, or None. A turn that failed without ending is marked as failed."""
        now = asyncio.get_running_loop().time()
        if turn.error_at is not None and now >= turn.error_at + _ERROR_GRACE:
            turn.status = "failed"
            return None
        if now >= turn.last_sign + self._limits.inactivity:
            return f"codex gave no sign of life for {self._limits.inactivity:g} s"
        if now >= turn.owned_since + self._limits.total:
            return f"it was not finished after {self._limits.total:g} s"
        return None

    async def _give_up(self, thread: LoadedThread, turn: Turn, reason: str) -> None:
        log.error("turn.timeout", key=self._key, turn=turn.id, reason=reason)
        for message in turn.open:
            message.fail(FailureKind.TIMEOUT, reason)
        obeys = turn.started and await self._interrupt(thread, turn)
        await self._codex.give_up(thread, obeys=obeys)
        turn.status = "interrupted"

    async def _interrupt(self, thread: LoadedThread, turn: Turn) -> bool:
        """Interrupt a turn that has started, and wait for its end. False where it does not end."""
        log.info("turn.interrupt", key=self._key, turn=turn.id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_INTERRUPT_TIMEOUT):
                try:
                    await thread.request("turn/interrupt", {"turnId": turn.id}, timeout=_INTERRUPT_TIMEOUT)
                except RpcError as error:
                    # The turn came to its end in the meantime, and its last notification is on the way.
                    log.info("turn.interrupt_refused", turn=turn.id, error=error.message)
                except ChildLostError:
                    return False
                while turn.status is None and turn.lost is None:
                    await self._changed.wait()
                    self._changed.clear()
        return turn.status is not None

    # -- steering ------------------------------------------------------------------------------------------

    async def _steer(self, thread: LoadedThread, turn: Turn) -> bool:
        """Send the next message into the running turn, if it can be. Returns whether one was tried."""
        while self._queue and self._queue[0].done:
            self._queue.popleft()
        if (
            self._limits.mid_turn != "steer"
            or not (self._steerable and turn.started)
            or turn.steered
            or turn.error_at is not None
            or not self._queue
            or not self._queue[0].input.done()
            or self._closed()
        ):
            return False
        message = self._queue.popleft()
        items = await self._input(message)
        if items is None:
            return True
        turn.steered.append(message)
        try:
            await thread.request(
                "turn/steer", {"input": items, "expectedTurnId": turn.id}, timeout=_STEER_TIMEOUT
            )
        except RpcError as error:
            log.info("turn.not_steerable", turn=turn.id, error=error.message)
            self._steerable = False
            if message in turn.steered:
                turn.steered.remove(message)
                self._queue.appendleft(message)
        except (TimeoutError, ChildLostError) as error:
            # It may have arrived. If the turn never takes it up, it is sent again after the turn's end.
            log.warning("turn.steer_unanswered", turn=turn.id, error=str(error))
            self._steerable = False
        return True


def _too_large(error: RpcError) -> bool:
    return isinstance(error.data, dict) and error.data.get("input_error_code") == "input_too_large"
