"""The whole workspace as a process: runtime, adapter, real codex, spoken to over HTTP as a client does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from support.codex_workbench import API_KEY, PATIENCE
from support.responses_server import Answer, Gate, ResponsesServer, Silence
from support.workspace_process import WorkspaceProcess, answer_of, request

pytestmark = pytest.mark.anyio


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _environment(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


async def _ended(pid: int) -> None:
    """Wait until a process that is not our child has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def test_a_message_over_http_is_answered_by_the_model(
    tmp_path: Path, model: ResponsesServer, codex: Path
) -> None:
    model.script(Answer.text("Hello."))
    async with WorkspaceProcess(tmp_path, model.base_url, codex) as workspace:
        assert (await workspace.http.get("/readyz")).json() == {"ready": True}
        assert answer_of(await workspace.send("hello")) == "Hello."
        assert workspace.process.returncode is None
    assert API_KEY not in workspace.log


async def test_deltas_reach_an_http_client_while_the_model_still_speaks(
    tmp_path: Path, model: ResponsesServer, codex: Path
) -> None:
    gate = Gate()
    model.script(Answer(["One", gate, " two."]))
    async with WorkspaceProcess(tmp_path, model.base_url, codex) as workspace:
        texts = []
        async for event in workspace.stream("count"):
            if event["kind"] == "artifact-update":
                texts.append(event["artifact"]["parts"][0]["text"])
                gate.open()
        assert texts[0] == "One"
        assert texts[-1] == "One two."


async def test_a_workspace_that_was_killed_goes_on_with_the_conversation(
    tmp_path: Path, model: ResponsesServer, codex: Path
) -> None:
    silence = Silence()
    model.script(Answer.text("Noted."), silence, Answer.text("Blue."))
    async with WorkspaceProcess(tmp_path, model.base_url, codex) as workspace:
        await workspace.send("my colour is blue")
        hanging = asyncio.create_task(workspace.send("hang"))
        await silence.reached.reached()
        (child,) = _children(workspace.process.pid)
        workspace.process.kill()
        await workspace.process.wait()
        with pytest.raises(httpx.TransportError):
            await hanging
    # codex ends with its stdin; the next workspace is the thread's only owner.
    await _ended(child)
    async with WorkspaceProcess(tmp_path, model.base_url, codex) as workspace:
        assert answer_of(await workspace.send("which colour?")) == "Blue."
    assert model.requests[2].user_texts == ["my colour is blue", "hang", "which colour?"]


async def test_a_stopped_workspace_leaves_no_codex_behind(
    tmp_path: Path, model: ResponsesServer, codex: Path
) -> None:
    async with WorkspaceProcess(tmp_path, model.base_url, codex) as workspace:
        (child,) = _children(workspace.process.pid)
        workspace.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await workspace.process.wait() == 0
        assert not _exists(child)


async def test_a_workspace_without_a_credential_says_what_to_set(tmp_path: Path, codex: Path) -> None:
    async with WorkspaceProcess(tmp_path, "http://127.0.0.1:9/v1", codex, STANDIN_KEY="") as workspace:
        response = await workspace.http.post("/", json=request("message/send", "hello"))
        assert response.status_code == 503
        assert "no credential for provider standin: set STANDIN_KEY" in response.json()["error"]["data"]


async def test_what_codex_wrote_down_is_the_transcript(
    tmp_path: Path, model: ResponsesServer, codex: Path
) -> None:
    model.script(Answer.text("Hello."))
    async with WorkspaceProcess(tmp_path, model.base_url, codex) as workspace:
        (workspace.configs / ".auth_token").write_text("the-token")
        await workspace.send("hello")
        headers = {"Authorization": "Bearer the-token"}
        page = (await workspace.http.get("/transcript", params={"limit": 2}, headers=headers)).json()
        assert (page["supported"], len(page["lines"]), page["cursor"], page["more"]) == (True, 2, 2, True)
        rest = (await workspace.http.get("/transcript", params={"since": 2}, headers=headers)).json()
        assert "Hello." in json.dumps(rest["lines"])
        assert not rest["more"]


async def test_the_childs_environment_has_only_the_credential_in_use(
    tmp_path: Path, model: ResponsesServer, codex: Path
) -> None:
    secrets: dict[str, str] = {
        "OPENAI_API_KEY": "sk-other",
        "CODEX_ACCESS": "kept",
        "ADMIN_TOKEN": "t",
        "MINIMAX_API_KEY": "m",
    }
    async with WorkspaceProcess(tmp_path, model.base_url, codex, **secrets) as workspace:
        (child,) = _children(workspace.process.pid)
        variables = _environment(child)
        assert not {"OPENAI_API_KEY", "ADMIN_TOKEN", "MINIMAX_API_KEY"} & set(variables)
        assert variables["STANDIN_KEY"] == API_KEY
        assert variables["CODEX_ACCESS"] == "kept"
    assert os.environ.get("STANDIN_KEY") is None
