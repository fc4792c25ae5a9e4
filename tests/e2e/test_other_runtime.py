"""The adapter under a runtime that has the public base of an adapter and nothing else of ours."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from support.codex_workbench import API_KEY
from support.responses_server import Answer, HttpError, ResponsesServer
from support.workspace_process import OTHER, WorkspaceProcess, answer_of, request

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_messages_are_answered_and_the_prompt_files_are_the_agents_instructions(
    tmp_path: Path, model: ResponsesServer, codex: Path
) -> None:
    model.script(Answer.text("Hello."), Answer.text("Bye."))
    workspace = WorkspaceProcess(tmp_path, model.base_url, codex, runtime=OTHER)
    (workspace.configs / "system-prompt.md").write_text("You are terse.\n")
    async with workspace:
        assert answer_of(await workspace.send("hello")) == "Hello."
        assert answer_of(await workspace.send("bye")) == "Bye."
    assert any("You are terse." in text for role, text in model.requests[0].texts if role == "developer")
    assert model.requests[1].user_texts == ["hello", "bye"]
    assert API_KEY not in workspace.log


async def test_a_runtime_without_tools_of_the_platform_gets_none_configured(
    tmp_path: Path, codex: Path
) -> None:
    workspace = WorkspaceProcess(tmp_path, "http://127.0.0.1:9/v1", codex, runtime=OTHER)
    async with workspace:
        pass
    assert "mcp_servers" not in tomllib.loads((workspace.home / ".codex" / "config.toml").read_text())


async def test_what_is_wrong_is_served_by_the_runtime(tmp_path: Path, codex: Path) -> None:
    workspace = WorkspaceProcess(tmp_path, "http://127.0.0.1:9/v1", codex, runtime=OTHER, STANDIN_KEY="")
    async with workspace:
        response = await workspace.http.post("/", json=request("message/send", "hello"))
        assert "no credential for provider standin: set STANDIN_KEY" in response.json()["error"]["data"]


async def test_a_key_that_an_endpoint_quotes_does_not_reach_the_user(
    tmp_path: Path, model: ResponsesServer, codex: Path
) -> None:
    model.script(HttpError(400, "Incorrect API key provided: sk-proj-0123456789abcdefABCDEF"))
    async with WorkspaceProcess(tmp_path, model.base_url, codex, runtime=OTHER) as workspace:
        task = json.dumps(await workspace.send("hello"))
    assert '"failed"' in task
    assert "sk-proj-0123456789abcdefABCDEF" not in task
