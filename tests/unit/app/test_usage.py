"""Sums of threads that grow, repeat, shrink and begin anew, and what of them is new."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from budgets import Budgets, read_budgets
from metering import Meter
from prices import PriceTable, read_prices
from usage import Spent, Tokens, grown
from usage_ledger import UsageLedger

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

A, B = Tokens(100, 40, 10, 3), Tokens(250, 90, 25, 4)


def _tokens(tokens: Tokens, **more: Any) -> dict[str, Any]:
    return {
        "totalTokens": tokens.total,
        "inputTokens": tokens.input,
        "cachedInputTokens": tokens.cached,
        "outputTokens": tokens.output,
        "reasoningOutputTokens": tokens.reasoning,
        **more,
    }


def _updated(thread: str, total: Tokens, last: Tokens) -> dict[str, Any]:
    usage = {"total": _tokens(total), "last": _tokens(last), "modelContextWindow": 258400}
    return {"threadId": thread, "turnId": "turn", "tokenUsage": usage}


class Bench:
    """A meter on a ledger in a directory; another one on the same directory is a restarted workspace."""

    def __init__(
        self, directory: Path, *, prices: PriceTable | None = None, budgets: Budgets | None = None
    ) -> None:
        self.ledger = UsageLedger(directory / "usage.jsonl")
        self.ledger.load()
        self.meter = Meter(self.ledger, prices or PriceTable(), budgets or Budgets(), model="gpt-5.5")

    def say(self, thread: str, total: Tokens, last: Tokens) -> Spent | None:
        counted = self.meter.take("thread/tokenUsage/updated", _updated(thread, total, last))
        return counted.spent if counted is not None else None

    @property
    def tokens(self) -> int:
        return sum(entry.tokens for entry in self.ledger.entries())


@pytest.mark.parametrize(
    ("before", "total", "last", "just_loaded", "new"),
    [
        (Tokens(), A, A, False, A),
        (A, B, Tokens(150, 50, 15, 1), False, Tokens(150, 50, 15, 1)),
        (A, A, A, False, Tokens()),
        # The conversation outgrew the model.
        (B, Tokens(), Tokens(), False, Tokens()),
        # A sum that began anew with one answer.
        (B, A, A, False, A),
        # A recording that was behind what was reported before a kill.
        (B, A, A, True, Tokens()),
        # One that was ahead of the ledger.
        (A, B, Tokens(150, 50, 15, 1), True, Tokens(150, 50, 15, 1)),
        # Something was taken back.
        (B, A, Tokens(1, 0, 1, 0), False, Tokens()),
    ],
)
def test_only_what_a_sum_has_grown_by_is_new(
    before: Tokens, total: Tokens, last: Tokens, just_loaded: bool, new: Tokens
) -> None:
    assert grown(before, total, last, just_loaded=just_loaded) == new


@pytest.mark.parametrize("given", [None, [], "15", 15])
def test_what_is_no_usage_is_none(given: object) -> None:
    assert Tokens.read(given) is None


@pytest.mark.parametrize("odd", [-5, 1.5, "7", True, None])
def test_an_odd_number_of_tokens_counts_as_nothing(odd: object) -> None:
    assert Tokens.read({"inputTokens": odd, "outputTokens": 4}) == Tokens(0, 0, 4, 0)


async def test_a_repeated_notification_counts_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.meter.thread("t", "gpt-5.5", resumed=False)
    spent = bench.say("t", A, A)
    assert spent is not None
    assert spent.tokens == A
    assert bench.say("t", A, A) is None
    assert bench.tokens == A.total


async def test_a_notification_that_cannot_be_read_counts_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    odd: list[object] = [None, {}, {"total": None}, {"total": []}, "many"]
    for usage in odd:
        params = {"threadId": "t", "turnId": "u", "tokenUsage": usage}
        assert bench.meter.take("thread/tokenUsage/updated", params) is None
    assert bench.tokens == 0


async def test_a_resumed_thread_of_a_lost_ledger_begins_with_its_past(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.meter.thread("t", "gpt-5.5", resumed=True)
    assert bench.say("t", A, A) is None
    assert bench.say("t", B, Tokens(150, 50, 15, 1)) is not None
    assert bench.tokens == B.total - A.total


async def test_a_thread_killed_in_its_first_turn_is_not_taken_for_a_lost_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.meter.thread("t", "gpt-5.5", resumed=False)
    await bench.ledger.close()
    again = Bench(tmp_path)
    again.meter.thread("t", "gpt-5.5", resumed=True)
    assert again.say("t", A, A) is not None
    assert again.tokens == A.total


async def test_a_sub_agent_without_its_parents_history_counts_from_its_first_answer(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.meter.thread("parent", "gpt-5.5", resumed=False)
    bench.say("parent", B, B)
    item = {
        "type": "collabAgentToolCall",
        "senderThreadId": "parent",
        "receiverThreadIds": ["child"],
        "model": "gpt-5.4-mini",
    }
    bench.meter.take("item/completed", {"threadId": "parent", "item": item})
    counted = bench.meter.take("thread/tokenUsage/updated", _updated("child", A, A))
    assert counted is not None
    assert (counted.thread, counted.spent.model, counted.spent.tokens) == ("parent", "gpt-5.4-mini", A)


async def test_a_rerouted_turn_is_priced_as_what_it_ran_on(tmp_path: Path) -> None:
    prices = read_prices({"cheap": {"input": 0, "output": 1}, "dear": {"input": 0, "output": 100}})
    bench = Bench(tmp_path, prices=prices)
    bench.meter.thread("t", "cheap", resumed=False)
    bench.meter.take(
        "model/rerouted", {"threadId": "t", "fromModel": "cheap", "toModel": "dear", "turnId": "u"}
    )
    spent = bench.say("t", A, A)
    assert spent == Spent(A, "dear", A.output * 100_000)


async def test_metrics_tell_tokens_spend_and_what_is_left(tmp_path: Path) -> None:
    prices = read_prices({"gpt-5.5": {"input": 10_000, "output": 10_000}})
    budgets = read_budgets({"daily": {"tokens": 1000, "usd": 2}}, {})
    bench = Bench(tmp_path, prices=prices, budgets=budgets)
    bench.meter.thread("t", "gpt-5.5", resumed=False)
    bench.say("t", A, A)
    samples = {(s.name, *s.labels.values()): s.value for s in bench.meter.samples()}
    assert samples["molecule_tokens", "input", "gpt-5.5"] == 100
    assert samples["molecule_tokens", "cached_input", "gpt-5.5"] == 40
    assert samples["molecule_spend_cents", "gpt-5.5"] == 110
    assert samples["molecule_monthly_spend_cents",] == 110
    assert samples["molecule_budget_remaining", "daily", "tokens"] == 890
    assert samples["molecule_budget_remaining", "daily", "usd"] == pytest.approx(0.9)
    assert samples["molecule_budget_closed",] == 0
    bench.say("t", Tokens(1100, 0, 10, 0), Tokens(1000, 0, 0, 0))
    samples = {(s.name, *s.labels.values()): s.value for s in bench.meter.samples()}
    assert samples["molecule_budget_remaining", "daily", "tokens"] == 0
    assert samples["molecule_budget_closed",] == 1


async def test_a_budget_in_money_needs_a_price(tmp_path: Path) -> None:
    bench = Bench(tmp_path, budgets=read_budgets({"daily": {"usd": 2}}, {}))
    assert "gpt-5.5 has no price" in bench.meter.closed()
    priced = Bench(
        tmp_path,
        budgets=read_budgets({"daily": {"usd": 2}}, {}),
        prices=read_prices({"GPT-5.5": {"input": 1, "output": 1}}),
    )
    assert priced.meter.closed() == ""


async def test_whoever_waits_is_told_when_a_cap_is_reached(tmp_path: Path) -> None:
    bench = Bench(tmp_path, budgets=read_budgets({"hourly": {"tokens": 110}}, {}))
    told: list[str] = []
    bench.meter.when_closed(lambda: told.append(bench.meter.closed()))
    bench.meter.thread("t", "gpt-5.5", resumed=False)
    bench.say("t", A, A)
    assert len(told) == 1
    assert "110 tokens are spent" in told[0]


async def test_a_meter_never_waits_for_its_file(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.meter.thread("t", "gpt-5.5", resumed=False)
    bench.say("t", A, A)
    assert not (tmp_path / "usage.jsonl").exists()
    await asyncio.sleep(0)
    await bench.ledger.close()
    assert (tmp_path / "usage.jsonl").exists()
