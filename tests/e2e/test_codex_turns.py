"""Turns with the real codex binary: answers, streaming, tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from a2a.types import TaskState
from support.codex_workbench import Workbench
from support.responses_server import Answer, Call, Gate, ResponsesServer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_a_message_is_answered_with_what_the_model_says(tmp_path: Path, model: ResponsesServer) -> None:
    model.script(Answer.text("Hello there."))
    async with Workbench(tmp_path, model.base_url) as bench:
        sent = bench.send("hello")
        assert await sent.completed() == "Hello there."
        assert sent.states[:2] == [TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING]
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
