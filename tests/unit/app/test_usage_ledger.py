"""The ledger outlives restarts, full disks, damage, and clocks that jump."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from budgets import read_budgets
from usage import Spent, Tokens
from usage_ledger import UsageLedger

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 28, 12, 0, 30, tzinfo=UTC).timestamp()
SPENT = Spent(Tokens(100, 40, 10, 3), "gpt-5.5", 50_000_000)


class Clock:
    """Unix time and uptime, set by the test."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now
        self.up = 0.0

    def at(self, day: datetime) -> None:
        self.now = day.timestamp()


def _ledger(directory: Path, clock: Clock | None = None, *, retry_seconds: float = 30.0) -> UsageLedger:
    clock = clock or Clock()
    ledger = UsageLedger(
        directory / "usage.jsonl",
        clock=lambda: clock.now,
        uptime=lambda: clock.up,
        retry_seconds=retry_seconds,
    )
    ledger.load()
    return ledger


def _tokens(ledger: UsageLedger) -> int:
    return sum(entry.tokens for entry in ledger.entries())


async def test_a_restarted_ledger_knows_sums_and_threads(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    ledger.begin("new")
    ledger.add("t", SPENT.tokens, SPENT)
    ledger.add("t", SPENT.tokens + SPENT.tokens, SPENT)
    await ledger.close()
    again = _ledger(tmp_path)
    assert again.problem == ""
    assert _tokens(again) == 220
    assert again.month_nano_usd() == 100_000_000
    assert again.total("t") == SPENT.tokens + SPENT.tokens
    assert again.total("new") == Tokens()
    assert again.total("other") is None


async def test_half_a_line_at_the_end_is_what_a_kill_leaves_and_no_damage(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    ledger.add("t", SPENT.tokens, SPENT)
    await ledger.close()
    with (tmp_path / "usage.jsonl").open("a") as file:
        file.write('{"at": 17958488')
    again = _ledger(tmp_path)
    assert again.problem == ""
    assert _tokens(again) == 110
    again.add("t", SPENT.tokens + SPENT.tokens, SPENT)
    await again.close()
    assert _tokens(_ledger(tmp_path)) == 220


@pytest.mark.parametrize(
    "line",
    [
        "\x00\x00\x00",
        "[]",
        "{}",
        '{"at": 5, "seconds": 60, "model": "m", "tokens": [1, 2, 3], "nano_usd": 0}',
        '{"at": 5, "seconds": 60, "model": "m", "tokens": [1, 2, 3, -4], "nano_usd": 0}',
        '{"at": "x", "seconds": 60, "model": "m", "tokens": [1, 2, 3, 4], "nano_usd": 0}',
        '{"at": 5, "seconds": 60, "model": "m", "tokens": [1, 2, 3, 4], "nano_usd": 0.5}',
        '{"thread": "t", "total": "many"}',
        "[" * 100_000,
    ],
)
async def test_a_damaged_line_is_told_and_the_others_count(tmp_path: Path, line: str) -> None:
    ledger = _ledger(tmp_path)
    ledger.add("t", SPENT.tokens, SPENT)
    await ledger.close()
    path = tmp_path / "usage.jsonl"
    whole = path.read_text()
    path.write_text(whole + line + "\n" + whole.splitlines()[1] + "\n")
    again = _ledger(tmp_path)
    assert again.damaged
    assert "damaged" in again.problem
    assert _tokens(again) == 220
    assert line in (tmp_path / "usage.jsonl.damaged").read_text()
    again.add("t", SPENT.tokens, SPENT)
    await again.close()
    third = _ledger(tmp_path)
    assert (third.problem, _tokens(third)) == ("", 330)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe" * 4096, b"SQLite format 3\x00", b'{"codex_workspace_usage": 2}\n']
)
async def test_a_file_that_is_no_ledger_is_told_and_counting_goes_on(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "usage.jsonl").write_bytes(content)
    ledger = _ledger(tmp_path)
    assert ledger.damaged
    assert (tmp_path / "usage.jsonl.damaged").read_bytes() == content
    ledger.add("t", SPENT.tokens, SPENT)
    await ledger.close()
    assert _tokens(_ledger(tmp_path)) == 110


async def test_a_directory_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "usage.jsonl").mkdir()
    ledger = _ledger(tmp_path)
    assert "damaged" in ledger.problem
    ledger.add("t", SPENT.tokens, SPENT)
    await ledger.close()
    assert _tokens(_ledger(tmp_path)) == 110


async def test_a_disk_that_takes_nothing_is_told_and_forgotten_when_it_does(tmp_path: Path) -> None:
    directory = tmp_path / "configs"
    ledger = _ledger(directory, retry_seconds=0)
    ledger.add("t", SPENT.tokens, SPENT)
    await ledger.close()
    assert not ledger.written
    assert "cannot be written" in ledger.problem
    assert _tokens(ledger) == 110
    ledger.add("t", SPENT.tokens + SPENT.tokens, SPENT)
    assert ledger._writer is not None
    directory.mkdir()
    await ledger._writer
    assert ledger.problem == ""
    assert _tokens(_ledger(directory)) == 220


async def test_a_month_ends_at_midnight_utc_and_only_what_is_priced_counts(tmp_path: Path) -> None:
    clock = Clock()
    ledger = _ledger(tmp_path, clock)
    assert ledger.month_nano_usd() is None
    clock.at(datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC))
    ledger.add("t", SPENT.tokens, SPENT)
    ledger.add("t", SPENT.tokens, Spent(SPENT.tokens, "unknown", None))
    assert ledger.month_nano_usd() == 50_000_000
    clock.at(datetime(2026, 12, 1, 0, 0, 0, tzinfo=UTC))
    assert ledger.month_nano_usd() is None
    ledger.add("t", SPENT.tokens, SPENT)
    assert ledger.month_nano_usd() == 50_000_000


async def test_a_clock_that_jumps_back_for_a_while_changes_nothing(tmp_path: Path) -> None:
    clock = Clock()
    clock.at(datetime(2026, 12, 1, 6, 0, tzinfo=UTC))
    ledger = _ledger(tmp_path, clock)
    ledger.add("t", SPENT.tokens, SPENT)
    for day in (datetime(2026, 11, 30, 23, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)):
        clock.at(day)
        assert ledger.month_nano_usd() == 50_000_000
        assert ledger.now() == datetime(2026, 12, 1, 6, 0, tzinfo=UTC).timestamp()
    ledger.add("t", SPENT.tokens, SPENT)
    clock.at(datetime(2026, 12, 1, 6, 1, tzinfo=UTC))
    assert ledger.month_nano_usd() == 100_000_000


async def test_a_clock_that_was_ahead_and_stays_corrected_does_not_block_for_years(tmp_path: Path) -> None:
    clock = Clock()
    clock.at(datetime(2030, 1, 1, tzinfo=UTC))
    ledger = _ledger(tmp_path, clock)
    budgets = read_budgets({"daily": {"tokens": 100}}, {})
    ledger.add("t", SPENT.tokens, SPENT)
    clock.now = NOON
    assert budgets.reached(ledger.entries(), ledger.now()) is not None
    clock.up = 3601.0
    reached = budgets.reached(ledger.entries(), ledger.now())
    assert reached is not None
    assert reached.opens_at is not None
    assert NOON < reached.opens_at <= NOON + 86400 + 60
    assert ledger.month_nano_usd() == 50_000_000


async def test_the_file_stays_small_and_sums_stay_what_they_are(tmp_path: Path) -> None:
    clock = Clock()
    ledger = _ledger(tmp_path, clock)
    total = Tokens()
    for minute in range(60 * 24 * 3):
        clock.now = NOON + 60 * minute
        total += SPENT.tokens
        ledger.add("t", total, SPENT)
    await ledger.close()
    again = _ledger(tmp_path, clock)
    lines = len((tmp_path / "usage.jsonl").read_text().splitlines())
    await again.close()
    assert _tokens(again) == total.total
    assert lines < 10_001
    assert len(again.entries()) < 60 * 24 * 2 + 2 * 24
    daily = read_budgets({"daily": {"tokens": 110 * 60 * 24}}, {})
    assert daily.reached(again.entries(), again.now()) is not None


async def test_a_clock_that_jumps_ahead_forgets_nothing(tmp_path: Path) -> None:
    clock = Clock()
    ledger = _ledger(tmp_path, clock)
    ledger.add("t", SPENT.tokens, SPENT)
    await ledger.close()
    clock.now = NOON + timedelta(days=400).total_seconds()
    ahead = _ledger(tmp_path, clock)
    await ahead.close()
    clock.now = NOON
    assert _tokens(_ledger(tmp_path, clock)) == 110


async def test_a_line_is_json_that_says_what_it_is(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    ledger.add("t", SPENT.tokens, SPENT)
    await ledger.close()
    header, row, thread = map(json.loads, (tmp_path / "usage.jsonl").read_text().splitlines())
    assert header == {"codex_workspace_usage": 1}
    assert row == {
        "at": NOON - 30,
        "seconds": 60,
        "model": "gpt-5.5",
        "tokens": [100, 40, 10, 3],
        "nano_usd": 50_000_000,
    }
    assert thread == {"thread": "t", "total": [100, 40, 10, 3]}
    assert (tmp_path / "usage.jsonl").stat().st_mode & 0o777 == 0o600
