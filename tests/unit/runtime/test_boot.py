"""The runtime as a process: what it says, what it serves in which state, and how it goes down."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from molecule_runtime.boot import Boot
from molecule_runtime.environment import Environment
from support.runtime_process import RuntimeProcess, free_port, run_runtime

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from support.fake_platform import FakePlatform

    Start = Callable[..., AbstractAsyncContextManager[RuntimeProcess]]

pytestmark = pytest.mark.anyio


@pytest.fixture
def start(tmp_path: Path, configs: Path) -> Start:
    """Starts a workspace with lines of config.yaml and variables; without a platform unless one is given."""

    def begin(config: str = "", **environment: str) -> AbstractAsyncContextManager[RuntimeProcess]:
        port = free_port()
        lines = config if "a2a:" in config else f"{config}\na2a: {{port: {port}}}\n"
        (configs / "config.yaml").write_text(lines)
        variables = {
            "WORKSPACE_ID": "ws-self",
            "PLATFORM_URL": "off",
            "ADAPTER_MODULE": "support.scripted_adapter",
            "WORKSPACE_CONFIG_PATH": str(configs),
            "CONFIGS_DIR": str(configs),
            "DELEGATION_RESULTS_FILE": str(tmp_path / "results.jsonl"),
            **environment,
        }
        return run_runtime(tmp_path, port, variables)

    return begin


async def send(url: str, script: str) -> dict[str, Any]:
    message = {"messageId": "m", "role": "user", "parts": [{"kind": "text", "text": script}]}
    body = {"jsonrpc": "2.0", "id": 7, "method": "message/send", "params": {"message": message}}
    async with httpx.AsyncClient(timeout=20) as http:
        answer: dict[str, Any] = (await http.post(url, json=body)).json()
    return answer


async def test_a_workspace_without_a_platform_serves_a2a(start: Start) -> None:
    async with start("name: Alone") as running:
        assert (await running.ready()).json() == {"ready": True}
        assert (await send(running.url, "say:hello"))["result"]["status"]["state"] == "completed"
        assert await running.stop() == 0


async def test_a_workspace_registers_beats_and_takes_its_initial_prompt_once(
    start: Start, platform: FakePlatform, configs: Path
) -> None:
    """B-43: the first prompt waits for the port inside the process, and is sent once in its life.

    B-42: the mode of delivery is always sent, since a row that was once set to poll stays deaf.
    """
    variables = {"PLATFORM_URL": platform.url, "HOSTNAME": "127.0.0.1"}
    config = "name: Test\ninitial_prompt: say:good_morning"
    async with start(config, **variables) as running:
        await platform.wait_for(lambda: bool(platform.calls_to("a2a")))
        await platform.wait_for(
            lambda: bool(platform.heartbeats) and platform.heartbeats[-1]["active_tasks"] == 0
        )
        assert await running.stop() == 0
    registered = platform.registrations[0]
    assert registered["delivery_mode"] == "push"
    assert registered["url"].startswith("http://localhost:")
    assert registered["agent_card"]["configuration_status"] == "ready"
    message = platform.calls_to("a2a")[0].body["params"]["message"]
    assert message["messageId"].startswith("initial-")
    assert message["parts"] == [{"kind": "text", "text": "say:good_morning"}]
    assert (configs / ".initial_prompt_done").read_text() == "attempted"
    async with start(config, **variables) as running:
        await platform.wait_for(lambda: len(platform.registrations) == 2)
        await platform.wait_for(lambda: platform.calls[-1].route == "heartbeat")
        assert await running.stop() == 0
    assert len(platform.calls_to("a2a")) == 1
    token = (configs / ".auth_token").read_text()
    assert token not in "\n".join(running.log)


async def test_an_outage_of_the_platform_at_boot_does_not_keep_the_port_closed(
    start: Start, platform: FakePlatform
) -> None:
    held = platform.hold("register")
    async with start(PLATFORM_URL=platform.url) as running:
        assert (await running.ready()).status_code == 200
        assert (await send(running.url, "say:x"))["result"]["kind"] == "task"
        held.set()
        await platform.wait_for(lambda: bool(platform.registrations))
        assert await running.stop() == 0


async def test_an_agent_that_cannot_be_set_up_is_served_as_503_with_the_reason_and_its_card_stays(
    start: Start, platform: FakePlatform
) -> None:
    config = "runtime_config: {fail_setup: 'no credential sk-abcdefghijklmnopqrstuv; set OPENAI_API_KEY'}"
    async with start(config, PLATFORM_URL=platform.url) as running:
        ready = await running.ready()
        async with httpx.AsyncClient(base_url=running.url) as http:
            assert (await http.get("/healthz")).status_code == 200
            assert (await http.get("/.well-known/agent-card.json")).status_code == 200
            refused = await http.post("/", json={"jsonrpc": "2.0", "id": 7, "method": "message/send"})
        await platform.wait_for(lambda: bool(platform.registrations))
        assert await running.stop() == 0
    assert ready.status_code == 503
    reason = "no credential [redacted]; set OPENAI_API_KEY"
    assert ready.json() == {"ready": False, "reason": reason}
    assert refused.status_code == 503
    assert refused.json() == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {"code": -32603, "message": "agent not configured", "data": reason},
    }
    card = platform.registrations[0]["agent_card"]
    assert (card["configuration_status"], card["configuration_error"]) == ("not_configured", reason)
    assert "sk-abc" not in "\n".join(running.log)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("name: [unclosed", "line"),
        ("- a list", "must be a mapping"),
        ("description: it: has a colon", "line 1, column 16 is not YAML"),
        ("a: &a [*a]", "refers to itself"),
        ("\0", "NUL"),
    ],
)
async def test_a_config_that_cannot_be_used_is_one_line_in_the_log_and_a_503_with_it(
    tmp_path: Path, configs: Path, config: str, reason: str
) -> None:
    path = configs / "config.yaml"
    path.write_text(config)
    boot = Boot(
        Environment.read(
            {
                "WORKSPACE_ID": "ws-self",
                "PLATFORM_URL": "off",
                "ADAPTER_MODULE": "support.scripted_adapter",
                "WORKSPACE_CONFIG_PATH": str(configs),
            }
        )
    )
    await boot.prepare()
    assert reason in boot.problem
    assert "\n" not in boot.problem
    assert boot.port == 8000
    assert path.read_text() == config
    assert boot.app is not None
    transport = httpx.ASGITransport(boot.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        assert (
            await http.post("/", content=b"not json", headers={"Content-Type": "application/json"})
        ).json()["error"]["data"] == boot.problem
        assert (await http.get("/readyz")).status_code == 503


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"WORKSPACE_ID": ""}, "WORKSPACE_ID is not set"),
        ({"WORKSPACE_ID": "a/b"}, "WORKSPACE_ID is 'a/b'"),
        ({"PLATFORM_URL": "platform:8080"}, "PLATFORM_URL is 'platform:8080'"),
        ({"MOLECULE_DELIVERY_MODE": "pull"}, "MOLECULE_DELIVERY_MODE is 'pull'"),
    ],
)
async def test_an_environment_that_cannot_be_used_ends_the_process_with_2_and_one_line(
    start: Start, variables: dict[str, str], line: str
) -> None:
    async with start(**variables) as running:
        assert await running.process.wait() == 2
    assert len(running.log) == 1
    assert f"[FAIL] {line}" in running.log[0]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PLATFORM_URL": "http://h:80a"}, "PLATFORM_URL"),
        ({"PLATFORM_URL": "http://[::1"}, "PLATFORM_URL"),
        ({"PLATFORM_URL": "http://h", "MOLECULE_ORG_ID": "\u0142odz"}, "MOLECULE_ORG_ID has characters"),
        ({"PLATFORM_URL": "http://h", "ALL_PROXY": "socks5://h:1"}, "ALL_PROXY is a SOCKS proxy"),
        ({"PLATFORM_URL": "http://h", "HTTP_PROXY": "http://h:80a"}, "HTTP_PROXY is no address of a proxy"),
        ({"PLATFORM_URL": "https://h", "SSL_CERT_FILE": "/nonexistent"}, "SSL_CERT_FILE cannot be used"),
        ({"MOLECULE_WORKSPACE_URL": "h:8000"}, "MOLECULE_WORKSPACE_URL is 'h:8000'"),
        ({"MOLECULE_WORKSPACE_URL": "http://h:80a"}, "MOLECULE_WORKSPACE_URL is 'http://h:80a'"),
        ({"MOLECULE_WORKSPACE_URL": "http://\u0142 x"}, "MOLECULE_WORKSPACE_URL is"),
    ],
)
async def test_what_is_wrong_with_the_way_to_the_platform_is_served(
    start: Start, variables: dict[str, str], words: str
) -> None:
    async with start(**variables) as running:
        ready = await running.ready()
        assert ready.status_code == 503
        assert words in ready.json()["reason"]
        assert words in (await send(running.url, "say:x"))["error"]["data"]
        assert await running.stop() == 0
    assert "Traceback" not in "\n".join(running.log)


@pytest.mark.parametrize(
    "variables",
    [
        {"NO_PROXY": "[::1],10.0.0.0/8,fd00::/8", "HTTP_PROXY": "http://192.0.2.1:1"},
        {"ALL_PROXY": "socks5://192.0.2.1:1", "MOLECULE_ORG_ID": "org-1\r"},
        {"http_proxy": "http://h:80a", "MOLECULE_WORKSPACE_URL": "http://localhost:8000\r\n"},
    ],
)
async def test_odd_proxies_do_not_stand_between_a_workspace_and_its_platform_on_this_machine(
    start: Start, platform: FakePlatform, variables: dict[str, str]
) -> None:
    async with start(PLATFORM_URL=platform.url, **variables) as running:
        await platform.wait_for(lambda: bool(platform.heartbeats))
        assert (await running.ready()).json() == {"ready": True}
        assert await running.stop() == 0


async def test_a_token_file_that_holds_no_token_is_served_until_the_platform_gives_one(
    start: Start, platform: FakePlatform, configs: Path
) -> None:
    (configs / ".auth_token").write_bytes(b"first-secret\nsecond-secret\n")
    held = platform.hold("register")
    async with start(PLATFORM_URL=platform.url) as running:
        ready = await running.ready()
        assert (ready.status_code, ready.json()["reason"]) == (
            503, f"{configs}/.auth_token holds 2 lines and not one"
        )  # fmt: skip
        held.set()
        await platform.wait_for(lambda: bool(platform.heartbeats))
        assert (await running.ready()).json() == {"ready": True}
        assert await running.stop() == 0
    assert "secret" not in "\n".join(running.log)


async def test_a_port_in_use_ends_the_process_with_3_and_one_line(start: Start) -> None:
    async with start() as first:
        await first.ready()
        port = first.url.rsplit(":", 1)[1]
        async with start(f"a2a: {{port: {port}}}") as second:
            assert await second.process.wait() == 3
        assert any(f"[FAIL] port {port} cannot be bound" in line for line in second.log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_running_turn_tells_its_clients_saves_the_state_and_exits_0(
    start: Start, configs: Path, number: int
) -> None:
    async with start() as running:
        await running.ready()
        last = await _last_status_while_stopping(running, number)
    assert last["status"]["state"] == "canceled"
    assert "stopped" in last["status"]["message"]["parts"][0]["text"]
    assert json.loads((configs / ".agent_snapshot.json").read_text()) == {"turns": 1}
    async with start() as again:
        await again.ready()
        assert await again.stop() == 0


async def _last_status_while_stopping(running: RuntimeProcess, number: int) -> dict[str, Any]:
    message = {"messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "say:a gate:never"}]}
    body = {"jsonrpc": "2.0", "id": 7, "method": "message/stream", "params": {"message": message}}
    last: dict[str, Any] = {}
    stopping: asyncio.Task[int] | None = None
    async with httpx.AsyncClient(timeout=20) as http, http.stream("POST", running.url, json=body) as stream:
        async for line in stream.aiter_lines():
            if not line.startswith("data:"):
                continue
            result = json.loads(line.removeprefix("data:"))["result"]
            if result["kind"] == "artifact-update":
                stopping = asyncio.create_task(running.stop(number))
            if result["kind"] == "status-update":
                last = result
    assert stopping is not None
    assert await stopping == 0
    return last


async def test_a_smoke_run_builds_and_calls_everything_and_exits_0(start: Start) -> None:
    """B-17: a smoke test that only imported the module missed a card that could not be constructed."""
    async with start(MOLECULE_SMOKE_MODE="1") as running:
        assert await running.process.wait() == 0
    assert any("cards and one message are fine" in line for line in running.log)


@pytest.mark.parametrize(
    "variables", [{"ADAPTER_MODULE": "no_such_module"}, {"ADAPTER_MODULE": "json"}, {"ADAPTER_MODULE": ""}]
)
async def test_a_smoke_run_without_a_usable_adapter_exits_1(start: Start, variables: dict[str, str]) -> None:
    async with start(MOLECULE_SMOKE_MODE="1", **variables) as running:
        assert await running.process.wait() == 1
    assert any("[FAIL]" in line for line in running.log)


async def test_the_log_is_json_where_that_is_asked_for(start: Start) -> None:
    async with start(LOG_FORMAT="json") as running:
        await running.ready()
        assert await running.stop() == 0
    events = [json.loads(line)["event"] for line in running.log]
    assert {"serving A2A", "stopping", "stopped"} <= set(events)


async def test_a_signal_while_the_agent_is_set_up_ends_the_process_and_the_agent(start: Start) -> None:
    async with start("runtime_config: {slow_setup: true}") as running:
        await running.says("setup has begun")
        assert await running.stop() == 0
    assert any("closed" in line for line in running.log)


async def test_a_turn_that_is_cut_off_by_a_stop_leaves_the_platform_with_no_busy_workspace(
    start: Start, platform: FakePlatform
) -> None:
    async with start(PLATFORM_URL=platform.url) as running:
        await platform.wait_for(lambda: bool(platform.heartbeats))
        await _last_status_while_stopping(running, signal.SIGTERM)
    assert platform.heartbeats[-1]["active_tasks"] == 0


async def test_a_configs_directory_that_cannot_be_made_ends_the_process_with_2_and_one_line(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    async with start(CONFIGS_DIR=str(tmp_path / "file" / "configs")) as running:
        assert await running.process.wait() == 2
    assert len(running.log) == 1
    assert "[FAIL] the configs directory cannot be made" in running.log[0]
