"""A child that misbehaves in ways that the real one cannot be made to: no message hangs, no process stays."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from a2a.types import TaskState

from app_server import AppServer, ChildLostError, RpcError
from codex import ProviderMismatchError, SandboxError
from conversation import Limits
from server_requests import ServerRequests
from support.codex_workbench import PATIENCE, Workbench

pytestmark = pytest.mark.anyio


def bench(tmp_path: Path, behaviour: str, **options: Any) -> Workbench:
    command = [sys.executable, "-m", "support.fake_codex", str(tmp_path / "starts"), behaviour]
    return Workbench(tmp_path, "", command=command, python_path=True, **options)


def starts(tmp_path: Path) -> int:
    return int((tmp_path / "starts").read_text())


async def test_a_line_of_five_megabytes_is_read(tmp_path: Path) -> None:
    """B-4: a reader with asyncio's own limit dies of it, and nobody is told."""
    async with bench(tmp_path, "huge") as workbench:
        assert await workbench.send("hello").completed() == "x" * 5_000_000


async def test_lines_that_are_no_messages_are_skipped(tmp_path: Path) -> None:
    async with bench(tmp_path, "garbage") as workbench:
        assert await workbench.send("hello").completed() == "intact"
    assert starts(tmp_path) == 1


async def test_what_belongs_to_other_turns_and_threads_is_ignored(tmp_path: Path) -> None:
    async with bench(tmp_path, "foreign") as workbench:
        assert await workbench.send("hello").completed() == "only this"


async def test_a_command_that_is_reported_after_its_turn_is_told_of_too(tmp_path: Path) -> None:
    """codex 0.130.0 reports about one command in ten when its turn has ended already."""
    items: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    async with bench(tmp_path, "late", on_item=items.put_nowait) as workbench:
        assert await workbench.send("one").completed() == "done"
        assert await workbench.send("two").completed() == "done"
        async with asyncio.timeout(PATIENCE):
            told = [await items.get() for _ in range(6)]
    commands = [item["command"] for item in told if item["type"] == "commandExecution"]
    assert commands == ["echo one", "ls", "echo two", "ls"]


async def test_requests_of_the_server_are_answered_though_their_ids_are_ours_too(tmp_path: Path) -> None:
    async with bench(tmp_path, "requests") as workbench:
        answers = json.loads(await workbench.send("hello").completed())
    assert answers == [
        {"id": 0, "result": {"decision": "accept"}},
        {"id": 1, "result": {"action": "decline", "content": None}},
        {"id": 2, "error": {"code": -32601, "message": "this client does not support no/suchRequest"}},
    ]


async def test_an_overloaded_child_is_asked_again(tmp_path: Path) -> None:
    async with bench(tmp_path, "overloaded") as workbench:
        assert await workbench.send("hello").completed() == "answer to hello"


async def test_a_message_that_a_dying_child_never_read_is_sent_to_the_next(tmp_path: Path) -> None:
    async with bench(tmp_path, "crash_once") as workbench:
        assert await workbench.send("hello").completed() == "answer to hello"
    assert starts(tmp_path) == 2


async def test_a_message_that_kills_every_child_fails_after_the_second(tmp_path: Path) -> None:
    async with bench(tmp_path, "crash_always") as workbench:
        sent = workbench.send("hello")
        assert "exit status 101" in await sent.failed()
        assert sent.failure == "child_lost"


async def test_the_last_words_of_a_dead_child_are_in_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ChildLostError, match="exit status 7; its last words: cannot start: the moon is full"):
        await AppServer.start(
            [sys.executable, "-m", "support.fake_codex", str(tmp_path / "starts"), "crash_in_handshake"],
            on_notification=lambda _method, _params: None,
            answer=ServerRequests(sandbox="read-only", trusted_mcp_servers=[]),
            cwd=Path(__file__).parents[1],
        )


async def test_a_command_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ChildLostError, match="cannot start /no/such/codex: No such file"):
        await AppServer.start(
            ["/no/such/codex"],
            on_notification=lambda _method, _params: None,
            answer=ServerRequests(sandbox="read-only", trusted_mcp_servers=[]),
            cwd=tmp_path,
        )


async def test_output_that_ends_while_the_child_lives_fails_the_turn_and_replaces_the_child(
    tmp_path: Path,
) -> None:
    """B-6: an end of the output that counts as a good one leaves the next turn waiting for ever."""
    async with bench(tmp_path, "eof") as workbench:
        sent = workbench.send("hello")
        assert "closed its output without ending" in await sent.failed()
        assert await workbench.send("again").completed() == "answer to again"
    assert starts(tmp_path) == 2


async def test_a_turn_that_no_interrupt_ends_costs_the_child_and_not_the_next_message(tmp_path: Path) -> None:
    async with bench(tmp_path, "disobedient", limits=Limits(inactivity=0.5)) as workbench:
        await workbench.send("hello").failed()
        assert await workbench.send("again").completed() == "answer to again"
    assert starts(tmp_path) == 2


async def test_a_full_pipe_fails_what_waits_with_the_cause(tmp_path: Path) -> None:
    state = tmp_path / "starts"
    server = await AppServer.start(
        [sys.executable, "-m", "support.fake_codex", str(state), "deaf"],
        on_notification=lambda _method, _params: None,
        answer=ServerRequests(sandbox="read-only", trusted_mcp_servers=[]),
        cwd=Path(__file__).parents[1],
        write_timeout=0.5,
    )
    try:
        turn = {"input": [{"type": "text", "text": "x" * 1_000_000}]}
        first = asyncio.create_task(server.request("turn/start", turn, timeout=PATIENCE))
        second = asyncio.create_task(server.request("turn/start", turn, timeout=PATIENCE))
        for request in (first, second):
            with pytest.raises(ChildLostError, match="has not read its input"):
                await request
        with pytest.raises(ChildLostError):
            await server.request("turn/start", turn, timeout=PATIENCE)
    finally:
        await server.stop()


async def test_an_answer_above_the_cap_fails_its_own_request_only(tmp_path: Path) -> None:
    code = (
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    message = json.loads(line)\n"
        "    if 'id' in message:\n"
        "        size = 3_000_000 if message['method'] == 'big' else 1\n"
        "        print(json.dumps({'id': message['id'], 'result': {'x': 'x' * size}}), flush=True)\n"
    )
    server = await AppServer.start(
        [sys.executable, "-c", code],
        on_notification=lambda _method, _params: None,
        answer=ServerRequests(sandbox="read-only", trusted_mcp_servers=[]),
        cwd=tmp_path,
        max_line=1024 * 1024,
    )
    try:
        with pytest.raises(RpcError, match=r"the answer has \d+ bytes, more than 1048576"):
            await server.request("big", {}, timeout=PATIENCE)
        assert await server.request("small", {}, timeout=PATIENCE) == {"x": "x"}
    finally:
        await server.stop()


async def test_a_child_that_ignores_every_signal_but_one_leaves_no_orphan(tmp_path: Path) -> None:
    async with bench(tmp_path, "stubborn") as workbench:
        await workbench.send("hello").completed()
        pid = workbench.codex.pid
        assert pid is not None
        assert len(_group(pid)) == 2
    assert not _group(pid)


async def test_stopping_waits_for_nobody_who_holds_the_childs_pipes(tmp_path: Path) -> None:
    async with bench(tmp_path, "holder") as workbench:
        holder = int(await workbench.send("hello").completed())
    os.kill(holder, signal.SIGKILL)


async def test_a_workspace_that_stops_while_a_thread_starts_ends_the_message(tmp_path: Path) -> None:
    async with bench(tmp_path, "mute") as workbench:
        sent = workbench.send("hello")
        await sent.until(lambda s: bool(s.states))
    assert sent.state == TaskState.TASK_STATE_CANCELED


async def test_a_thread_in_another_sandbox_than_asked_for_fails_the_message(tmp_path: Path) -> None:
    async with bench(tmp_path, "read_only") as workbench:
        sent = workbench.send("hello")
        reason = await sent.failed()
        assert "told to use the sandbox danger-full-access and reports readOnly" in reason
        assert sent.failure == "configuration"
        with pytest.raises(SandboxError):
            await workbench.codex.thread("another")


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [("other_model", "the model gpt-5.5"), ("other_provider", "the provider openai")],
)
async def test_a_thread_on_another_model_or_provider_than_chosen_fails_the_message(
    tmp_path: Path, behaviour: str, words: str
) -> None:
    async with bench(tmp_path, behaviour, model_provider="openai") as workbench:
        sent = workbench.send("hello")
        assert f"has chosen {words} and codex reports another" in await sent.failed()
        assert sent.failure == "configuration"
        with pytest.raises(ProviderMismatchError):
            await workbench.codex.thread("another")


async def test_a_codex_that_does_not_tell_its_configuration_is_worked_with(tmp_path: Path) -> None:
    async with bench(tmp_path, "plain", endpoint={("openai_base_url",): None}) as workbench:
        assert await workbench.send("hello").completed() == "answer to hello"


def _group(pid: int) -> list[str]:
    """The living processes of group `pid`."""
    stats = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            stats.append(entry.read_text().rpartition(")")[2].split())
        except OSError:
            continue
    return [" ".join(fields[:3]) for fields in stats if int(fields[2]) == pid and fields[0] != "Z"]
