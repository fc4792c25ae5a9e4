"""What the workspace has spent, kept over restarts: a journal in a file, one JSON object a line.

    {"codex_workspace_usage": 1}
    {"at": 1795848840, "seconds": 60, "model": "gpt-5.5", "tokens": [10, 0, 5, 0], "nano_usd": null,
     "thread": "<id>", "total": [10, 0, 5, 0]}

`tokens` is [input, cached, output, reasoning] of the minute `at` (Unix time), `total` the sum of the thread
after it: a line is written whole or not at all, so that both belong together. Now and then the file is
written anew, with minutes of before yesterday joined to hours.

Memory counts and the file follows: a full disk costs no turn, and is told. Lines that cannot be read are told
and kept in a file beside it; the others count.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import structlog

from atomic_file import write_atomically
from budgets import Entry
from usage import NONE, Spent, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["UsageLedger"]

log = structlog.get_logger(__name__)

_HEADER: Final = {"codex_workspace_usage": 1}
_MINUTE: Final = 60
_HOUR: Final = 3600
_MINUTES_KEPT: Final = 2 * 86400
_KEPT: Final = 40 * 86400
# Forty days of hours and two of minutes are 3,840: below this nothing is forgotten, whatever the clock says.
_MOST_ROWS: Final = 8000
_MOST_THREADS: Final = 2000
_MOST_LINES: Final = 10_000
_RETRY_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class _Row:
    """A span of time and a model; money is known for all of it, or for nothing of it."""

    at: int
    seconds: int
    model: str
    priced: bool


class UsageLedger:
    """Sums by time, model and thread. `load` it once, off the event loop; `close` it at the end.

    Its time never runs backwards: while the clock is behind the newest entry, that entry's time is now. A
    clock that stays behind for an hour is believed, and what lies ahead of it counts as spent now. `clock`
    is Unix time, `uptime` never jumps (s).
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        uptime: Callable[[], float] = time.monotonic,
        retry_seconds: float = _RETRY_SECONDS,
    ) -> None:
        self._path = path
        self._clock = clock
        self._uptime = uptime
        self._retry_seconds = retry_seconds
        self._rows: dict[_Row, Spent] = {}
        self._threads: dict[str, Tokens] = {}
        self._newest = 0
        self._ahead_since: float | None = None
        self._pending: list[str] = []
        self._lines = 0
        self._rewrite = False
        self._writer: asyncio.Task[None] | None = None
        self._damage = ""
        self._unwritten = ""

    # -- what it knows -------------------------------------------------------------------------------------

    @property
    def problem(self) -> str:
        """What is wrong with the file, for people; "" while nothing is."""
        return "; ".join(filter(None, (self._damage, self._unwritten)))

    @property
    def damaged(self) -> bool:
        """Whether the file that was found could not be read as a whole."""
        return bool(self._damage)

    @property
    def written(self) -> bool:
        """Whether all that was counted is in the file, or on its way there."""
        return not self._unwritten

    def total(self, thread: str) -> Tokens | None:
        """The sum of `thread` when it was last heard of; None for one that was never seen."""
        return self._threads.get(thread)

    def now(self) -> float:
        """The ledger's time."""
        now = self._clock()
        if self._newest <= now + _HOUR:
            self._ahead_since = None
        elif self._ahead_since is None:
            self._ahead_since = self._uptime()
        elif self._uptime() >= self._ahead_since + _HOUR:
            self._believe(now)
        return max(now, float(self._newest))

    def entries(self) -> list[Entry]:
        """What was spent when, for budgets."""
        self.now()
        sums: dict[tuple[int, int], tuple[int, int]] = {}
        for row, spent in self._rows.items():
            tokens, nano = sums.get((row.at, row.seconds), (0, 0))
            sums[row.at, row.seconds] = tokens + spent.tokens.total, nano + (spent.nano_usd or 0)
        return [Entry(at, at + seconds, tokens, nano) for (at, seconds), (tokens, nano) in sums.items()]

    def month_nano_usd(self) -> int | None:
        """What this calendar month (UTC) has cost so far; None where nothing had a price."""
        start = datetime.fromtimestamp(self.now(), UTC).replace(
            day=1, hour=0, minute=0, second=0, microsecond=0
        )
        priced = [
            spent.nano_usd or 0
            for row, spent in self._rows.items()
            if row.priced and row.at >= start.timestamp()
        ]
        return sum(priced) if priced else None

    # -- counting ------------------------------------------------------------------------------------------

    def begin(self, thread: str) -> None:
        """A new thread: nothing is spent in it yet."""
        self._remember(thread, NONE)
        self._write({"thread": thread, "total": NONE.as_list()})

    def add(self, thread: str, total: Tokens, spent: Spent) -> None:
        """`spent` is new in `thread`, whose sum is `total` now."""
        self._remember(thread, total)
        line: dict[str, Any] = {"thread": thread, "total": total.as_list()}
        if spent.tokens != NONE:
            at = int(self.now()) // _MINUTE * _MINUTE
            row = _Row(at, _MINUTE, spent.model, spent.nano_usd is not None)
            self._put(row, spent)
            line = {**_as_json(row, spent), **line}
        self._write(line)

    def _put(self, row: _Row, spent: Spent) -> None:
        known = self._rows.get(row)
        self._rows[row] = spent if known is None else known + spent
        self._newest = max(self._newest, row.at)

    def _remember(self, thread: str, total: Tokens) -> None:
        self._threads.pop(thread, None)
        self._threads[thread] = total
        while len(self._threads) > _MOST_THREADS:
            del self._threads[next(iter(self._threads))]

    def _believe(self, now: float) -> None:
        """The clock was set back for good. What lies ahead of it counts as spent now: it is not forgotten."""
        at = int(now) // _MINUTE * _MINUTE
        ahead = [row for row in self._rows if row.at > at]
        log.warning("usage.clock_set_back", seconds=self._newest - at, entries=len(ahead))
        self._newest = at
        for row in ahead:
            self._put(_Row(at, _MINUTE, row.model, row.priced), self._rows.pop(row))
        self._newest = max((row.at for row in self._rows), default=0)
        self._ahead_since = None
        self._rewrite = True

    def _tidy(self) -> None:
        """Join minutes of before yesterday to hours, and forget what no window reaches any more."""
        now = self.now()
        rows, self._rows = self._rows, {}
        for row, spent in rows.items():
            old = row.seconds == _MINUTE and row.at < now - _MINUTES_KEPT
            self._put(_Row(row.at // _HOUR * _HOUR, _HOUR, row.model, row.priced) if old else row, spent)
        if len(self._rows) > _MOST_ROWS:
            self._rows = {row: spent for row, spent in self._rows.items() if row.at >= now - _KEPT}

    # -- the file ------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read the file. It blocks; a file that cannot be read is told in `problem`."""
        try:
            text = self._path.read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            log.info("usage.ledger_begun", path=str(self._path))
            self._rewrite = True
            return
        except OSError as error:
            self._set_aside(str(error.strerror))
            return
        lines = text.split("\n")
        # A process that is killed while it writes leaves half a line at the end: codex says that sum again.
        torn = lines.pop()
        bad = sum(not self._read_line(line) for line in lines[1:] if line)
        headed = bool(lines) and _parsed(lines[0]) == _HEADER
        self._lines = len(lines)
        self._rewrite = bool(torn)
        if bad or not headed:
            self._set_aside(f"{bad} unreadable lines" if headed else "its beginning is not a ledger's")
        self._tidy()

    def _read_line(self, line: str) -> bool:
        """Take a line in. False where it is not one of ours."""
        found = _parsed(line)
        if not isinstance(found, dict):
            return False
        total, tokens = _tokens(found.get("total")), _tokens(found.get("tokens"))
        thread, model, nano = found.get("thread"), found.get("model"), found.get("nano_usd")
        if isinstance(thread, str) and total is not None:
            self._remember(thread, total)
        elif tokens is None:
            return False
        if tokens is None:
            return "tokens" not in found
        at, seconds = found.get("at"), found.get("seconds")
        if not (_is_count(at) and _is_count(seconds) and isinstance(model, str)):
            return False
        if nano is not None and not _is_count(nano):
            return False
        self._put(_Row(at, seconds, model, nano is not None), Spent(tokens, model, nano))
        return True

    def _set_aside(self, what: str) -> None:
        kept = self._path.with_name(f"{self._path.name}.damaged")
        with suppress(OSError):  # it is only for a person to look at
            self._path.replace(kept)
        self._damage = (
            f"the usage ledger was damaged ({what}): what was spent there counts in no budget any more; "
            f"see {kept}"
        )
        log.error("usage.ledger_damaged", what=what, kept=str(kept), rows=len(self._rows))
        self._rewrite = True

    def _write(self, line: dict[str, Any]) -> None:
        self._pending.append(json.dumps(line, separators=(",", ":")) + "\n")
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._keep_writing(), name="usage ledger")

    async def _keep_writing(self) -> None:
        while self._pending or self._rewrite:
            if not await self._write_once():
                await asyncio.sleep(self._retry_seconds)

    async def _write_once(self) -> bool:
        """Write what there is. After a failure all of it is written anew, since nobody knows what arrived."""
        lines, self._pending = self._pending, []
        if self._lines + len(lines) > _MOST_LINES:
            self._tidy()
            self._rewrite = True
        text = self._snapshot() if self._rewrite else "".join(lines)
        try:
            if self._rewrite:
                self._rewrite = False
                await asyncio.to_thread(write_atomically, self._path, text)
                self._lines = text.count("\n")
            else:
                await asyncio.to_thread(_append, self._path, text)
                self._lines += len(lines)
        except OSError as error:
            self._rewrite = True
            if not self._unwritten:
                log.error("usage.ledger_not_written", path=str(self._path), error=str(error))  # noqa: TRY400
            self._unwritten = (
                f"the usage ledger {self._path} cannot be written ({error.strerror}): a restart would "
                "forget what was spent since"
            )
            return False
        if self._unwritten:
            log.info("usage.ledger_written_again", path=str(self._path))
            self._unwritten = ""
        return True

    def _snapshot(self) -> str:
        documents: list[dict[str, Any]] = [dict(_HEADER)]
        documents += [
            _as_json(row, spent) for row, spent in sorted(self._rows.items(), key=lambda one: one[0].at)
        ]
        documents += [{"thread": thread, "total": total.as_list()} for thread, total in self._threads.items()]
        return "".join(json.dumps(document, separators=(",", ":")) + "\n" for document in documents)

    async def close(self) -> None:
        """Write what is not written yet; tried once."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
            # What was being written when it was cancelled may be there or not.
            self._rewrite = True
            await self._write_once()


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _as_json(row: _Row, spent: Spent) -> dict[str, Any]:
    return {
        "at": row.at,
        "seconds": row.seconds,
        "model": row.model,
        "tokens": spent.tokens.as_list(),
        "nano_usd": spent.nano_usd,
    }


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _tokens(given: object) -> Tokens | None:
    if isinstance(given, list) and len(given) == 4 and all(map(_is_count, given)):
        return Tokens(*given)
    return None


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
