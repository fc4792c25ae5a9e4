"""Liveness: what the platform is told every 30 s, and at once when a turn starts or ends."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from molecule_runtime import logs, spending, wedge
from molecule_runtime.executor_helpers import sanitize_agent_error
from molecule_runtime.metrics import METRICS
from molecule_runtime.platform import PlatformError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from molecule_runtime.adapters.base import BaseAdapter
    from molecule_runtime.platform import PlatformClient

__all__ = ["Heartbeat"]

_log = logs.get_logger(__name__)

_RESET_AFTER = 10


class Heartbeat:
    """Counts turns exactly and reports them through `client`.

    `current_task` is what the oldest open turn is about, unless an executor has set it to something else.
    Counters only ever go up and down by one per turn: set to 0 or 1 they would leave a workspace busy for
    ever.
    """

    def __init__(
        self,
        client: PlatformClient,
        *,
        interval: float = 30.0,
        card: Callable[[], dict[str, Any]] | None = None,
        after_beat: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.current_task = ""
        self.active_tasks = 0
        self.adapter: BaseAdapter | None = None
        self.client = client
        self._interval = interval
        self._card = card
        self._after_beat = after_beat
        self._open: list[str] = []
        self._finished = 0
        self._failed = 0
        self._sample_error = ""
        self._started = time.monotonic()
        self._edge = asyncio.Event()
        self._failures_in_a_row = 0
        self._after: asyncio.Task[None] | None = None

    def turn_started(self, about: str = "") -> None:
        """One more turn is open, `about` something; the platform hears of it now."""
        self.active_tasks += 1
        self._open.append(about)
        self.current_task = self.current_task or about
        self._edge.set()

    def turn_ended(self, error: str | None = None, about: str = "") -> None:
        """One turn less, the one `about` something, and whether it failed; the platform hears of it now."""
        self.active_tasks -= 1
        if about in self._open:
            self._open.remove(about)
        if self.current_task == about:
            self.current_task = next(iter(self._open), "")
        self._finished += 1
        if error is None:
            self._sample_error = ""
        else:
            self._failed += 1
            self._sample_error = sanitize_agent_error(error)
        if self.active_tasks == 0:
            self.current_task = ""
        self._edge.set()

    def body(self) -> dict[str, Any]:
        """The next beat. `error_rate` covers the turns since the last regular beat that was accepted."""
        beat: dict[str, Any] = {
            "workspace_id": self.client.workspace_id,
            "error_rate": self._failed / self._finished if self._finished else 0.0,
            "sample_error": wedge.wedge_reason() or self._sample_error,
            "active_tasks": self.active_tasks,
            "current_task": self.current_task,
            "uptime_seconds": int(time.monotonic() - self._started),
            "is_busy": self.active_tasks > 0,
            "runtime_state": "wedged" if wedge.is_wedged() else "",
        }
        # 0 would be taken for "nothing new", and a lower value than before for the next month.
        if cents := spending.monthly_cents():
            beat["monthly_spend"] = cents
        if self._card is not None:
            beat["agent_card"] = self._card()
        if self.adapter is not None:
            metadata: dict[str, Any] = {"capabilities": self.adapter.capabilities().to_wire()}
            idle = self.adapter.idle_timeout_override()
            if idle is not None and idle > 0:
                metadata["idle_timeout_seconds"] = idle
            beat["runtime_metadata"] = metadata
        return beat

    async def run(self) -> None:
        """Beat until cancelled. Whatever goes wrong in one beat, the next one comes."""
        due = time.monotonic()
        while True:
            regular = time.monotonic() >= due
            self._edge.clear()
            await self._beat_once(regular=regular)
            if regular:
                due = time.monotonic() + self._interval
            try:
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await self._edge.wait()
            except TimeoutError:
                pass

    async def _beat_once(self, *, regular: bool) -> None:
        try:
            if regular:
                # An outage may outlast the boot, and a platform may lose its rows: without a registration it
                # has no address of this workspace, however often it hears that it lives.
                await self.client.register_again()
            await self.client.heartbeat(self.body())
        except PlatformError as error:
            self._failures_in_a_row += 1
            METRICS.heartbeats.labels("failed").inc()
            if self._failures_in_a_row == 1:
                _log.warning("heartbeat not accepted", status=error.status, kind=type(error).__name__)
            if self._failures_in_a_row % _RESET_AFTER == 0:
                await self.client.reset()
            return
        except Exception:  # noqa: BLE001 (a beat that fails must not end the heart)
            METRICS.heartbeats.labels("failed").inc()
            _log.exception("heartbeat failed")
            return
        if self._failures_in_a_row:
            _log.info("heartbeat accepted again", after_failures=self._failures_in_a_row)
        self._failures_in_a_row = 0
        METRICS.heartbeats.labels("sent").inc()
        if not regular:
            return
        self._finished = self._failed = 0
        if self._after_beat is not None:
            self._start_after_beat(self._after_beat)

    def _start_after_beat(self, after_beat: Callable[[], Awaitable[None]]) -> None:
        """Beside the beats, so that a slow answer delays none of them; never twice at once."""
        if self._after is None or self._after.done():
            self._after = asyncio.create_task(_logged(after_beat))


async def _logged(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except PlatformError as error:
        _log.debug("after heartbeat", status=error.status)
    except Exception:  # noqa: BLE001 (the next beat tries again)
        _log.exception("after heartbeat")
