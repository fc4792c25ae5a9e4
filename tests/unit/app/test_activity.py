"""What the platform is told of the agent's work: in order, shortened, without secrets, never in the way."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import structlog

from activity import Activity, Row
from platform_api import PlatformApi
from secret_values import SecretValues
from tool_calls import ToolCall, tool_call

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.anyio


def command(text: str) -> dict[str, Any]:
    return {"type": "commandExecution", "id": "c", "command": text, "status": "completed"}


class Platform:
    """Takes rows as it is told: at once, never, or once a gate is open."""

    def __init__(self, *, takes: bool = True, gate: asyncio.Event | None = None) -> None:
        self.rows: list[Row] = []
        self.takes = takes
        self.gate = gate
        self.changed = asyncio.Condition()

    async def write(self, row: Row) -> bool:
        if self.gate is not None:
            await self.gate.wait()
        async with self.changed:
            self.rows.append(row)
            self.changed.notify_all()
        return self.takes

    async def told(self, number: int) -> list[str]:
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: len(self.rows) >= number)
        return [row["summary"] for row in self.rows]


def activity(platform: Platform, **options: Any) -> Activity:
    return Activity(platform.write, "ws-1", SecretValues({"MY_KEY": "sentinel"}).taken_out_of, **options)


# -- what a tool is called and was given ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "name", "given"),
    [
        (command("/bin/bash -lc 'echo hi > file.txt'"), "commandExecution", "echo hi > file.txt"),
        (command("/usr/bin/zsh -c ls"), "commandExecution", "ls"),
        (command("git status"), "commandExecution", "git status"),
        (command("bash -lc 'unbalanced"), "commandExecution", "bash -lc 'unbalanced"),
        (
            {
                "type": "fileChange",
                "changes": [{"path": "/w/a.py", "diff": "+1"}, {"path": "/w/b.py"}, 3, {"path": None}],
            },
            "fileChange",
            "/w/a.py, /w/b.py",
        ),
        (
            {
                "type": "mcpToolCall",
                "server": "molecule",
                "tool": "delegate_task",
                "arguments": {"task": "ü"},
            },
            "mcp__molecule__delegate_task",
            '{"task": "ü"}',
        ),
        (
            {"type": "mcpToolCall", "server": "a", "tool": "b", "arguments": {}, "status": "failed"},
            "mcp__a__b",
            "",
        ),
        ({"type": "webSearch", "query": "weather", "action": None}, "webSearch", "weather"),
        (
            {"type": "webSearch", "query": "", "action": {"type": "openPage", "url": "http://x"}},
            "webSearch",
            "http://x",
        ),
        ({"type": "dynamicToolCall", "tool": "t", "arguments": [1]}, "dynamicToolCall", "t [1]"),
        (
            {"type": "collabAgentToolCall", "tool": "spawnAgent", "prompt": None},
            "collabAgentToolCall",
            "spawnAgent",
        ),
        ({"type": "imageView", "path": "/w/a.png"}, "imageView", "/w/a.png"),
        ({"type": "imageGeneration", "result": "AAAA", "status": "completed"}, "imageGeneration", ""),
    ],
)
def test_a_tool_in_few_words(item: dict[str, Any], name: str, given: str) -> None:
    assert tool_call(item) == ToolCall(name, given)


@pytest.mark.parametrize(
    "kind",
    ["userMessage", "agentMessage", "reasoning", "plan", "contextCompaction", "enteredReviewMode", "", None],
)
def test_what_is_no_tool(kind: str | None) -> None:
    assert tool_call({"type": kind, "id": "x", "text": "t"}) is None


# -- secrets -------------------------------------------------------------------------------------------------


ACCOUNT = {"tokens": {"access_token": "an-access-token-of-an-account", "account_id": "short"}}


@pytest.mark.parametrize(
    ("variable", "value", "text", "shown"),
    [
        ("MY_KEY", "sentinel", "curl -u sentinel x", "curl -u [redacted] x"),
        ("GITEA_TOKEN", "sentinel\n", "git clone sentinel", "git clone [redacted]"),
        ("SOME_PASSWORD", 'a"b\\cd', json.dumps({"x": 'a"b\\cd'}), '{"x": "[redacted]"}'),
        (
            "CODEX_AUTH_JSON",
            json.dumps(ACCOUNT),
            "x an-access-token-of-an-account short",
            "x [redacted] short",
        ),
        ("CODEX_AUTH_JSON", "{broken-account", "x {broken-account", "x [redacted]"),
        ("DEPLOY_KEY", "first line of it\nsecond line of it", "second line of it", "[redacted]"),
        ("MY_KEY", "short", "a short text", "a short text"),
        ("MONKEY", "sentinel", "a sentinel", "a sentinel"),
        ("PATH", "/usr/bin", "ls /usr/bin", "ls /usr/bin"),
        ("PATH", "/usr/bin", "Bearer abcdefghijklmnop", "Bearer [redacted]"),
    ],
)
def test_the_secrets_of_the_environment_are_taken_out(
    variable: str, value: str, text: str, shown: str
) -> None:
    assert SecretValues({variable: value}).taken_out_of(text) == shown


def test_a_providers_variable_is_a_secret_whatever_it_is_called_and_so_is_the_token_of_now() -> None:
    token = "token-1"
    secrets = SecretValues({"VENDOR": "sentinel"}, ["VENDOR"], lambda: token)
    assert secrets.taken_out_of("sentinel token-1 token-2") == "[redacted] [redacted] token-2"
    token = "token-2"
    assert secrets.taken_out_of("token-1 token-2") == "token-1 [redacted]"


# -- rows ----------------------------------------------------------------------------------------------------


async def test_a_row_is_what_the_platform_expects_shortened_after_its_secrets_are_out() -> None:
    platform = Platform()
    told = activity(platform)
    told.tool(command(f"echo {'x' * 235}sentinel end"))
    told.tool({"type": "reasoning", "id": "r"})
    told.tool(command("cat <<EOF\n  two\nlines\nEOF"))
    summaries = await platform.told(2)
    await told.close()
    assert len(summaries[0]) == 256
    assert summaries[0].startswith("🛠 commandExecution(echo xxx")
    assert summaries[0].endswith("x…)")
    assert "sent" not in summaries[0]
    assert summaries[1] == "🛠 commandExecution(cat <<EOF two lines EOF)"
    assert platform.rows[1] == {
        "activity_type": "agent_log",
        "source_id": "ws-1",
        "target_id": "ws-1",
        "method": "commandExecution",
        "summary": summaries[1],
        "status": "ok",
    }


async def test_rows_come_in_order_and_a_slow_platform_costs_rows_and_no_time() -> None:
    gate = asyncio.Event()
    platform = Platform(gate=gate)
    told = activity(platform)
    with structlog.testing.capture_logs() as logs:
        for number in range(300):
            told.tool(command(f"echo {number}"))
        gate.set()
        summaries = await platform.told(256)
        await told.close()
    numbers = [int(summary.split()[-1].rstrip(")")) for summary in summaries]
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    assert "activity.left_out" in [line["event"] for line in logs]


@pytest.mark.parametrize("raises", [False, True])
async def test_a_platform_that_takes_no_row_is_told_once_in_the_log_and_the_next_row_is_tried(
    raises: bool,
) -> None:
    platform = Platform(takes=False)

    async def write(row: Row) -> bool:
        taken = await platform.write(row)
        if raises:
            raise RuntimeError("no platform")
        return taken

    told = Activity(write, "ws-1", str)
    with structlog.testing.capture_logs() as logs:
        for number in range(3):
            told.tool(command(f"echo {number}"))
        await platform.told(3)
        await told.close()
    assert len(platform.rows) == 3, "none is tried again"
    assert len([line for line in logs if line["event"] == "activity.not_taken"]) == 1


# -- signs of life -------------------------------------------------------------------------------------------


async def test_a_turn_shows_that_it_lives_until_the_last_message_has_ended() -> None:
    platform = Platform()
    told = activity(platform, silent=0.01)
    told.turn("with sentinel")
    told.turn("more")
    told.turn("")
    assert await platform.told(3) == ["Working (0 min): more"] * len(platform.rows)
    assert {row["activity_type"] for row in platform.rows} == {"task_update"}
    told.turn("")
    before = len(platform.rows)
    told.tool(command("echo last"))
    await platform.told(before + 1)
    assert platform.rows[-1]["activity_type"] == "agent_log"
    await told.close()


async def test_tools_are_signs_of_life_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated time: a row every 100 s leaves nothing to add in an hour, an hour of silence 15 rows."""
    platform = Platform()
    loop = asyncio.get_running_loop()
    clock = Clock(loop.time())
    monkeypatch.setattr(loop, "time", lambda: clock.now)
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    told = activity(platform)
    told.turn("long")
    await clock.until(61)
    assert await platform.told(1) == ["Working (1 min): long"]
    for number in range(36):
        await clock.until(100 * (number + 1))
        told.tool(command("echo"))
        await platform.told(number + 2)
    assert [row["activity_type"] for row in platform.rows].count("task_update") == 1
    await clock.until(7200)
    signs = [row for row in platform.rows if row["activity_type"] == "task_update"]
    assert len(signs) == 16
    platform.takes = False
    await clock.until(7500)
    again = [row for row in platform.rows if row["activity_type"] == "task_update"]
    assert len(again) > len(signs) + 1, (
        "what was not taken is told again soon, before the platform counts silence"
    )
    await told.close()


class Clock:
    """Time that passes when the test says so."""

    def __init__(self, start: float) -> None:
        self.start = self.now = start
        self.sleeping: list[tuple[float, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sleeping.append((self.now + seconds, waiting))
        await waiting

    async def until(self, seconds: float) -> None:
        """Let time pass until `seconds` after the start, waking whoever sleeps on the way."""
        end = self.start + seconds
        while True:
            for _ in range(20):
                await _step()
            due = [entry for entry in self.sleeping if entry[0] <= end and not entry[1].done()]
            if not due:
                self.now = end
                return
            entry = min(due, key=lambda each: each[0])
            self.sleeping.remove(entry)
            self.now = max(self.now, entry[0])
            entry[1].set_result(None)


class _Step:
    def __await__(self) -> Any:
        yield


async def _step() -> None:
    await _Step()


# -- with a runtime that has no client for it ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "taken"), [(200, True), (201, True), (401, False), (500, False), (0, False)]
)
async def test_a_row_without_a_client_of_the_runtime(status: int, taken: bool) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if not status:
            raise httpx.ConnectTimeout("too slow")
        return httpx.Response(status, json={})

    headers: Mapping[str, str] = {"Authorization": "Bearer t"}
    api = PlatformApi("http://platform", "ws-1", lambda: headers, httpx.MockTransport(answer))
    assert await api.activity({"activity_type": "agent_log"}) is taken
    (request,) = seen
    assert (request.method, str(request.url)) == ("POST", "http://platform/workspaces/ws-1/activity")
    assert request.headers["authorization"] == "Bearer t"
    assert json.loads(request.content) == {"activity_type": "agent_log"}
