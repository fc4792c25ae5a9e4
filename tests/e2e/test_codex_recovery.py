"""The conversation outlives the child and the workspace, with the real codex binary."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from app_server import InvalidConfigError
from conversation import Limits
from support.codex_workbench import Workbench
from support.responses_server import Answer, Call, Gate, ResponsesServer, Silence

pytestmark = pytest.mark.anyio


def _group(pid: int) -> list[int]:
    """Processes whose group is `pid`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


async def test_a_child_killed_in_a_turn_fails_that_message_and_the_next_resumes_the_thread(
    tmp_path: Path, model: ResponsesServer
) -> None:
    silence = Silence()
    model.script(Answer.text("Noted."), silence, Answer.text("Blue."))
    async with Workbench(tmp_path, model.base_url) as bench:
        await bench.send("my colour is blue").completed()
        sent = await bench.send("hang").working()
        await silence.reached.reached()
        assert bench.codex.pid is not None
        os.kill(bench.codex.pid, signal.SIGKILL)
        assert "SIGKILL" in await sent.failed()
        assert sent.failure == "child_lost"
        assert await bench.send("which colour?").completed() == "Blue."
        assert model.requests[2].user_texts == ["my colour is blue", "hang", "which colour?"]
        assert ("assistant", "Noted.") in model.requests[2].texts


async def test_a_child_killed_between_turns_is_replaced_without_a_message(
    tmp_path: Path, model: ResponsesServer
) -> None:
    async with Workbench(tmp_path, model.base_url) as bench:
        pid = bench.codex.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await bench.child(2)
        assert bench.codex.pid not in (None, pid)
        assert bench.codex.problem == ""


async def test_a_restarted_workspace_goes_on_with_the_thread(tmp_path: Path, model: ResponsesServer) -> None:
    model.script(Answer.text("Noted."), Answer.text("Blue."))
    async with Workbench(tmp_path, model.base_url, instructions="You are terse.") as bench:
        await bench.send("my colour is blue").completed()
    async with Workbench(tmp_path, model.base_url, instructions="You are terse.") as bench:
        assert await bench.send("which colour?").completed() == "Blue."
    request = model.requests[1]
    assert request.user_texts == ["my colour is blue", "which colour?"]
    assert sum(text.count("You are terse.") for role, text in request.texts if role == "developer") == 1


async def test_a_resumed_thread_has_its_sandbox_and_policy_again(
    tmp_path: Path, model: ResponsesServer
) -> None:
    """codex restores neither. A command that writes outside of the workspace shows that both were sent."""
    outside = tmp_path / "outside.txt"
    model.script(
        Answer.text("Noted."), Call("exec_command", {"cmd": f"echo x > {outside}"}), Answer.text("Done.")
    )
    async with Workbench(tmp_path, model.base_url) as bench:
        await bench.send("hello").completed()
    async with Workbench(tmp_path, model.base_url) as bench:
        assert await bench.send("write it").completed() == "Done."
    assert outside.read_text() == "x\n"


@pytest.mark.parametrize("sandbox", ["read-only", "workspace-write", "danger-full-access"])
async def test_the_sandbox_that_is_asked_for_is_the_one_that_codex_reports(
    tmp_path: Path, model: ResponsesServer, sandbox: str
) -> None:
    model.script(Answer.text("Fine."))
    async with Workbench(tmp_path, model.base_url, sandbox=sandbox) as bench:
        assert await bench.send("hello").completed() == "Fine."


async def test_a_thread_whose_rollout_is_gone_is_replaced_by_a_new_one(
    tmp_path: Path, model: ResponsesServer
) -> None:
    (tmp_path / "threads.json").write_text(
        '{"version": 1, "threads": {"shared": "01a20b82-3b3a-7692-af1b-15b846648020"}}'
    )
    model.script(Answer.text("Hello."))
    async with Workbench(tmp_path, model.base_url) as bench:
        assert await bench.send("hello").completed() == "Hello."
        assert "01a20b82-3b3a" not in bench.threads_file.read_text()


async def test_a_message_that_waits_survives_the_loss_of_the_child(
    tmp_path: Path, model: ResponsesServer
) -> None:
    silence = Silence()
    model.script(silence, Answer.text("Two."))
    async with Workbench(tmp_path, model.base_url, limits=Limits(mid_turn="queue")) as bench:
        one = await bench.send("one").working()
        await silence.reached.reached()
        two = bench.send("two")
        await two.until(lambda s: bool(s.states))
        assert bench.codex.pid is not None
        os.kill(bench.codex.pid, signal.SIGKILL)
        await one.failed()
        assert await two.completed() == "Two."


async def test_stopping_leaves_no_process_behind(tmp_path: Path, model: ResponsesServer) -> None:
    gate = Gate()
    model.script(Answer(["One", gate]))
    async with Workbench(tmp_path, model.base_url) as bench:
        sent = bench.send("hello")
        await sent.until(lambda s: s.text == "One")
        pid = bench.codex.pid
        assert pid is not None
        assert _group(pid)
    assert not _group(pid)


async def test_a_broken_config_stops_the_start_with_path_and_line(tmp_path: Path, codex: Path) -> None:
    bench = Workbench(tmp_path, "http://127.0.0.1:9/v1", config="\n[mcp_servers.x]\nurl = 3\n")
    with pytest.raises(InvalidConfigError, match=r"config\.toml:\d+:\d+"):
        await bench.codex.start()
    await bench.executor.close()
