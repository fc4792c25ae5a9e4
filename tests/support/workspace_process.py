"""The whole workspace as a process of its own, with the real codex, for tests: spoken to as a client does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from support.codex_workbench import API_KEY, PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["BUNDLED", "OTHER", "WorkspaceProcess", "answer_of", "request"]

_ROOT = Path(__file__).parents[2]
BUNDLED = str(_ROOT / "files/runtime")
OTHER = str(_ROOT / "tests/support/other_runtime")
"""A runtime with the public base of an adapter and no more."""
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


class WorkspaceProcess:
    """A running workspace on a port of its own; `directory` survives restarts."""

    def __init__(
        self, directory: Path, base_url: str, codex: Path, *, runtime: str = BUNDLED, **env: str
    ) -> None:
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
            "PYTHONPATH": f"{_ROOT / 'files/app'}:{_ROOT / 'files/config_document'}:{runtime}",
            "STANDIN_KEY": API_KEY,
            **env,
        }
        self._log = directory / "log.txt"

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "molecule_runtime.main",
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
            await self.http.get("/.well-known/agent-card.json")
        except httpx.TransportError:
            # Nothing tells from outside when a process begins to listen: ask again.
            await asyncio.sleep(0.05)
            return False
        return True

    async def send(self, text: str) -> dict[str, Any]:
        """`message/send` of dialect 0.3; the result."""
        response = await self.http.post("/", json=request("message/send", text))
        body = response.json()
        assert "result" in body, body
        result: dict[str, Any] = body["result"]
        return result

    async def stream(self, text: str) -> AsyncIterator[dict[str, Any]]:
        """`message/stream` of dialect 0.3; the results, as they come."""
        async with self.http.stream("POST", "/", json=request("message/stream", text)) as response:
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))["result"]


def request(method: str, text: str) -> dict[str, Any]:
    """A JSON-RPC request of dialect 0.3 with one text."""
    message = {"messageId": str(uuid.uuid4()), "role": "user", "parts": [{"kind": "text", "text": text}]}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"message": message}}


def answer_of(task: dict[str, Any]) -> str:
    """The text of a completed task's answer."""
    assert task["status"]["state"] == "completed", task
    text: str = task["artifacts"][0]["parts"][0]["text"]
    return text
