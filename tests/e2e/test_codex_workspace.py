"""The whole workspace as a process: runtime, adapter, real codex, spoken to over HTTP as a client does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest

from support.codex_workbench import API_KEY, PATIENCE
from support.responses_server import Answer, Gate, ResponsesServer, Silence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

_ROOT = Path(__file__).parents[2]
_CONFIG = """\
name: Test workspace
runtime_config:
  provider: standin
providers:
  - name: standin
    auth_mode: openai_compat_responses
    base_url: {base_url}
    auth_env: [STANDIN_KEY]
a2a:
  port: {port}
"""


class Workspace:
    """A running workspace on a port of its own; `directory` survives restarts."""

    def __init__(self, directory: Path, base_url: str, codex: Path, **env: str) -> None:
        self.configs = directory / "configs"
        self.home = directory / "home"
        for path in (self.configs, self.home):
            path.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (self.configs / "config.yaml").write_text(_CONFIG.format(base_url=base_url, port=self.port))
        binaries = directory / "bin"
        binaries.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (binaries / "codex").symlink_to(codex)
        self._env = {
            "PATH": f"{binaries}:/usr/bin:/bin",
            "HOME": str(self.home),
            "WORKSPACE_ID": "test-workspace",
            "PLATFORM_URL": "off",
            "WORKSPACE_CONFIG_PATH": str(self.configs),
            "CONFIGS_DIR": str(self.configs),
            "ADAPTER_MODULE": "adapter",
            "PYTHONPATH": ":".join(
                str(_ROOT / "files" / each) for each in ("app", "config_document", "runtime")
            ),
            "STANDIN_KEY": API_KEY,
            **env,
        }
        self._log = directory / "log.txt"

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                "import sys; from molecule_runtime.main import main; sys.exit(main([]))",
                env=self._env,
                cwd=self.home,
                stdout=log,
                stderr=log,
            )
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE)
        async with asyncio.timeout(PATIENCE):
            while not await self._serves():
                if self.process.returncode is not None:
                    raise AssertionError(self._log.read_text())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()
        if self.process.returncode is None:
            self.process.terminate()
            async with asyncio.timeout(PATIENCE):
                await self.process.wait()

    @property
    def log(self) -> str:
        """Everything it has logged."""
        return self._log.read_text()

    async def _serves(self) -> bool:
        try:
            await self.http.get("/healthz")
        except httpx.TransportError:
            # Nothing tells from outside when a process begins to listen: ask again.
            await asyncio.sleep(0.05)
            return False
        return True

    async def send(self, text: str) -> dict[str, Any]:
        """`message/send` of dialect 0.3; the result."""
        response = await self.http.post("/", json=_request("message/send", text))
        body = response.json()
        assert "result" in body, body
        result: dict[str, Any] = body["result"]
        return result

    async def stream(self, text: str) -> AsyncIterator[dict[str, Any]]:
        """`message/stream` of dialect 0.3; the results, as they come."""
        async with self.http.stream("POST", "/", json=_request("message/stream", text)) as response:
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))["result"]


def _request(method: str, text: str) -> dict[str, Any]:
    message = {"messageId": str(uuid.uuid4()), "role": "user", "parts": [{"kind": "text", "text": text}]}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"message": message}}


def _answer(task: dict[str, Any]) -> str:
    assert task["status"]["state"] == "completed", task
    text: str = task["artifacts"][0]["parts"][0]["text"]
    return text


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
    async with Workspace(tmp_path, model.base_url, codex) as workspace:
        assert (await workspace.http.get("/readyz")).json() == {"ready": True}
        assert _answer(await workspace.send("hello")) == "Hello."
        assert workspace.process.returncode is None
    assert API_KEY not in workspace.log


async def test_deltas_reach_an_http_client_while_the_model_still_speaks(
    tmp_path: Path, model: ResponsesServer, codex: Path
) -> None:
    gate = Gate()
    model.script(Answer(["One", gate, " two."]))
    async with Workspace(tmp_path, model.base_url, codex) as workspace:
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
    async with Workspace(tmp_path, model.base_url, codex) as workspace:
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
    async with Workspace(tmp_path, model.base_url, codex) as workspace:
        assert _answer(await workspace.send("which colour?")) == "Blue."
    assert model.requests[2].user_texts == ["my colour is blue", "hang", "which colour?"]


async def test_a_stopped_workspace_leaves_no_codex_behind(
    tmp_path: Path, model: ResponsesServer, codex: Path
) -> None:
    async with Workspace(tmp_path, model.base_url, codex) as workspace:
        (child,) = _children(workspace.process.pid)
        workspace.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await workspace.process.wait() == 0
        assert not _exists(child)


async def test_a_workspace_without_a_credential_says_what_to_set(tmp_path: Path, codex: Path) -> None:
    async with Workspace(tmp_path, "http://127.0.0.1:9/v1", codex, STANDIN_KEY="") as workspace:
        response = await workspace.http.post("/", json=_request("message/send", "hello"))
        assert response.status_code == 503
        assert "no credential for provider standin: set STANDIN_KEY" in response.json()["error"]["data"]


async def test_what_codex_wrote_down_is_the_transcript(
    tmp_path: Path, model: ResponsesServer, codex: Path
) -> None:
    model.script(Answer.text("Hello."))
    async with Workspace(tmp_path, model.base_url, codex) as workspace:
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
    secrets = {
        "OPENAI_API_KEY": "sk-other",
        "CODEX_ACCESS": "kept",
        "ADMIN_TOKEN": "t",
        "MINIMAX_API_KEY": "m",
    }
    async with Workspace(tmp_path, model.base_url, codex, **secrets) as workspace:
        (child,) = _children(workspace.process.pid)
        variables = _environment(child)
        assert not {"OPENAI_API_KEY", "ADMIN_TOKEN", "MINIMAX_API_KEY"} & set(variables)
        assert variables["STANDIN_KEY"] == API_KEY
        assert variables["CODEX_ACCESS"] == "kept"
    assert os.environ.get("STANDIN_KEY") is None
