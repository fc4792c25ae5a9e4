"""The MCP server as codex runs it: a process of its own on stdio, driven by the official client."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime.mcp_tool import ToolError
from molecule_runtime.mcp_tools import DelegateArguments, Toolbox
from molecule_runtime.platform import PlatformClient
from support.fake_platform import Peer
from support.mcp_agent import agent_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.fake_platform import FakePlatform
    from support.mcp_agent import Agent
    from unit.runtime.conftest import LiveWorkspace

pytestmark = pytest.mark.anyio

_REPOSITORY = Path(__file__).resolve().parents[3]
_PYTHONPATH = f"{_REPOSITORY / 'files/runtime'}:{_REPOSITORY / 'files/config_document'}"
TOOLS = [
    "list_peers",
    "delegate_task",
    "delegate_task_async",
    "check_task_status",
    "get_workspace_info",
    "send_message_to_user",
    "commit_memory",
    "recall_memory",
    "create_request",
    "create_approval",
    "chat_history",
    "get_runtime_identity",
    "update_agent_card",
    "broadcast_message",
    "goal_set",
    "goal_get",
    "goal_clear",
    "task_add",
    "task_list",
    "task_update",
    "task_complete",
]


@pytest.fixture
async def agent(platform: FakePlatform, configs: Path) -> AsyncIterator[Agent]:
    async with agent_process(platform, configs) as running:
        yield running


async def test_the_tools_are_declared_with_their_arguments_and_answer_a_ping(agent: Agent) -> None:
    await agent.session.send_ping()
    listed = (await agent.session.list_tools()).tools
    assert [tool.name for tool in listed] == TOOLS
    required = {tool.name: tool.input_schema.get("required", []) for tool in listed}
    assert required["delegate_task"] == ["workspace_id", "task"]
    assert required["send_message_to_user"] == ["message"]
    assert required["commit_memory"] == ["content"]
    scopes = next(tool for tool in listed if tool.name == "recall_memory").input_schema["properties"]["scope"]
    assert scopes["enum"] == ["LOCAL", "TEAM", "GLOBAL", ""]
    assert {tool.name for tool in listed if tool.annotations and tool.annotations.read_only_hint} == {
        "list_peers",
        "check_task_status",
        "get_workspace_info",
        "recall_memory",
        "chat_history",
        "get_runtime_identity",
        "goal_get",
        "task_list",
    }


async def test_peers_are_listed_one_a_line_with_what_is_needed_to_delegate(agent: Agent) -> None:
    assert await agent.call("list_peers") == "No peers available (this workspace may be isolated)"
    agent.platform.add_peer(Peer("ws-b", "Bee", role="tester", parent_id="ws-parent"))
    agent.platform.add_peer(Peer("ws-elsewhere", "Stranger", parent_id="another"))
    assert await agent.call("list_peers") == "- Bee (ID: ws-b, status: online, role: tester)"


async def test_a_refused_token_is_an_error_and_not_an_empty_list_of_peers(agent: Agent) -> None:
    """B-1: "No peers found" was shown for a 401."""
    agent.platform.rotate_token()
    text = await agent.error("list_peers")
    assert "401" in text
    assert "No peers" not in text


async def test_a_token_that_the_runtime_renewed_is_taken_up_without_a_restart(
    agent: Agent, configs: Path
) -> None:
    agent.platform.rotate_token(configs / ".auth_token")
    assert (await agent.call("list_peers")).startswith("No peers")


async def test_a_platform_that_does_not_answer_is_named_as_such(agent: Agent) -> None:
    agent.platform.drop_next("peers", 3)
    assert "Error at http://127.0.0.1" in await agent.error("list_peers")


async def test_a_delegated_task_comes_back_with_the_peers_answer_and_leaves_two_rows_of_activity(
    agent: Agent, live: LiveWorkspace
) -> None:
    agent.platform.add_peer(Peer("ws-b", "Bee", url=live.url, parent_id="ws-parent"))
    answer = await agent.call("delegate_task", workspace_id="ws-b", task="say:for say:ty_two")
    assert answer == "forty two"
    assert [row["activity_type"] for row in agent.platform.activities] == ["a2a_send", "a2a_receive"]


async def test_a_peer_never_sees_the_bearer_of_this_workspace(agent: Agent, configs: Path) -> None:
    seen: dict[str, str] = {}

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.update((line.partition(": ")[0].lower(), line) for line in head.splitlines()[1:])
        body = b'{"jsonrpc":"2.0","id":1,"result":{"kind":"message","parts":[{"kind":"text","text":"ok"}]}}'
        writer.write(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(peer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        agent.platform.add_peer(Peer("ws-b", "Bee", url=f"http://127.0.0.1:{port}", parent_id="ws-parent"))
        assert await agent.call("delegate_task", workspace_id="ws-b", task="x") == "ok"
    assert seen["x-workspace-id"].endswith(": ws-self")
    assert "authorization" not in seen


async def test_a_peer_that_asks_for_its_bearer_is_reached_through_the_platform(agent: Agent) -> None:
    """MOLECULE_A2A_REQUIRE_AUTH at the peer: the platform has its bearer, and we have not."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        is_platform = "authorization: bearer secret-of-bee" in head
        status = "200 OK" if is_platform else "401 Unauthorized"
        result = b'{"jsonrpc":"2.0","id":1,"result":{"kind":"message","parts":[{"kind":"text","text":"ok"}]}}'
        body = result if is_platform else b'{"error":"unauthorized"}'
        writer.write(
            f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(peer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        bee = Peer("ws-b", "Bee", url=url, parent_id="ws-parent", inbound_secret="secret-of-bee")
        agent.platform.add_peer(bee)
        assert await agent.call("delegate_task", workspace_id="ws-b", task="x") == "ok"
        bee.inbound_secret = "another"
        assert "unauthorized" in await agent.error("delegate_task", workspace_id="ws-b", task="x")


@pytest.mark.parametrize(
    ("script", "expected"), [("say:half fail:no_quota", "JSON-RPC error -32603"), ("fail:tired", "tired")]
)
async def test_a_failed_delegation_names_the_peer_the_cause_and_what_else_to_do(
    agent: Agent, live: LiveWorkspace, script: str, expected: str
) -> None:
    agent.platform.add_peer(Peer("ws-b", "Bee", url=live.url, parent_id="ws-parent"))
    text = await agent.error("delegate_task", workspace_id="ws-b", task=script)
    assert text.startswith("DELEGATION FAILED to Bee: ")
    assert expected in text
    assert "another peer" in text
    assert agent.platform.activities[-1]["status"] == "error"


async def test_a_peer_that_is_away_or_out_of_reach_is_named_with_the_kind_of_error(agent: Agent) -> None:
    agent.platform.add_peer(Peer("ws-b", "Bee", url="http://127.0.0.1:9", parent_id="ws-parent"))
    agent.platform.add_peer(Peer("ws-c", "Stranger", url="http://127.0.0.1:9", parent_id="another"))
    assert "ConnectError" in await agent.error("delegate_task", workspace_id="ws-b", task="x")
    assert "403" in await agent.error("delegate_task", workspace_id="ws-c", task="x")
    assert "404" in await agent.error("delegate_task", workspace_id="ws-d", task="x")


async def test_a_slow_delegation_holds_up_nothing_else(agent: Agent, live: LiveWorkspace) -> None:
    agent.platform.add_peer(Peer("ws-b", "Bee", url=live.url, parent_id="ws-parent"))
    slow = asyncio.create_task(agent.call("delegate_task", workspace_id="ws-b", task="gate:g say:done"))
    await live.executor.reached["g"].wait()
    assert [tool.name for tool in (await agent.session.list_tools()).tools] == TOOLS
    assert "Bee" in await agent.call("list_peers")
    live.executor.gates["g"].set()
    assert await slow == "done"


async def test_handing_over_a_task_twice_is_reported_as_the_same_delegation_and_no_error(
    agent: Agent,
) -> None:
    agent.platform.add_peer(Peer("ws-b", "Bee", parent_id="ws-parent"))
    first = json.loads(await agent.call("delegate_task_async", workspace_id="ws-b", task="count"))
    second = json.loads(await agent.call("delegate_task_async", workspace_id="ws-b", task="count"))
    assert first["status"] == second["status"] == "delegated"
    assert first["delegation_id"] == second["delegation_id"]
    assert "before" in second["note"]


async def test_the_state_of_delegations_is_told_one_or_all(agent: Agent, live: LiveWorkspace) -> None:
    agent.platform.add_peer(Peer("ws-b", "Bee", parent_id="ws-parent"))
    given = json.loads(await agent.call("delegate_task_async", workspace_id="ws-b", task="count"))
    agent.platform.finish_delegation(given["delegation_id"], response_preview="3")
    row = json.loads(await agent.call("check_task_status", workspace_id="", task_id=given["delegation_id"]))
    assert (row["status"], row["response_preview"]) == ("completed", "3")
    everything = json.loads(await agent.call("check_task_status", workspace_id="", task_id=""))
    assert everything["count"] == 1
    nothing = json.loads(await agent.call("check_task_status", workspace_id="", task_id="unknown"))
    assert nothing == {"status": "not_found", "delegation_id": "unknown"}


async def test_the_workspaces_own_row_is_told_and_a_failure_is_an_error_in_json(agent: Agent) -> None:
    assert json.loads(await agent.call("get_workspace_info"))["id"] == "ws-self"
    agent.platform.reject_next("workspace", 404)
    assert "404" in json.loads(await agent.error("get_workspace_info"))["error"]


async def test_a_message_to_the_user_carries_files_and_none_is_sent_if_a_file_is_missing(
    agent: Agent, tmp_path: Path
) -> None:
    report = tmp_path / "report.pdf"
    report.write_bytes(b"%PDF")
    assert await agent.call("send_message_to_user", message="hi") == "Message sent to user"
    sent = await agent.call("send_message_to_user", message="see", attachments=[str(report)])
    assert sent == "Message sent to user with 1 attachment(s)"
    assert agent.platform.notifications[-1]["attachments"][0]["mimeType"] == "application/pdf"
    already = {"uri": "workspace:/workspace/a.txt", "name": "a.txt", "mimeType": "text/plain", "size": 3}
    mixed = [{"path": str(report)}, already, {"uri": "workspace:/workspace/b.txt"}]
    await agent.call("send_message_to_user", message="see", attachments=mixed)
    first, *others = agent.platform.notifications.pop()["attachments"]
    assert first["name"] == "report.pdf"
    assert others == [already, {"uri": "workspace:/workspace/b.txt", "name": "b.txt"}]
    for bad in (
        "relative.txt",
        str(tmp_path / "missing"),
        str(tmp_path),
        7,
        None,
        "",
        {},
        {"file": str(report)},
        {"path": 3},
        {"uri": "workspace:/x", "name": 3},
        [str(report)],
    ):
        assert "no message was sent" in await agent.error(
            "send_message_to_user", message="x", attachments=[bad]
        )
    agent.platform.switches.lose_uploads = 1
    assert "stored 0" in await agent.error("send_message_to_user", message="x", attachments=[str(report)])
    assert len(agent.platform.notifications) == 2


async def test_the_hint_of_a_platform_that_forbids_messages_reaches_the_model(agent: Agent) -> None:
    agent.platform.switches.talk_to_user = False
    assert "Report to your parent instead" in await agent.error("send_message_to_user", message="hi")


async def test_memories_are_kept_without_secrets_and_found_again(agent: Agent) -> None:
    assert await agent.call("recall_memory") == "No memories found."
    stored = await agent.call("commit_memory", content="the key is sk-abcdefghijklmnopqrstuvwx", scope="TEAM")
    assert json.loads(stored)["success"]
    assert await agent.call("recall_memory", query="key") == "[TEAM] the key is [redacted]"
    assert await agent.call("recall_memory", scope="LOCAL") == "No memories found."
    assert "403" in await agent.error("commit_memory", content="x", scope="GLOBAL")
    agent.platform.switches.memory_available = False
    assert "memory backend missing" in await agent.error("commit_memory", content="x")


async def test_arguments_that_do_not_fit_are_an_error_that_says_which(agent: Agent) -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("delegate_task", {"workspace_id": " ", "task": "x"}, "Error: workspace_id must not be empty"),
        ("delegate_task_async", {"workspace_id": "ws-b", "task": ""}, "Error: task must not be empty"),
        ("send_message_to_user", {"message": ""}, "Error: message must not be empty"),
        ("commit_memory", {}, "Error: content: Field required"),
        ("commit_memory", {"content": "x", "scope": "WORLD"}, "Error: scope: Input should be"),
        ("frobnicate", {}, "Error: unknown tool frobnicate"),
    ]
    for tool, arguments, expected in cases:
        assert (await agent.error(tool, **arguments)).startswith(expected)


async def test_a_role_that_may_only_read_cannot_write_or_delegate(
    platform: FakePlatform, configs: Path
) -> None:
    (configs / "config.yaml").write_text("rbac: {roles: [read-only]}\n")
    async with agent_process(platform, configs) as agent:
        assert await agent.call("recall_memory") == "No memories found."
        assert "do not allow memory.write" in await agent.error("commit_memory", content="x")
        assert "do not allow delegate" in await agent.error("delegate_task", workspace_id="ws-b", task="x")


async def test_a_busy_peer_gets_the_task_durably_and_its_result_is_waited_for(
    platform: FakePlatform, configs: Path
) -> None:
    platform.rotate_token(configs / ".auth_token")
    platform.switches.a2a_reply = "queued"
    platform.switches.deliver = False
    platform.add_peer(Peer("ws-b", "Bee", url=f"{platform.url}/workspaces/ws-b/a2a", parent_id="ws-parent"))
    client = PlatformClient(platform.url, "ws-self")
    toolbox = Toolbox(client, frozenset({"delegate"}), queued_poll_seconds=0.01)
    given = DelegateArguments(workspace_id="ws-b", task="count")
    waiting = asyncio.create_task(toolbox.delegate_task(given))
    await platform.wait_for(lambda: len(platform.calls_to("delegations")) >= 2)
    platform.finish_delegation(platform.delegations[0]["delegation_id"], response_preview="3")
    assert await waiting == "3"
    await client.aclose()


async def test_a_task_that_stays_queued_is_left_with_its_id(platform: FakePlatform, configs: Path) -> None:
    platform.rotate_token(configs / ".auth_token")
    platform.switches.a2a_reply = "busy"
    platform.switches.deliver = False
    platform.add_peer(Peer("ws-b", "Bee", url=f"{platform.url}/workspaces/ws-b/a2a", parent_id="ws-parent"))
    client = PlatformClient(platform.url, "ws-self")
    toolbox = Toolbox(client, frozenset({"delegate"}), queued_seconds=0.0, queued_poll_seconds=0.01)
    with pytest.raises(ToolError, match="queued as"):
        await toolbox.delegate_task(DelegateArguments(workspace_id="ws-b", task="count"))
    await client.aclose()


@pytest.mark.parametrize(
    "variables", [{"WORKSPACE_ID": ""}, {"WORKSPACE_ID": "a/b"}, {"PLATFORM_URL": "nonsense"}]
)
async def test_an_environment_that_the_server_cannot_use_ends_it_with_2_and_a_line(
    variables: dict[str, str],
) -> None:
    environment = {"PYTHONPATH": _PYTHONPATH, "WORKSPACE_ID": "ws-self", **variables}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "molecule_runtime.a2a_mcp_server",
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.decode().count("[FAIL]") == 1


async def test_without_a_platform_there_are_no_tools_and_no_error(
    platform: FakePlatform, configs: Path
) -> None:
    async with agent_process(platform, configs, PLATFORM_URL="off") as agent:
        assert (await agent.session.list_tools()).tools == []
