"""Turns with the real codex binary: answers, streaming, tools, large lines, many messages."""

from __future__ import annotations

import asyncio
import struct
import zlib
from typing import TYPE_CHECKING

import pytest
from a2a.types import Part, TaskState

from conversation import Limits
from support.codex_workbench import PATIENCE, Workbench
from support.responses_server import Answer, Call, Cut, Gate, Request, ResponsesServer, Step
from turns import Message as CodexMessage

if TYPE_CHECKING:
    from pathlib import Path

    from turns import InputItem

pytestmark = pytest.mark.anyio


async def test_a_message_is_answered_with_what_the_model_says(tmp_path: Path, model: ResponsesServer) -> None:
    model.script(Answer.text("Hello there."))
    async with Workbench(tmp_path, model.base_url) as bench:
        sent = bench.send("hello")
        assert await sent.completed() == "Hello there."
        assert sent.states == [
            TaskState.TASK_STATE_SUBMITTED,
            TaskState.TASK_STATE_WORKING,
            TaskState.TASK_STATE_COMPLETED,
        ]
        assert model.requests[0].user_texts == ["hello"]


async def test_each_delta_reaches_the_client_before_the_model_goes_on(
    tmp_path: Path, model: ResponsesServer
) -> None:
    first, second = Gate(), Gate()
    model.script(Answer(["One", first, " two", second, " three."]))
    async with Workbench(tmp_path, model.base_url) as bench:
        sent = bench.send("count")
        await sent.until(lambda s: s.text == "One")
        first.open()
        await sent.until(lambda s: s.text == "One two")
        second.open()
        assert await sent.completed() == "One two three."


async def test_a_streamed_answer_is_stored_in_one_piece(tmp_path: Path, model: ResponsesServer) -> None:
    gate = Gate()
    model.script(Answer(["One", gate, " two."]))
    async with Workbench(tmp_path, model.base_url) as bench:
        sent = bench.send("count")
        await sent.until(lambda s: s.text == "One")
        gate.open()
        await sent.completed()
        (artifact,) = (await bench.stored(sent)).artifacts
        assert [part.text for part in artifact.parts] == ["One two."]


async def test_only_the_final_answer_remains_where_the_model_marks_one(
    tmp_path: Path, model: ResponsesServer
) -> None:
    gate = Gate()
    model.script((Answer(["I will look.", gate], "commentary"), Answer(["It is done."], "final_answer")))
    async with Workbench(tmp_path, model.base_url) as bench:
        sent = bench.send("do it")
        await sent.until(lambda s: s.text == "I will look.")
        gate.open()
        assert await sent.completed() == "It is done."


async def test_several_messages_of_one_turn_are_one_answer(tmp_path: Path, model: ResponsesServer) -> None:
    model.script((Answer.text("First.", deltas=3), Answer.text("Second.", deltas=3)))
    async with Workbench(tmp_path, model.base_url) as bench:
        assert await bench.send("tell").completed() == "First.\n\nSecond."


async def test_a_stream_that_is_repeated_is_not_doubled(tmp_path: Path, model: ResponsesServer) -> None:
    model.script(Cut("Half an ans"), Answer.text("The whole answer."))
    async with Workbench(tmp_path, model.base_url, retries=1) as bench:
        assert await bench.send("hello").completed() == "The whole answer."


async def test_the_conversation_goes_on_from_turn_to_turn(tmp_path: Path, model: ResponsesServer) -> None:
    model.script(Answer.text("Noted."), Answer.text("Blue."))
    async with Workbench(tmp_path, model.base_url, instructions="You are terse.") as bench:
        await bench.send("my colour is blue").completed()
        await bench.send("which colour?").completed()
        assert model.requests[1].texts[-3:] == [
            ("user", "my colour is blue"),
            ("assistant", "Noted."),
            ("user", "which colour?"),
        ]
        developer = [text for role, text in model.requests[1].texts if role == "developer"]
        assert sum(text.count("You are terse.") for text in developer) == 1


async def test_a_command_runs_without_asking_and_outside_of_a_sandbox(
    tmp_path: Path, model: ResponsesServer
) -> None:
    """B-22: codex's own sandbox cannot start in a container."""
    outside = tmp_path / "outside.txt"
    model.script(Call("exec_command", {"cmd": f"echo written > {outside}; echo seen"}), Answer.text("Done."))
    async with Workbench(tmp_path, model.base_url) as bench:
        assert await bench.send("write it").completed() == "Done."
        assert outside.read_text() == "written\n"
        (output,) = model.requests[1].tool_outputs.values()
        assert "seen" in output


async def test_a_command_that_ends_after_its_turn_disturbs_no_later_answer(
    tmp_path: Path, model: ResponsesServer
) -> None:
    go = tmp_path / "go"
    command = f"until [ -e {go} ]; do sleep 0.05; done; echo late"
    model.script(
        Call("exec_command", {"cmd": command, "yield_time_ms": 250}),
        Answer.text("It runs in the background."),
    )
    gate = Gate()
    async with Workbench(tmp_path, model.base_url) as bench:
        assert await bench.send("start it").completed() == "It runs in the background."
        model.script(Answer(["The next", gate, " answer."]))
        sent = bench.send("and now?")
        await sent.until(lambda s: s.text == "The next")
        go.touch()
        gate.open()
        assert await sent.completed() == "The next answer."


@pytest.mark.parametrize(
    ("size", "deltas"),
    [(2_000_000, 1), (2_000_000, 20_000), (50_000, 50_000)],
    ids=["2 MB in one delta", "2 MB in 20,000 deltas", "one character in each delta"],
)
async def test_a_large_answer_arrives_whole(
    tmp_path: Path, model: ResponsesServer, size: int, deltas: int
) -> None:
    text = "0123456789" * (size // 10)
    model.script(Answer.text(text, deltas=deltas), Answer.text("Still here."))
    async with Workbench(tmp_path, model.base_url) as bench:
        assert await bench.send("write a lot").completed() == text
        assert await bench.send("are you there?").completed() == "Still here."


async def test_a_line_above_the_cap_costs_its_deltas_and_not_the_child(
    tmp_path: Path, model: ResponsesServer
) -> None:
    model.script(Answer.text("x" * 2_000_000), Answer.text("Still here."))
    async with Workbench(tmp_path, model.base_url, max_line=1024 * 1024) as bench:
        await bench.send("write a lot").ended()
        pid = bench.codex.pid
        assert await bench.send("are you there?").completed() == "Still here."
        assert bench.codex.pid == pid


async def test_results_of_delegated_tasks_stand_before_the_text(
    tmp_path: Path, model: ResponsesServer
) -> None:
    model.script(Answer.text("Read."))
    async with Workbench(tmp_path, model.base_url, preamble=lambda: "[RESULT]done[/RESULT]") as bench:
        await bench.send("go on").completed()
        assert model.requests[0].user_texts == ["[RESULT]done[/RESULT]\n\ngo on"]


async def test_an_empty_message_is_refused_with_what_to_do(tmp_path: Path, model: ResponsesServer) -> None:
    async with Workbench(tmp_path, model.base_url) as bench:
        sent = await bench.send(parts=[Part(text="  ")]).ended()
        assert sent.state == TaskState.TASK_STATE_REJECTED
        assert sent.reason == "The message was empty: send a text or a file."


async def test_a_turn_that_codex_refuses_to_begin_fails_and_blocks_nobody(
    tmp_path: Path, model: ResponsesServer
) -> None:
    """For `input: []` codex gives a turn id and one error, and then nothing more (CODEX.md 3.5)."""

    async def nothing() -> list[InputItem]:
        return []

    model.script(Answer.text("Fine."))
    async with Workbench(tmp_path, model.base_url) as bench:
        conversation = bench.executor._conversation("")
        message = CodexMessage("empty", nothing())
        conversation.submit(message)
        updates = [update async for update in message.reply.updates()]
        assert "input must not be empty" in str(updates[-1])
        assert await bench.send("hello").completed() == "Fine."


async def test_a_text_beyond_the_limit_of_codex_is_refused_with_the_limit(
    tmp_path: Path, model: ResponsesServer
) -> None:
    async with Workbench(tmp_path, model.base_url) as bench:
        reason = await bench.send("x" * 1_100_000).failed()
        assert reason.startswith("The message cannot be sent to the agent.")
        assert "1048576" in reason


async def test_an_image_reaches_the_model_and_a_file_is_named(tmp_path: Path, model: ResponsesServer) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0")
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    model.script(Answer.text("A dot."))
    async with Workbench(tmp_path, model.base_url) as bench:
        sent = bench.send(parts=[Part(raw=png, filename="dot.png", media_type="image/png")])
        assert await sent.completed() == "A dot."
        (item,) = [
            item
            for item in model.requests[0].body["input"]
            if item.get("role") == "user" and any(part["type"] == "input_image" for part in item["content"])
        ]
        text = "".join(part.get("text", "") for part in item["content"])
        assert "- dot.png (image/png) at " in text


@pytest.mark.parametrize("mid_turn", ["steer", "queue"])
async def test_two_hundred_messages_at_once_are_all_answered_in_order(tmp_path: Path, mid_turn: str) -> None:
    order: list[str] = []

    def respond(request: Request) -> Step:
        order.append(request.last_user_text)
        return Answer.text(f"answer to {request.last_user_text}")

    limits = Limits(mid_turn="steer" if mid_turn == "steer" else "queue")
    async with (
        ResponsesServer(responder=respond) as model,
        Workbench(tmp_path, model.base_url, limits=limits) as bench,
    ):
        sent = [bench.send(f"message {number}") for number in range(200)]
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.gather(*(one.completed() for one in sent))
        assert answers == [f"answer to message {number}" for number in range(200)]
        assert order == [f"message {number}" for number in range(200)]
        model.check()
