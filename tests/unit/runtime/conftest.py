"""What the runtime's tests share: a configs directory of their own, a platform, a workspace that serves."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from molecule_runtime import platform_auth, wedge
from molecule_runtime.access import Access
from molecule_runtime.cards import build_card
from molecule_runtime.config import WorkspaceConfig
from molecule_runtime.routes_internal import InternalRoutes
from molecule_runtime.server import Workspace, build_app
from molecule_runtime.turns import TurnExecutor
from support.fake_platform import FakePlatform
from support.live_app import serve_on_loopback
from support.scripted_adapter import Adapter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from a2a.types import AgentCard

    from support.scripted_adapter import ScriptedExecutor


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A configs directory for one test, and no memory of the last one."""
    directory = tmp_path / "configs"
    directory.mkdir()
    for name in ("ADAPTER_MODULE", "PLATFORM_URL", "WORKSPACE_ID", "WORKSPACE_CONFIG_PATH", "LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CONFIGS_DIR", str(directory))
    monkeypatch.setenv("DELEGATION_RESULTS_FILE", str(tmp_path / "results.jsonl"))
    platform_auth.refresh_cache()
    wedge.clear_wedge()
    yield directory
    wedge.clear_wedge()


@pytest.fixture
async def platform() -> AsyncIterator[FakePlatform]:
    """A platform that at the end has seen nothing wrong."""
    async with FakePlatform() as running:
        yield running
    running.check()


@dataclass
class LiveWorkspace:
    """A workspace on a real port, whose turns do what a test's message says."""

    url: str
    http: httpx.AsyncClient
    adapter: Adapter
    workspace: Workspace

    @property
    def executor(self) -> ScriptedExecutor:
        return self.adapter.executor

    async def rpc(self, method: str, params: Any, **headers: str) -> dict[str, Any]:
        """The JSON answer to one request; header names with `_` for `-`."""
        body = {"jsonrpc": "2.0", "id": "q1", "method": method, "params": params}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer: dict[str, Any] = (await self.http.post("/", json=body, headers=named)).json()
        assert answer["id"] == "q1"
        return answer

    async def send(self, script: str, **headers: str) -> dict[str, Any]:
        """`message/send` in the 0.3 dialect; its `result`."""
        result: dict[str, Any] = (await self.rpc("message/send", message03(script), **headers))["result"]
        return result


@contextlib.asynccontextmanager
async def live_workspace(
    tmp_path: Path,
    config: WorkspaceConfig | None = None,
    *,
    access: Access | None = None,
    card: AgentCard | None = None,
    configured: bool = True,
) -> AsyncIterator[LiveWorkspace]:
    adapter = Adapter()
    config = config or WorkspaceConfig()
    workspace = Workspace(
        card=card or build_card(config, "http://workspace:8000", adapter.input_modes()),
        adapter=adapter,
        executor=TurnExecutor(adapter.executor) if configured else None,
        access=access or Access(),
        internal=InternalRoutes(
            tmp_path / "workspace", [tmp_path / "configs", tmp_path / "workspace", tmp_path / "home"]
        ),
    )
    (tmp_path / "workspace").mkdir(exist_ok=True)
    async with (
        serve_on_loopback(build_app(workspace)) as url,
        httpx.AsyncClient(base_url=url, timeout=20) as http,
    ):
        yield LiveWorkspace(url, http, adapter, workspace)
        for gate in adapter.executor.gates.values():
            gate.set()
    if workspace.handler is not None:
        await workspace.handler.aclose()


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveWorkspace]:
    async with live_workspace(tmp_path) as running:
        yield running


def credential() -> dict[str, str]:
    """The header of somebody who holds the workspace's token, and so may read what all have said."""
    platform_auth.save_token("token-of-the-workspace")
    return {"Authorization": "Bearer token-of-the-workspace"}


def message03(script: str, **extra: Any) -> dict[str, Any]:
    message = {
        "kind": "message",
        "messageId": "m1",
        "role": "user",
        "parts": [{"kind": "text", "text": script}],
    }
    return {"message": message, **extra}


def message10(script: str, **extra: Any) -> dict[str, Any]:
    return {"message": {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": script}]}, **extra}
