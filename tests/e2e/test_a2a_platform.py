"""The whole workspace on a platform: runtime, adapter, the real codex, its MCP server, the fake platform."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.helpers import new_text_message
from a2a.types import CancelTaskRequest, Role, SendMessageRequest, TaskState

from molecule_runtime.proto import to_dict
from support.fake_platform import FakePlatform, Peer
from support.responses_server import Answer, Call, Gate, ResponsesServer, Silence
from support.runtime_process import RuntimeProcess, free_port, run_runtime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from a2a.client import Client

pytestmark = pytest.mark.anyio

MODEL_KEY = "test-key"
CONFIG = """\
name: Test workspace
runtime_config: {{provider: standin}}
providers:
  - name: standin
    auth_mode: openai_compat_responses
    base_url: {base_url}
    auth_env: [STANDIN_KEY]
a2a: {{port: {port}}}
"""
PEERS = Call("list_peers", namespace="mcp__molecule__")


@pytest.fixture
async def platform() -> AsyncIterator[FakePlatform]:
    async with FakePlatform() as running:
        running.add_peer(Peer("ws-b", "Bee", role="tester", parent_id="ws-parent"))
        yield running
    running.check()


@contextlib.asynccontextmanager
async def workspace(
    directory: Path, model: ResponsesServer, codex: Path, platform: FakePlatform, config: str = ""
) -> AsyncIterator[RuntimeProcess]:
    """A workspace with the real adapter, ready for messages; asked to stop at the end."""
    port = free_port()
    configs = directory / "configs"
    configs.mkdir(exist_ok=True)
    (configs / "config.yaml").write_text(CONFIG.format(base_url=model.base_url, port=port) + config)
    (directory / "bin").mkdir(exist_ok=True)
    (directory / "bin" / "codex").symlink_to(codex)
    environment = {
        "PATH": os.pathsep.join([str(directory / "bin"), "/usr/bin", "/bin"]),
        "WORKSPACE_ID": "ws-self",
        "PLATFORM_URL": platform.url,
        "HOSTNAME": "localhost",
        "WORKSPACE_CONFIG_PATH": str(configs),
        "CONFIGS_DIR": str(configs),
        "ADAPTER_MODULE": "adapter",
        "STANDIN_KEY": MODEL_KEY,
        "DELEGATION_RESULTS_FILE": str(directory / "results.jsonl"),
    }
    async with run_runtime(directory, port, environment) as running:
        ready = await running.ready()
        assert ready.status_code == 200, ready.text
        await platform.wait_for(lambda: bool(platform.registrations) and bool(platform.heartbeats))
        yield running
        assert await running.stop() == 0, "\n".join(running.log)


async def connected(running: RuntimeProcess, version: str, http: httpx.AsyncClient) -> Client:
    """The SDK's own client, which was shown the card of one dialect only and so speaks that one."""
    return await ClientFactory(ClientConfig(httpx_client=http)).create_from_url(
        running.url, resolver_http_kwargs={"headers": {"A2A-Version": version}}
    )


def request(text: str) -> SendMessageRequest:
    return SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER))


async def say(running: RuntimeProcess, version: str, text: str) -> str:
    """Send `text` in one dialect; what the agent has said at the end of its turn."""
    artifacts: dict[str, str] = {}
    state = TaskState.TASK_STATE_UNSPECIFIED
    async with httpx.AsyncClient(timeout=60) as http:
        client = await connected(running, version, http)
        async for event in client.send_message(request(text)):
            if event.HasField("artifact_update"):
                update = event.artifact_update
                before = artifacts.get(update.artifact.artifact_id, "") if update.append else ""
                said = "".join(part.text for part in update.artifact.parts)
                artifacts[update.artifact.artifact_id] = before + said
            state = event.status_update.status.state or state
    assert state == TaskState.TASK_STATE_COMPLETED
    return "".join(artifacts.values())


async def test_the_agent_sees_its_peers_through_the_real_codex_and_the_platform_sees_the_turn(
    tmp_path: Path, model: ResponsesServer, codex: Path, platform: FakePlatform
) -> None:
    """B-1, B-2: the MCP child is started by codex, finds the runtime's token, and lists the peers."""
    model.script(PEERS, Answer.text("Bee is there."))
    async with workspace(tmp_path, model, codex, platform) as running:
        assert await say(running, "1.0", "who is there?") == "Bee is there."
        (output,) = (await model.request(2)).tool_outputs.values()
        assert "Bee (ID: ws-b, status: online, role: tester)" in str(output)
        await platform.wait_for(lambda: platform.heartbeats[-1]["active_tasks"] == 0)
    assert 1 in [beat["active_tasks"] for beat in platform.heartbeats]


async def test_a_token_that_is_rotated_while_codex_runs_breaks_no_tool(
    tmp_path: Path, model: ResponsesServer, codex: Path, platform: FakePlatform
) -> None:
    """B-45: the MCP child takes up the token that the platform wrote to disk."""
    model.script(PEERS, Answer.text("One."), PEERS, Answer.text("Two."))
    async with workspace(tmp_path, model, codex, platform) as running:
        assert await say(running, "0.3", "who is there?") == "One."
        platform.rotate_token(tmp_path / "configs" / ".auth_token")
        assert await say(running, "0.3", "and now?") == "Two."
        (*_, output) = (await model.request(4)).tool_outputs.values()
    assert "Bee (ID: ws-b" in str(output)


@pytest.mark.parametrize("version", ["0.3", "1.0"])
async def test_deltas_stream_and_a_cancel_interrupts_in_either_dialect(
    tmp_path: Path, model: ResponsesServer, codex: Path, platform: FakePlatform, version: str
) -> None:
    gate, silence = Gate(), Silence()
    model.script(Answer(["One", gate, " two."]), silence, Answer.text("Still here."))
    async with workspace(tmp_path, model, codex, platform) as running, httpx.AsyncClient(timeout=60) as http:
        client = await connected(running, version, http)
        heard = []
        async for event in client.send_message(request("count")):
            if event.HasField("artifact_update"):
                heard.append(event.artifact_update.artifact.parts[0].text)
                gate.open()
        assert heard[0] == "One"
        assert heard[-1].endswith("two.")

        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def last_state() -> TaskState:
            state = TaskState.TASK_STATE_UNSPECIFIED
            async for event in client.send_message(request("wait")):
                if event.HasField("task"):
                    started.set_result(event.task.id)
                state = event.status_update.status.state or state
            return state

        waiting = asyncio.create_task(last_state())
        await silence.reached.reached()
        await client.cancel_task(CancelTaskRequest(id=await started))
        assert await waiting == TaskState.TASK_STATE_CANCELED
        assert await say(running, version, "are you there?") == "Still here."


async def test_no_secret_is_found_in_the_log_the_metrics_or_the_card(
    tmp_path: Path, model: ResponsesServer, codex: Path, platform: FakePlatform
) -> None:
    model.script(Answer.text("Hello."))
    async with workspace(tmp_path, model, codex, platform) as running:
        await say(running, "1.0", "hello")
        async with httpx.AsyncClient(base_url=running.url) as http:
            shown = [
                (await http.get(path)).text
                for path in ("/metrics", "/.well-known/agent-card.json", "/readyz")
            ]
    secrets = [
        MODEL_KEY,
        (tmp_path / "configs" / ".auth_token").read_text(),
        (tmp_path / "configs" / ".platform_inbound_secret").read_text(),
    ]
    for text in (*shown, *running.log):
        assert not [secret for secret in secrets if secret in text], text


PATCH = "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: notes.txt\n+hello\n*** End Patch\nEOF\n"
USED = [
    {"tool": "commandExecution", "input": "echo [redacted] one"},
    {"tool": "fileChange"},
    {"tool": "mcp__molecule__list_peers"},
    {"tool": "commandExecution", "input": "false"},
]


def tools(model: ResponsesServer, text: str) -> None:
    """A turn that uses a tool of each kind; the first command quotes a secret."""
    model.script(
        Call("exec_command", {"cmd": f"echo {MODEL_KEY} one"}),
        Call("exec_command", {"cmd": PATCH}),
        PEERS,
        Call("exec_command", {"cmd": "false"}),
        Answer.text(text),
    )


def without_paths(trace: list[dict[str, str]]) -> list[dict[str, str]]:
    """The trace, with what a file's change was about checked and taken out."""
    changed = [entry.pop("input") for entry in trace if entry["tool"] == "fileChange"]
    assert [path.rpartition("/")[2] for path in changed] == ["notes.txt"]
    return trace


async def test_each_tool_is_a_row_of_the_platforms_in_order_and_without_secrets(
    tmp_path: Path, model: ResponsesServer, codex: Path, platform: FakePlatform
) -> None:
    """The platform takes a workspace that is busy and shows nothing for a stalled one, and restarts it."""
    tools(model, "Done.")
    async with workspace(tmp_path, model, codex, platform) as running:
        assert await say(running, "1.0", "do it all") == "Done."
        await platform.wait_for(lambda: len(platform.activities) >= len(USED))
    rows = [row for row in platform.activities if row["activity_type"] == "agent_log"]
    assert [row["method"] for row in rows] == [entry["tool"] for entry in USED]
    assert [row["summary"].partition("(")[0] for row in rows] == [f"🛠 {row['method']}" for row in rows]
    assert rows[0]["summary"] == "🛠 commandExecution(echo [redacted] one)"
    assert rows[1]["summary"].endswith("/notes.txt)")
    assert rows[2]["summary"] == "🛠 mcp__molecule__list_peers()"
    for row in rows:
        assert (row["source_id"], row["target_id"], row["status"]) == ("ws-self", "ws-self", "ok")
        assert not {"request_body", "response_body"} & set(row)
        assert len(row["summary"]) <= 256
    assert MODEL_KEY not in str(platform.activities)


@pytest.mark.parametrize("version", ["0.3", "1.0"])
async def test_the_answer_says_which_tools_were_used_in_either_dialect(
    tmp_path: Path, model: ResponsesServer, codex: Path, platform: FakePlatform, version: str
) -> None:
    """Over raw HTTP as the platform reads it, and through the SDK's own client, which parses strictly."""
    async with workspace(tmp_path, model, codex, platform) as running, httpx.AsyncClient(timeout=60) as http:
        tools(model, "One.")
        parts = [{"kind": "text", "text": "do it"}]
        message: dict[str, Any] = {"messageId": "m-1", "role": "user", "parts": parts}
        method, headers = "message/send", {}
        if version == "1.0":
            message = {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": "do it"}]}
            method, headers = "SendMessage", {"A2A-Version": "1.0"}
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"message": message}}
        answer = (await http.post(running.url, json=body, headers=headers)).json()["result"]
        task = answer["task"] if version == "1.0" else answer
        assert without_paths(task["metadata"]["tool_trace"]) == USED

        tools(model, "Two.")
        client = await connected(running, version, http)
        streamed = [
            to_dict(event.status_update.metadata)
            async for event in client.send_message(request("again"))
            if event.status_update.status.state == TaskState.TASK_STATE_COMPLETED
        ]
        assert [without_paths(metadata["tool_trace"]) for metadata in streamed] == [USED]

        model.script(Answer.text("Three."))
        message["messageId"] = "m-2"
        # The SDK's client has put the version that it speaks best into the headers of the HTTP client.
        headers = {"A2A-Version": version}
        answer = (await http.post(running.url, json=body, headers=headers)).json()["result"]
        assert "tool_trace" not in str(answer), "a message that used no tool says nothing of tools"


async def test_a_peer_that_reads_a_bare_message_finds_the_tools_there(
    tmp_path: Path, model: ResponsesServer, codex: Path, platform: FakePlatform
) -> None:
    tools(model, "Done.")
    message = {"messageId": "m-1", "role": "user", "parts": [{"kind": "text", "text": "do it"}]}
    body = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": message}}
    async with workspace(tmp_path, model, codex, platform) as running, httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(running.url, json=body, headers={"X-Workspace-ID": "ws-b"})
    result = answer.json()["result"]
    assert result["parts"][0]["text"] == "Done."
    assert without_paths(result["metadata"]["tool_trace"]) == USED


async def test_a_long_silent_turn_shows_the_platform_that_it_lives_and_what_it_is_about(
    tmp_path: Path, model: ResponsesServer, codex: Path, platform: FakePlatform
) -> None:
    silence = Silence()
    model.script(silence)
    async with workspace(tmp_path, model, codex, platform, "bridge: {activity_seconds: 0.2}\n") as running:
        saying = asyncio.create_task(say(running, "0.3", "count the stars with sk-abcdefghijklmnopqrst"))
        await silence.reached.reached()
        await platform.wait_for(lambda: len(platform.activities) >= 3)
        await platform.wait_for(lambda: bool(platform.heartbeats[-1]["current_task"]))
        assert platform.heartbeats[-1]["current_task"] == "count the stars with [redacted]"
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)
    for row in platform.activities[:3]:
        assert (row["activity_type"], row["source_id"], row["target_id"]) == (
            "task_update",
            "ws-self",
            "ws-self",
        )
        assert row["summary"] == "Working (0 min): count the stars with [redacted]"
