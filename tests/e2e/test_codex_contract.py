"""What we send and what we handle, against the schemas that the pinned binary generates of itself."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import turns
from server_requests import ServerRequests
from support.codex_schema import CodexSchema
from support.codex_workbench import Workbench
from support.responses_server import Answer, Call, Gate, HttpError, ResponsesServer

if TYPE_CHECKING:
    from pathlib import Path

PINNED = "0.130.0"

# Method of a request of the server -> (a request as the schema has it, the schema of its answer).
_IDS = {"threadId": "t", "turnId": "u", "itemId": "i"}
_ASKED: dict[str, tuple[dict[str, Any], str]] = {
    "item/commandExecution/requestApproval": (
        {**_IDS, "startedAtMs": 1, "command": "ls", "cwd": "/"},
        "CommandExecutionRequestApprovalResponse",
    ),
    "item/fileChange/requestApproval": ({**_IDS, "startedAtMs": 1}, "FileChangeRequestApprovalResponse"),
    "item/permissions/requestApproval": (
        {**_IDS, "startedAtMs": 1, "cwd": "/", "permissions": {"network": {"enabled": True}}},
        "PermissionsRequestApprovalResponse",
    ),
    "item/tool/requestUserInput": (
        {**_IDS, "questions": [{"id": "q", "header": "h", "question": "Which?"}]},
        "ToolRequestUserInputResponse",
    ),
    "item/tool/call": (
        {"threadId": "t", "turnId": "u", "callId": "c", "tool": "x", "arguments": {}},
        "DynamicToolCallResponse",
    ),
    "mcpServer/elicitation/request": (
        {
            "threadId": "t",
            "serverName": "molecule",
            "mode": "form",
            "message": "Allow it?",
            "requestedSchema": {"type": "object", "properties": {}},
        },
        "McpServerElicitationRequestResponse",
    ),
    "applyPatchApproval": (
        {"callId": "c", "conversationId": "t", "fileChanges": {}},
        "ApplyPatchApprovalResponse",
    ),
    "execCommandApproval": (
        {"callId": "c", "conversationId": "t", "command": ["ls"], "cwd": "/", "parsedCmd": []},
        "ExecCommandApprovalResponse",
    ),
}
# Refused with an error on purpose: no token of a subscription is ever in our hands.
_REFUSED = {"account/chatgptAuthTokens/refresh"}


@pytest.fixture(scope="session")
def schema(codex: Path, tmp_path_factory: pytest.TempPathFactory) -> CodexSchema:
    return CodexSchema.generate(codex, tmp_path_factory.mktemp("schema"))


def test_the_binary_is_the_pinned_one(codex: Path, tmp_path: Path) -> None:
    version = subprocess.run(
        [codex, "--version"],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert version.stdout.strip() == f"codex-cli {PINNED}"


def test_every_request_of_the_server_has_an_answer_of_its_own_shape(schema: CodexSchema) -> None:
    """B-5: a request that nobody answers stalls the turn."""
    assert schema.methods("ServerRequest") == set(_ASKED) | _REFUSED
    for sandbox in ("danger-full-access", "workspace-write", "read-only"):
        answer = ServerRequests(sandbox=sandbox, trusted_mcp_servers=["molecule"])
        for method, (params, file) in _ASKED.items():
            schema.check_message("ServerRequest", {"id": 0, "method": method, "params": params})
            schema.check_answer(file, answer(method, params))


def test_every_notification_that_we_handle_exists(schema: CodexSchema) -> None:
    """B-21: a new version of codex renamed them, and replies were empty."""
    message = turns.Turn.__init__
    handled = {
        line.split('"')[1] for line in inspect.getsource(message).splitlines() if line.strip().startswith('"')
    }
    assert handled
    assert handled <= schema.methods("ServerNotification")
    assert {"configWarning", "mcpServer/startupStatus/updated"} <= schema.methods("ServerNotification")


@pytest.mark.anyio
async def test_all_that_goes_over_the_wire_in_a_lively_session_validates(
    tmp_path: Path, model: ResponsesServer, schema: CodexSchema, codex: Path
) -> None:
    """B-3: `initialized` is among it.

    A relay before the real binary writes every line down; the session uses all our requests.
    """
    record = tmp_path / "wire.jsonl"
    relay = [sys.executable, "-m", "support.codex_relay", str(record), str(codex), "app-server"]
    gate = Gate()
    model.script(
        Call("exec_command", {"cmd": "echo hello"}),
        Answer([gate, "One."]),
        Answer.text("Two."),
        HttpError(500),
    )
    async with Workbench(tmp_path, model.base_url, command=relay, python_path=True) as bench:
        one = await bench.send("one").working()
        await gate.reached()
        two = bench.send("two")
        await two.until(lambda s: bool(s.states))
        gate.open()
        await one.completed()
        await two.completed()
        await bench.send("three").failed()
        hold = Gate()
        model.script(Answer([hold, "never"]))
        four = await bench.send("four").working()
        await hold.reached()
        await bench.cancel(four)
    model.responder = lambda _request: Answer.text("Five.")
    async with Workbench(tmp_path, model.base_url, command=relay, python_path=True) as bench:
        await bench.send("five").completed()
    sent, received = set(), set()
    answers: dict[int, str] = {}
    for line in record.read_text().splitlines():
        entry = json.loads(line)
        message = entry["message"]
        if entry["from"] == "client":
            kind = "ClientRequest" if "id" in message else "ClientNotification"
            schema.check_message(kind, message)
            sent.add(message["method"])
            if "id" in message:
                answers[message["id"]] = message["method"]
        elif "method" in message:
            schema.check_message("ServerNotification", message)
            received.add(message["method"])
        elif answers.get(message["id"]) in _RESULTS and "result" in message:
            schema.check_answer(_RESULTS[answers[message["id"]]], message["result"])
    assert sent == {
        "initialize", "initialized", "account/read", "thread/start", "thread/resume",
        "turn/start", "turn/steer", "turn/interrupt",
    }  # fmt: skip
    assert {"turn/started", "turn/completed", "item/started", "item/completed", "error"} <= received


_RESULTS = {
    "thread/start": "v2/ThreadStartResponse",
    "thread/resume": "v2/ThreadResumeResponse",
    "turn/start": "v2/TurnStartResponse",
    "turn/steer": "v2/TurnSteerResponse",
    "turn/interrupt": "v2/TurnInterruptResponse",
    "account/read": "v2/GetAccountResponse",
}
