"""Messages that come while a turn runs, and messages that are taken back, with the real codex binary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from a2a.types import TaskState

from conversation import Limits
from support.codex_workbench import Workbench
from support.responses_server import Answer, Call, Gate, ResponsesServer, Silence

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_a_message_in_the_middle_of_a_turn_is_steered_into_it_and_gets_its_own_answer(
    tmp_path: Path, model: ResponsesServer
) -> None:
    """B-35: behind a long turn a person waits for minutes."""
    gate = Gate()
    model.script(Answer(["Answer to", gate, " one."]), Answer.text("Answer to two."))
    async with Workbench(tmp_path, model.base_url) as bench:
        one = bench.send("one")
        await one.until(lambda s: s.text == "Answer to")
        two = bench.send("two")
        await two.until(lambda s: bool(s.states))
        gate.open()
        assert await one.completed() == "Answer to one."
        assert await two.completed() == "Answer to two."
        # One turn: the second request carries the first one's answer, and codex was never idle in between.
        assert model.requests[1].texts[-3:] == [
            ("user", "one"),
            ("assistant", "Answer to one."),
            ("user", "two"),
        ]
        assert (
            model.requests[0].headers["x-codex-turn-metadata"].split("turn_id")[1][:40]
            == (model.requests[1].headers["x-codex-turn-metadata"].split("turn_id")[1][:40])
        )


async def test_three_messages_in_the_middle_of_a_turn_are_answered_one_by_one(
    tmp_path: Path, model: ResponsesServer
) -> None:
    gate = Gate()
    model.script(Answer([gate, "A1"]), Answer.text("A2"), Answer.text("A3"), Answer.text("A4"))
    async with Workbench(tmp_path, model.base_url) as bench:
        first = await bench.send("q1").working()
        others = [bench.send(text) for text in ("q2", "q3", "q4")]
        await others[-1].until(lambda s: bool(s.states))
        gate.open()
        assert [await sent.completed() for sent in (first, *others)] == ["A1", "A2", "A3", "A4"]
        assert model.requests[3].user_texts == ["q1", "q2", "q3", "q4"]


async def test_messages_that_share_the_agents_work_share_its_answer(
    tmp_path: Path, model: ResponsesServer
) -> None:
    """The second message is taken up between a tool and the words that follow: those answer both."""
    go = tmp_path / "go"
    wait = f"until [ -e {go} ]; do sleep 0.05; done"
    model.script(Call("exec_command", {"cmd": wait, "yield_time_ms": 20_000}), Answer.text("Both are done."))
    async with Workbench(tmp_path, model.base_url) as bench:
        one = await bench.send("one").working()
        await model.request(1)
        two = bench.send("two")
        await two.until(lambda s: bool(s.states))
        steered = bench.executor._conversation("")
        await one.until(lambda _: steered.waiting == 0)
        go.touch()
        assert await one.completed() == "Both are done."
        assert await two.completed() == "Both are done."


async def test_in_queue_mode_a_message_waits_for_a_turn_of_its_own(
    tmp_path: Path, model: ResponsesServer
) -> None:
    gate = Gate()
    model.script(Answer([gate, "One."]), Answer.text("Two."))
    async with Workbench(tmp_path, model.base_url, limits=Limits(mid_turn="queue")) as bench:
        one = await bench.send("one").working()
        two = bench.send("two")
        await two.until(lambda s: bool(s.states))
        gate.open()
        assert await one.completed() == "One."
        assert await two.completed() == "Two."
        turn_ids = [
            request.headers["x-codex-turn-metadata"].split('"turn_id":')[1][:40] for request in model.requests
        ]
        assert turn_ids[0] != turn_ids[1]


async def test_cancelling_interrupts_the_turn_and_the_next_message_is_answered(
    tmp_path: Path, model: ResponsesServer
) -> None:
    silence = Silence()
    model.script(silence, Answer.text("Here."))
    async with Workbench(tmp_path, model.base_url) as bench:
        sent = await bench.send("hang").working()
        await silence.reached.reached()
        task = await bench.cancel(sent)
        assert task.status.state == TaskState.TASK_STATE_CANCELED
        assert (await sent.ended()).state == TaskState.TASK_STATE_CANCELED
        pid = bench.codex.pid
        assert await bench.send("are you there?").completed() == "Here."
        assert bench.codex.pid == pid, "an interrupt needs no new child"


async def test_cancelling_before_the_turn_has_started_interrupts_it_all_the_same(
    tmp_path: Path, model: ResponsesServer
) -> None:
    """codex refuses an interrupt between the answer to turn/start and turn/started (CODEX.md 4.3)."""
    model.responder = lambda request: (
        Answer.text("Here.") if request.last_user_text == "are you there?" else Silence()
    )
    async with Workbench(tmp_path, model.base_url) as bench:
        for _ in range(5):
            sent = bench.send("hang")
            await sent.until(lambda s: bool(s.states))
            task = await bench.cancel(sent)
            assert task.status.state == TaskState.TASK_STATE_CANCELED
            assert await bench.send("are you there?").completed() == "Here."


async def test_a_message_that_waits_is_cancelled_at_once_and_never_reaches_the_model(
    tmp_path: Path, model: ResponsesServer
) -> None:
    gate = Gate()
    model.script(Answer([gate, "One."]), Answer.text("Three."))
    async with Workbench(tmp_path, model.base_url, limits=Limits(mid_turn="queue")) as bench:
        one = await bench.send("one").working()
        two = bench.send("two")
        await two.until(lambda s: bool(s.states))
        await bench.cancel(two)
        gate.open()
        assert await one.completed() == "One."
        assert await bench.send("three").completed() == "Three."
        assert model.requests[1].user_texts == ["one", "three"]


async def test_steered_text_that_was_not_read_is_sent_again_after_an_interrupt(
    tmp_path: Path, model: ResponsesServer
) -> None:
    silence = Silence()
    model.script(silence, Answer.text("Answer to two."))
    async with Workbench(tmp_path, model.base_url) as bench:
        one = await bench.send("one").working()
        await silence.reached.reached()
        two = bench.send("two")
        conversation = bench.executor._conversation("")
        await two.until(
            lambda s: bool(s.states) and conversation._turn is not None and bool(conversation._turn.steered)
        )
        await bench.cancel(one)
        assert await two.completed() == "Answer to two."
        assert model.requests[1].user_texts[-1] == "two"
        assert model.requests[1].user_texts.count("two") == 1


async def test_a_steered_message_that_is_cancelled_leaves_the_turn_alone(
    tmp_path: Path, model: ResponsesServer
) -> None:
    gate = Gate()
    model.script(Answer([gate, "One."]))
    # Whether the model is asked about what nobody waits for any more depends on who is faster.
    model.responder = lambda request: Silence() if request.last_user_text == "two" else Answer.text("Three.")
    async with Workbench(tmp_path, model.base_url) as bench:
        one = await bench.send("one").working()
        two = bench.send("two")
        conversation = bench.executor._conversation("")
        await two.until(
            lambda s: bool(s.states) and conversation._turn is not None and bool(conversation._turn.steered)
        )
        await bench.cancel(two)
        gate.open()
        assert await one.completed() == "One."
        # The agent has taken up what nobody waits for: that is interrupted, and the next message has its
        # turn.
        assert await bench.send("three").completed() == "Three."


async def test_contexts_have_threads_of_their_own_where_that_is_asked_for(
    tmp_path: Path, model: ResponsesServer
) -> None:
    gate = Gate()
    model.script(Answer([gate, "One."]), Answer.text("Two."))
    async with Workbench(tmp_path, model.base_url, threads="per_context") as bench:
        one = bench.send("one", context="a")
        await gate.reached()
        assert await bench.send("two", context="b").completed() == "Two."
        gate.open()
        assert await one.completed() == "One."
        assert model.requests[1].user_texts == ["two"]


async def test_a_context_that_hangs_costs_the_others_nothing(tmp_path: Path, model: ResponsesServer) -> None:
    lively = Answer([part for _ in range(30) for part in ("x", 0.1)])
    model.responder = lambda request: Silence() if request.last_user_text == "hang" else lively
    limits = Limits(inactivity=1.0)
    async with Workbench(tmp_path, model.base_url, threads="per_context", limits=limits) as bench:
        hanging = await bench.send("hang", context="a").working()
        pid = bench.codex.pid
        one = bench.send("one", context="b")
        assert "no sign of life" in await hanging.failed()
        assert await one.completed() == lively.whole
        assert bench.codex.pid == pid
