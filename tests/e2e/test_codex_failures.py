"""What goes wrong at the model endpoint becomes a failed task that says why, with the real codex binary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conversation import Limits
from support.codex_workbench import Workbench
from support.responses_server import (
    Answer,
    Cut,
    Gate,
    HttpError,
    ResponseFailed,
    ResponsesServer,
    Silence,
    Step,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("step", "kind", "words"),
    [
        (HttpError(401, "Incorrect API key provided"), "unauthorized", "Incorrect API key provided"),
        (HttpError(403, "forbidden"), "unauthorized", "403"),
        (HttpError(404, "no such model"), "not_found", "404"),
        (HttpError(429, "slow down"), "rate_limited", "429"),
        (HttpError(400, "bad"), "refused", "bad"),
        (HttpError(500, "boom"), "overloaded", "demand"),
        (HttpError(503, "away"), "overloaded", "503"),
        (Cut("Half"), "network", "stream disconnected"),
        (ResponseFailed("context_length_exceeded"), "context_too_long", "context"),
        (ResponseFailed("insufficient_quota"), "quota", "quota"),
        (ResponseFailed("server_is_overloaded"), "overloaded", "overloaded"),
        (ResponseFailed("rate_limit_exceeded", "Rate limit reached"), "rate_limited", "Rate limit"),
    ],
    ids=lambda value: repr(value)[:60] if not isinstance(value, str) else value,
)
async def test_a_failed_turn_is_a_failed_task_with_the_reason_and_the_next_message_works(
    tmp_path: Path, model: ResponsesServer, step: Step, kind: str, words: str
) -> None:
    model.script(step)
    async with Workbench(tmp_path, model.base_url) as bench:
        sent = bench.send("hello")
        reason = await sent.failed()
        assert (sent.failure, words.lower() in reason.lower()) == (kind, True), reason
        # After a context that is too long codex asks for a summary first: how many requests follow is its
        # business.
        model.responder = lambda _request: Answer.text("Well again.")
        assert await bench.send("again").completed() == "Well again."


async def test_an_endpoint_that_nobody_serves_is_a_network_failure(tmp_path: Path, codex: Path) -> None:
    async with Workbench(tmp_path, "http://127.0.0.1:9/v1") as bench:
        sent = bench.send("hello")
        assert "network" in await sent.failed()
        assert sent.failure == "network"


async def test_a_wrong_key_is_unauthorized(tmp_path: Path, codex: Path) -> None:
    async with ResponsesServer(api_key="another") as model, Workbench(tmp_path, model.base_url) as bench:
        sent = bench.send("hello")
        assert "refused the credential" in await sent.failed()
        model.check()


async def test_a_failure_after_the_first_message_was_answered_fails_only_the_second(
    tmp_path: Path, model: ResponsesServer
) -> None:
    gate = Gate()
    model.script(Answer([gate, "One."]), HttpError(401))
    async with Workbench(tmp_path, model.base_url) as bench:
        one = await bench.send("one").working()
        two = bench.send("two")
        await two.until(lambda s: bool(s.states))
        gate.open()
        assert await one.completed() == "One."
        await two.failed()
        assert two.failure == "unauthorized"


async def test_a_silent_turn_is_given_up_and_the_thread_is_resumed_in_a_new_child(
    tmp_path: Path, model: ResponsesServer
) -> None:
    """B-8: a child that is kept after that lets each later turn time out as well."""
    model.script(Answer.text("Noted."), Silence(), Answer.text("Blue."))
    async with Workbench(tmp_path, model.base_url, limits=Limits(inactivity=1.0)) as bench:
        await bench.send("my colour is blue").completed()
        pid = bench.codex.pid
        sent = bench.send("say nothing")
        assert "no sign of life" in await sent.failed()
        assert sent.failure == "timeout"
        assert await bench.send("which colour?").completed() == "Blue."
        assert bench.codex.pid != pid
        assert model.requests[2].user_texts[0] == "my colour is blue"


async def test_a_turn_that_shows_signs_of_life_may_take_longer_than_silence_may(
    tmp_path: Path, model: ResponsesServer
) -> None:
    """B-7: a limit for the whole turn kills healthy work."""
    model.script(Answer([part for _ in range(40) for part in ("x", 0.05)]))
    async with Workbench(tmp_path, model.base_url, limits=Limits(inactivity=1.0)) as bench:
        assert await bench.send("take your time").completed() == "x" * 40


async def test_a_turn_has_a_limit_in_all_however_lively_it_is(tmp_path: Path, model: ResponsesServer) -> None:
    model.script(Answer([part for _ in range(400) for part in ("x", 0.05)]), Answer.text("Next."))
    async with Workbench(tmp_path, model.base_url, limits=Limits(inactivity=30, total=1.0)) as bench:
        sent = bench.send("go on for ever")
        assert "not finished after 1 s" in await sent.failed()
        assert await bench.send("next").completed() == "Next."


async def test_text_steered_into_a_turn_that_times_out_is_sent_again(
    tmp_path: Path, model: ResponsesServer
) -> None:
    silence = Silence()
    model.script(silence, Answer.text("Two."))
    async with Workbench(tmp_path, model.base_url, limits=Limits(inactivity=2.0)) as bench:
        one = await bench.send("one").working()
        await silence.reached.reached()
        two = bench.send("two")
        await one.failed()
        assert await two.completed() == "Two."
        assert model.requests[1].user_texts.count("two") == 1


async def test_a_config_that_broke_is_reported_with_its_line(tmp_path: Path, model: ResponsesServer) -> None:
    model.script(Answer.text("One."))
    async with Workbench(tmp_path, model.base_url, threads="per_context") as bench:
        assert await bench.send("one", context="a").completed() == "One."
        with (bench.codex_home / "config.toml").open("a") as file:
            file.write('\nmodel_provider = = "x"\n')
        sent = bench.send("two", context="b")
        assert "config.toml:" in await sent.failed()
        assert sent.failure == "configuration"
