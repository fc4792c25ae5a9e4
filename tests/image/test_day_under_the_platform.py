"""A day in the life of a workspace under its platform: one image, one set of volumes, from its creation on.

The tests are the hours of that day and build on one another. The configuration is what the platform
generates, the model's endpoint is the platform's metered proxy first, and a vendor's own at the end; each has
a key of its own, and answers nobody who brings the other's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.fake_platform import FakePlatform, Peer
from support.responses_server import Answer, Call, ResponsesServer
from support.secret_search import find_secrets
from support.workspace_container import WorkspaceContainer, gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

USAGE_TOKEN = "usage-token-of-the-proxy"
VENDOR_KEY = "key-of-the-vendor"
# What the platform writes for every workspace that it creates: these keys, in this order. The stamp is
# made without a look at credentials.
CONFIG = """\
name: "Backend: API"
description: "Backend engineer"
version: 1.0.0
tier: 3
runtime: codex
model: "gpt-5.5"
provider: 'openai-subscription'
runtime_config:
  provider: 'openai-subscription'
  timeout: 0
"""
PLUGIN = """\
import json, sys
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}}
INFO = {"capabilities": {"tools": {}}, "serverInfo": {"name": "notes", "version": "1"}}
for line in sys.stdin:
    message = json.loads(line)
    params = message.get("params", {})
    result = {"tools": [{"name": "write", "description": "Write a note.", "inputSchema": TEXT}]}
    if message["method"] == "initialize":
        result = {**INFO, "protocolVersion": params["protocolVersion"]}
    elif message["method"] == "tools/call":
        open("/workspace/notes.txt", "a").write(params["arguments"]["text"])
        result = {"content": [{"type": "text", "text": "noted"}]}
    if "id" in message:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
FORGE = "https://forge.example/"


@pytest.fixture(scope="module")
async def platform() -> AsyncIterator[FakePlatform]:
    running = FakePlatform("api")
    running.instructions = "Answer in English."
    running.add_peer(Peer("ws-b", "Bee", role="tester", parent_id="ws-parent"))
    await running.start(await gateway())
    yield running
    await running.stop()
    running.check()


@pytest.fixture(scope="module")
async def proxy() -> AsyncIterator[ResponsesServer]:
    """The platform's metered proxy."""
    async with ResponsesServer(api_key=USAGE_TOKEN, host=await gateway()) as server:
        yield server
        server.check()


@pytest.fixture(scope="module")
async def vendor() -> AsyncIterator[ResponsesServer]:
    """An endpoint of another vendor."""
    async with ResponsesServer(api_key=VENDOR_KEY, host=await gateway()) as server:
        yield server
        server.check()


@pytest.fixture(scope="module")
async def workspace(
    image: str, platform: FakePlatform, proxy: ResponsesServer
) -> AsyncIterator[WorkspaceContainer]:
    """The workspace as the platform creates it, with the proxy as the provider that it has resolved."""
    async with WorkspaceContainer(
        image,
        CONFIG,
        env={
            "TIER": "3",
            "MODEL": "openai/gpt-5.4",
            "MOLECULE_MODEL": "openai/gpt-5.4",
            "MOLECULE_RESOLVED_PROVIDER": "platform",
            "MOLECULE_LLM_BASE_URL": proxy.base_url,
            "MOLECULE_LLM_USAGE_TOKEN": USAGE_TOKEN,
            "OPENAI_BASE_URL": proxy.base_url,
            "OPENAI_API_KEY": USAGE_TOKEN,
            # The platform declares a plugin everywhere, whether or not there is a forge.
            "MOLECULE_DECLARED_PLUGINS": "gitea://org/scheduler",
        },
        files={".auth_token": platform.issue_token()},
        platform=platform,
    ) as running:
        yield running


async def said(platform: FakePlatform, text: str) -> dict[str, Any]:
    """The task that comes of a person's message."""
    answer = await platform.send(text)
    assert "result" in answer, answer
    result: dict[str, Any] = answer["result"]
    return result


def text_of(task: dict[str, Any]) -> str:
    assert task["status"]["state"] == "completed", task["status"]
    return "".join(part["text"] for artifact in task["artifacts"] for part in artifact["parts"])


def reason_of(task: dict[str, Any]) -> str:
    assert task["status"]["state"] == "failed", task["status"]
    text: str = task["status"]["message"]["parts"][0]["text"]
    return text


def servers_of(server: ResponsesServer) -> set[str]:
    """The MCP servers whose tools the model was offered last; one that is gone may leave a remark."""
    tools = server.requests[-1].body["tools"]
    return {tool["name"].strip("_") for tool in tools if tool["type"] == "namespace" and not _gone(tool)}


def _gone(namespace: dict[str, Any]) -> bool:
    return all("is not currently available" in tool["description"] for tool in namespace["tools"])


async def test_it_is_created_and_answers_through_the_proxy(
    workspace: WorkspaceContainer, platform: FakePlatform, proxy: ResponsesServer
) -> None:
    """With the file that the platform generates, whatever its stamp says."""
    ready = await workspace.http.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True})
    await platform.wait_for(lambda: len(platform.heartbeats) > 0)
    assert platform.registrations[-1]["agent_card"]["name"] == "Backend: API"
    proxy.script(Answer.text("I am here."))
    answer = await platform.send("hello")
    task = answer["result"]
    assert text_of(task) == "I am here."
    assert proxy.requests[-1].body["model"] == "openai/gpt-5.4"
    told = "\n".join(text for role, text in proxy.requests[-1].texts if role == "developer")
    assert "You are 'Backend: API', the agent of workspace api (tier 3)" in told
    assert "Answer in English." in told
    assert "- Bee (ws-b): tester" in told
    assert task["usage"]["input_tokens"] > 0


async def test_a_person_changes_the_model_and_the_file_stays(
    workspace: WorkspaceContainer, platform: FakePlatform, proxy: ResponsesServer
) -> None:
    await workspace.recreate(MODEL="openai/gpt-5.4-mini", MOLECULE_MODEL="openai/gpt-5.4-mini")
    proxy.script(Answer.text("Smaller now."))
    assert text_of(await said(platform, "which model?")) == "Smaller now."
    assert proxy.requests[-1].body["model"] == "openai/gpt-5.4-mini"
    assert proxy.requests[-1].user_texts == ["hello", "which model?"]
    assert await workspace.sh("cat /configs/config.yaml") == CONFIG.strip()


async def test_what_it_does_appears_there_row_by_row(
    workspace: WorkspaceContainer, platform: FakePlatform, proxy: ResponsesServer
) -> None:
    platform.activities.clear()
    proxy.script(
        Call("exec_command", {"cmd": "echo built; echo sk-abcdefghijklmnopqrstuvwx >&2"}),
        Call("list_peers", namespace="mcp__molecule__"),
        Answer.text("Done."),
    )
    task = await said(platform, "build it")
    assert text_of(task) == "Done."

    def rows() -> list[str]:
        return [row["method"] for row in platform.activities if row["activity_type"] == "agent_log"]

    await platform.wait_for(lambda: len(rows()) >= 2)
    assert rows() == ["commandExecution", "mcp__molecule__list_peers"]
    assert all(row["summary"].startswith("🛠 ") for row in platform.activities if row["method"] in rows())
    assert [step["tool"] for step in task["metadata"]["tool_trace"]] == rows()
    assert "sk-abcdefghijkl" not in json.dumps([platform.activities, task])


async def test_a_person_is_asked_and_the_decision_comes_as_a_message(
    workspace: WorkspaceContainer, platform: FakePlatform, proxy: ResponsesServer
) -> None:
    proxy.script(
        Call("create_approval", {"action": "Deploy", "reason": "Tests pass"}, namespace="mcp__molecule__"),
        Answer.text("I have asked."),
        Answer.text("Then I deploy."),
    )
    assert text_of(await said(platform, "deploy it")) == "I have asked."
    (asked,) = platform.requests
    assert (asked["kind"], asked["title"], asked["status"]) == ("approval", "Deploy", "pending")
    decided = await platform.answer_request(asked["request_id"], "approved")
    assert text_of(decided["result"]) == "Then I deploy."
    assert "was approved" in proxy.requests[-1].last_user_text


async def test_its_token_is_rotated_and_no_call_breaks(
    workspace: WorkspaceContainer, platform: FakePlatform, proxy: ResponsesServer
) -> None:
    await workspace.put("/configs", {".auth_token": platform.issue_token()}, owner=1000)
    proxy.script(Call("list_peers", namespace="mcp__molecule__"), Answer.text("Bee is there."))
    assert text_of(await said(platform, "who is there?")) == "Bee is there."
    (*_, output) = proxy.requests[-1].tool_outputs.values()
    assert "Bee (ID: ws-b" in json.dumps(output)


async def test_a_plugin_is_declared_and_then_it_is_not_any_more(
    workspace: WorkspaceContainer, platform: FakePlatform, proxy: ResponsesServer
) -> None:
    servers = {"mcpServers": {"notes": {"command": "python3", "args": ["/configs/plugins/notes/server.py"]}}}
    await workspace.put(
        "/workspace",
        {
            "forge/org/notes/server.py": PLUGIN,
            "forge/org/notes/mcp-servers.json": json.dumps(servers),
            "forge/org/notes/rules/always.md": "Keep notes of what you decide.",
        },
        owner=1000,
    )
    identity = "-c user.name=t -c user.email=t@example.com"
    await workspace.sh(
        "cd /workspace/forge/org/notes && git init -q -b main && git add . &&"
        f" git {identity} commit -q -m notes",
        user="agent",
    )
    await workspace.recreate(
        MOLECULE_DECLARED_PLUGINS="gitea://org/scheduler,gitea://org/notes",
        MOLECULE_PLUGIN_REGISTRY=FORGE.rstrip("/"),
        GIT_CONFIG_COUNT="1",
        GIT_CONFIG_KEY_0="url.file:///workspace/forge/.insteadOf",
        GIT_CONFIG_VALUE_0=FORGE,
    )
    assert "plugin scheduler: git fetch failed" in await workspace.logs()
    proxy.script(Call("write", {"text": "blue"}, namespace="mcp__notes__"), Answer.text("Noted."))
    assert text_of(await said(platform, "note that blue is the colour")) == "Noted."
    assert await workspace.sh("cat /workspace/notes.txt") == "blue"
    assert "mcp__notes" in servers_of(proxy)
    await workspace.recreate(MOLECULE_DECLARED_PLUGINS="gitea://org/scheduler")
    proxy.script(Answer.text("Gone."))
    assert text_of(await said(platform, "and now?")) == "Gone."
    assert "mcp__notes" not in servers_of(proxy)
    assert await workspace.sh("ls -A /configs/plugins") == ".declared.json"


async def test_a_budget_is_set_and_hit_and_holds_over_a_restart(
    workspace: WorkspaceContainer, platform: FakePlatform, proxy: ResponsesServer
) -> None:
    await workspace.recreate(CODEX_WORKSPACE_BUDGET_DAILY_TOKENS="1")
    before = len(proxy.requests)
    for _ in range(2):
        reason = reason_of(await said(platform, "go on"))
        assert "budget" in reason.lower()
        assert "opens again" in reason
        await workspace.restart()
    assert len(proxy.requests) == before, "the model was asked although the budget is spent"
    await workspace.recreate(CODEX_WORKSPACE_BUDGET_DAILY_TOKENS=None)
    proxy.script(Answer.text("On again."))
    assert text_of(await said(platform, "go on")) == "On again."


async def test_the_platform_is_away_for_a_while_and_no_turn_notices(
    workspace: WorkspaceContainer, platform: FakePlatform, proxy: ResponsesServer
) -> None:
    port = int(platform.url.rpartition(":")[2])
    await platform.stop()
    proxy.script(
        Call("list_peers", namespace="mcp__molecule__"),
        Answer.text("Nobody answers."),
        Answer.text("Still here."),
    )
    assert await workspace.answer("who is there?") == "Nobody answers."
    await workspace.restart()
    assert await workspace.answer("are you there?") == "Still here."
    platform.registrations.clear()
    await platform.start(await gateway(), port)
    await platform.wait_for(lambda: len(platform.registrations) > 0, seconds=60)
    proxy.script(Answer.text("Back."))
    assert text_of(await said(platform, "and now?")) == "Back."


async def test_it_is_moved_to_another_provider_and_no_token_goes_along(
    workspace: WorkspaceContainer, platform: FakePlatform, proxy: ResponsesServer, vendor: ResponsesServer
) -> None:
    """What is left of the old one in config.toml must not win, and its token must not reach the new one."""
    before = len(proxy.requests)
    await workspace.recreate(
        MODEL="codex-minimax-m2.7",
        MOLECULE_MODEL="codex-minimax-m2.7",
        MOLECULE_RESOLVED_PROVIDER="byok-minimax",
        MINIMAX_API_KEY=VENDOR_KEY,
        MINIMAX_BASE_URL=vendor.base_url,
        MOLECULE_LLM_BASE_URL=None,
        MOLECULE_LLM_USAGE_TOKEN=None,
        OPENAI_API_KEY=None,
        OPENAI_BASE_URL=None,
    )
    vendor.script(Answer.text("Elsewhere."))
    assert text_of(await said(platform, "where are you?")) == "Elsewhere."
    assert vendor.requests[-1].headers["authorization"] == f"Bearer {VENDOR_KEY}"
    assert "hello" in vendor.requests[-1].user_texts
    assert len(proxy.requests) == before


async def test_at_its_end_each_secret_is_where_it_belongs(workspace: WorkspaceContainer) -> None:
    token = await workspace.sh("cat /configs/.auth_token")
    found = await find_secrets(workspace, {"usage": USAGE_TOKEN, "vendor": VENDOR_KEY, "token": token})
    assert found.pop("token") == {"/configs/.auth_token"}
    assert {name: places for name, places in found.items() if places} == {}
