"""What the ledger holds is what the model endpoint reported, token by token, with the real codex binary."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from budgets import Budgets, read_budgets
from conversation import Limits
from prices import read_prices
from support.codex_workbench import PATIENCE, Workbench
from support.responses_server import (
    Answer,
    Call,
    Cut,
    Gate,
    HttpError,
    ResponseFailed,
    ResponsesServer,
    Silence,
)
from support.responses_server import Usage as Reported
from usage_ledger import UsageLedger

if TYPE_CHECKING:
    from pathlib import Path

    from usage import Spent, Tokens

pytestmark = pytest.mark.anyio

PRICES = read_prices({"gpt-5.5": {"input": 2, "cached_input": "0.5", "output": 10}})


def _reported(model: ResponsesServer) -> list[int]:
    reported = model.reported
    return [reported.input, reported.cached, reported.output, reported.reasoning]


def _on_disk(bench: Workbench) -> list[int]:
    """The sum of the ledger's file, as a restarted workspace reads it."""
    ledger = UsageLedger(bench.usage_file)
    ledger.load()
    assert ledger.problem == ""
    rows = [spent.tokens.as_list() for spent in ledger._rows.values()]
    return [sum(column) for column in zip(*rows, strict=True)] if rows else [0, 0, 0, 0]


async def test_plain_turns_and_tool_calls_are_counted_once(tmp_path: Path, model: ResponsesServer) -> None:
    model.script(
        Answer.text("One."), Call("exec_command", {"cmd": "true"}), Answer.text("Two."), Answer.text("Three.")
    )
    async with Workbench(tmp_path, model.base_url, prices=PRICES) as bench:
        one = bench.send("one")
        await one.completed()
        two, three = bench.send("two"), None
        await two.completed()
        three = bench.send("three")
        await three.completed()
    assert _on_disk(bench) == _reported(model) != [0, 0, 0, 0]
    first = model.usage(1)
    assert one.usage == {
        "input_tokens": first.input,
        "cached_input_tokens": first.cached,
        "output_tokens": first.output,
        "reasoning_output_tokens": first.reasoning,
        "total_tokens": first.total,
        "model": "gpt-5.5",
        "cost_usd": pytest.approx(
            (2 * (first.input - first.cached) + 0.5 * first.cached + 10 * first.output) / 1e6
        ),
    }
    for_two = model.usage(2) + model.usage(3)
    assert two.usage["input_tokens"] == for_two.input
    assert sum(sent.usage["total_tokens"] for sent in (one, two, three)) == model.reported.total


async def test_without_a_price_there_are_tokens_and_no_cost(tmp_path: Path, model: ResponsesServer) -> None:
    model.script(Answer.text("One."))
    async with Workbench(tmp_path, model.base_url) as bench:
        sent = bench.send("one")
        await sent.completed()
        assert bench.meter.monthly_cents() is None
    assert "cost_usd" not in sent.usage
    assert sent.usage["input_tokens"] == model.reported.input


async def test_a_child_killed_in_a_turn_costs_what_it_had_spent_and_nothing_twice(
    tmp_path: Path, model: ResponsesServer
) -> None:
    silence = Silence()
    model.script(
        Answer.text("Noted."),
        Call("exec_command", {"cmd": "true"}),
        silence,
        Answer.text("On."),
        Answer.text("x"),
    )
    async with Workbench(tmp_path, model.base_url) as bench:
        await bench.send("one").completed()
        sent = await bench.send("hang").working()
        await silence.reached.reached()
        assert bench.codex.pid is not None
        os.kill(bench.codex.pid, signal.SIGKILL)
        await sent.failed()
        assert sent.usage["input_tokens"] == model.usage(2).input
        await bench.send("again").completed()
    async with Workbench(tmp_path, model.base_url) as bench:
        await bench.send("and again").completed()
    assert _on_disk(bench) == _reported(model)


async def test_a_restarted_workspace_goes_on_counting_where_it_was(
    tmp_path: Path, model: ResponsesServer
) -> None:
    model.script(*(Answer.text(str(number)) for number in range(4)))
    async with Workbench(tmp_path, model.base_url) as bench:
        await bench.send("one").completed()
        await bench.send("two").completed()
    for text in ("three", "four"):
        async with Workbench(tmp_path, model.base_url) as bench:
            await bench.send(text).completed()
    assert _on_disk(bench) == _reported(model)


async def test_a_ledger_that_was_lost_does_not_count_the_past_of_a_thread_again(
    tmp_path: Path, model: ResponsesServer
) -> None:
    model.script(*(Answer.text(str(number)) for number in range(4)))
    async with Workbench(tmp_path, model.base_url) as bench:
        await bench.send("one").completed()
        await bench.send("two").completed()
    bench.usage_file.unlink()
    before = model.reported
    async with Workbench(tmp_path, model.base_url) as bench:
        await bench.send("three").completed()
        await bench.send("four").completed()
    assert _on_disk(bench) == [
        model.reported.input - before.input,
        model.reported.cached - before.cached,
        model.reported.output - before.output,
        model.reported.reasoning - before.reasoning,
    ]


async def test_a_ledger_that_is_behind_catches_up(tmp_path: Path, model: ResponsesServer) -> None:
    """The workspace was killed before it wrote the last turn down; codex has it in its recording."""
    model.script(*(Answer.text(str(number)) for number in range(3)))
    async with Workbench(tmp_path, model.base_url) as bench:
        await bench.send("one").completed()
    behind = bench.usage_file.read_bytes()
    async with Workbench(tmp_path, model.base_url) as bench:
        await bench.send("two").completed()
    bench.usage_file.write_bytes(behind)
    async with Workbench(tmp_path, model.base_url) as bench:
        await bench.send("three").completed()
    assert _on_disk(bench) == _reported(model)


async def test_a_cancelled_turn_counts_what_was_reported(tmp_path: Path, model: ResponsesServer) -> None:
    gate = Gate()
    model.script(
        Call("exec_command", {"cmd": "true"}), Answer(["so far", gate, " never"]), Answer.text("Two.")
    )
    async with Workbench(tmp_path, model.base_url) as bench:
        one = await bench.send("one").working()
        await gate.reached()
        await bench.cancel(one)
        await one.ended()
        assert one.usage["input_tokens"] == model.usage(1).input
        await bench.send("two").completed()
    assert _on_disk(bench) == _reported(model)


async def test_steered_messages_share_the_usage_without_counting_it_twice(
    tmp_path: Path, model: ResponsesServer
) -> None:
    gate = Gate()
    model.script(Answer(["First", gate, "."]), Answer.text("Second."), Answer.text("Third."))
    async with Workbench(tmp_path, model.base_url, limits=Limits(mid_turn="steer")) as bench:
        one = await bench.send("one").working()
        await gate.reached()
        two = bench.send("two")
        await two.until(lambda sent: bool(sent.states))
        gate.open()
        assert await one.completed() == "First."
        assert await two.completed() == "Second."
        three = bench.send("three")
        await three.completed()
    assert _on_disk(bench) == _reported(model)
    assert sum(sent.usage["total_tokens"] for sent in (one, two, three)) == model.reported.total


async def test_retries_and_failures_count_what_was_reported(tmp_path: Path, model: ResponsesServer) -> None:
    model.script(
        Cut("half"),
        Answer.text("Whole."),
        ResponseFailed("invalid_prompt"),
        HttpError(400),
        Answer.text("Good."),
    )
    async with Workbench(tmp_path, model.base_url, retries=1) as bench:
        assert await bench.send("one").completed() == "Whole."
        await bench.send("two").failed()
        await bench.send("refused").failed()
        await bench.send("three").completed()
    assert _on_disk(bench) == _reported(model)


async def test_a_conversation_that_outgrew_the_model_and_was_compacted_is_counted(
    tmp_path: Path, model: ResponsesServer
) -> None:
    """codex puts zeros in the place of the sum, and asks the model for a summary by itself."""
    model.script(Answer.text("One."), ResponseFailed("context_length_exceeded"))
    model.responder = lambda _request: Answer.text("Summary, or answer.")
    async with Workbench(tmp_path, model.base_url) as bench:
        await bench.send("one").completed()
        await bench.send("two").failed()
        await bench.send("three").completed()
        assert len(model.requests) > 3
    async with Workbench(tmp_path, model.base_url) as bench:
        await bench.send("four").completed()
    assert _on_disk(bench) == _reported(model)


@pytest.mark.parametrize("fork", [False, True])
async def test_a_sub_agent_is_counted_and_its_inherited_past_is_not(
    tmp_path: Path, model: ResponsesServer, fork: bool
) -> None:
    model.script(Answer.text("One."), Call("spawn_agent", {"message": "do it", "fork_context": fork}))
    model.responder = lambda _request: Answer.text("Done.")
    both_have_answered = asyncio.Event()
    async with Workbench(tmp_path, model.base_url) as bench:
        add = bench.ledger.add

        def added(thread: str, total: Tokens, spent: Spent) -> None:
            add(thread, total, spent)
            if len(model.requests) >= 4 and _sum(bench) == _reported(model):
                both_have_answered.set()

        bench.ledger.add = added  # type: ignore[method-assign]
        await bench.send("one").completed()
        await bench.send("two").completed()
        async with asyncio.timeout(PATIENCE):
            await both_have_answered.wait()
    assert _on_disk(bench) == _reported(model)


def _sum(bench: Workbench) -> list[int]:
    rows = [spent.tokens.as_list() for spent in bench.ledger._rows.values()]
    return [sum(column) for column in zip(*rows, strict=True)]


async def test_threads_of_their_own_are_all_counted(tmp_path: Path, model: ResponsesServer) -> None:
    model.responder = lambda _request: Answer.text("Yes.")
    async with Workbench(tmp_path, model.base_url, threads="per_context") as bench:
        sent = [bench.send("hello", context=f"context-{number}") for number in range(5)]
        for one in sent:
            await one.completed()
    assert _on_disk(bench) == _reported(model)
    assert sum(one.usage["total_tokens"] for one in sent) == model.reported.total


# -- budgets ----------------------------------------------------------------------------------------------


def _daily(tokens: int) -> Budgets:
    return read_budgets({"daily": {"tokens": tokens}}, {})


async def test_a_turn_that_reaches_the_cap_is_interrupted_and_says_why(
    tmp_path: Path, model: ResponsesServer
) -> None:
    model.usage = lambda _number: Reported(input=60, output=40)
    endless = Call("exec_command", {"cmd": "true"})
    model.script(endless, endless)
    model.responder = lambda _request: endless
    async with Workbench(tmp_path, model.base_url, budgets=_daily(150)) as bench:
        sent = bench.send("work")
        reason = await sent.failed()
        assert sent.failure == "budget"
        assert "150 tokens" in reason
        assert "200 tokens" in reason
        assert "opens again at" in reason
        assert sent.usage["total_tokens"] == 200
        asked = len(model.requests)
        assert asked <= 3
        again = bench.send("once more")
        assert "opens again at" in await again.failed()
        assert again.failure == "budget"
        assert len(model.requests) == asked
    async with Workbench(tmp_path, model.base_url, budgets=_daily(150)) as bench:
        assert "200 tokens" in await bench.send("after a restart").failed()
    async with Workbench(tmp_path, model.base_url, budgets=_daily(1_000)) as bench:
        model.script(Answer.text("Fine."))
        assert await bench.send("with a larger cap").completed() == "Fine."


async def test_an_answer_that_is_paid_for_is_given_out(tmp_path: Path, model: ResponsesServer) -> None:
    model.usage = lambda _number: Reported(input=60, output=40)
    model.script(Answer.text("The whole answer."))
    async with Workbench(tmp_path, model.base_url, budgets=_daily(100)) as bench:
        assert await bench.send("one").completed() == "The whole answer."
        two = bench.send("two")
        assert "100 tokens are spent" in await two.failed()


async def test_a_cap_in_money_stops_a_turn(tmp_path: Path, model: ResponsesServer) -> None:
    model.usage = lambda _number: Reported(input=1_000_000, output=100_000)
    model.responder = lambda _request: Call("exec_command", {"cmd": "true"})
    budgets = read_budgets({"hourly": {"usd": 2.5}}, {})
    async with Workbench(tmp_path, model.base_url, prices=PRICES, budgets=budgets) as bench:
        sent = bench.send("work")
        reason = await sent.failed()
        assert "2.50 USD" in reason
        assert "3.00 USD" in reason
        assert bench.meter.monthly_cents() == 300


async def test_messages_that_wait_end_with_the_budget_too(tmp_path: Path, model: ResponsesServer) -> None:
    model.usage = lambda _number: Reported(input=60, output=40)
    gate = Gate()
    model.script((Answer(["Let me see.", gate]), Call("exec_command", {"cmd": "true"})))
    model.responder = lambda _request: Call("exec_command", {"cmd": "true"})
    async with Workbench(
        tmp_path, model.base_url, budgets=_daily(100), limits=Limits(mid_turn="queue")
    ) as bench:
        one = await bench.send("one").working()
        await gate.reached()
        two = bench.send("two")
        await two.until(lambda sent: bool(sent.states))
        gate.open()
        for sent in (one, two):
            await sent.failed()
            assert sent.failure == "budget"


async def test_other_conversations_are_stopped_as_well(tmp_path: Path, model: ResponsesServer) -> None:
    """One that stands still in its stream hears of the cap that another one has reached."""
    silence = Silence()
    model.usage = lambda _number: Reported(input=60, output=40)
    model.script(silence)
    model.responder = lambda _request: Call("exec_command", {"cmd": "true"})
    async with Workbench(tmp_path, model.base_url, budgets=_daily(100), threads="per_context") as bench:
        still = await bench.send("wait", context="one").working()
        await silence.reached.reached()
        busy = bench.send("work", context="two")
        for sent in (busy, still):
            await sent.failed()
            assert sent.failure == "budget"
