"""Every error that the specification names, with its code, in both dialects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime import a2a_errors
from molecule_runtime.cards import build_card
from molecule_runtime.config import WorkspaceConfig
from unit.runtime.conftest import credential, live_workspace, message03, message10

if TYPE_CHECKING:
    from pathlib import Path

    from unit.runtime.conftest import LiveWorkspace

pytestmark = pytest.mark.anyio

V10 = {"A2A-Version": "1.0"}


async def code(live: LiveWorkspace, body: Any, headers: dict[str, str] | None = None) -> int:
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    declared = {"Content-Type": "application/json", **(headers or {})}
    response = await live.http.post("/", headers=declared, **sent)
    answer = (
        response.text.removeprefix("data:") if "event-stream" in response.headers["content-type"] else None
    )
    error = (response.json() if answer is None else json.loads(answer))["error"]
    assert error["message"]
    found: int = error["code"]
    return found


def request(method: str, params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def without(params: dict[str, Any], field: str) -> dict[str, Any]:
    del params["message"][field]
    return params


@pytest.mark.parametrize(
    "body", [b"{", b"", b"\xff\xfe", b"[" * 100_000], ids=["cut", "empty", "not utf-8", "deep"]
)
async def test_a_body_that_cannot_be_parsed_is_a_parse_error(live: LiveWorkspace, body: bytes) -> None:
    assert await code(live, body) == -32700


@pytest.mark.parametrize(
    "body",
    [
        [],
        "text",
        {"id": 1, "method": "message/send"},
        {"jsonrpc": "1.0", "id": 1, "method": "message/send"},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "method": 5},
        {"jsonrpc": "2.0", "id": {}, "method": "tasks/get", "params": {"id": "x"}},
        [request("tasks/get", {"id": "x"})],
    ],
)
async def test_an_envelope_that_is_no_request_is_an_invalid_request(live: LiveWorkspace, body: Any) -> None:
    assert await code(live, body) == -32600


@pytest.mark.parametrize("headers", [{}, V10])
async def test_an_unknown_method_is_not_found(live: LiveWorkspace, headers: dict[str, str]) -> None:
    assert await code(live, request("tasks/frobnicate", {}), headers) == -32601


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (request("message/send", without(message03("x"), "messageId")), {}),
        (request("message/send", without(message03("x"), "role")), {}),
        (request("message/send", without(message03("x"), "parts")), {}),
        (request("message/send", {"message": {**message03("x")["message"], "parts": []}}), {}),
        (request("message/stream", {"message": {**message03("x")["message"], "parts": []}}), {}),
        (request("message/send", {}), {}),
        (request("tasks/get", [1]), {}),
        (request("tasks/get", {}), {}),
        (request("tasks/get", {"id": "x", "historyLength": "many"}), {}),
        (request("SendMessage", without(message10("x"), "messageId")), V10),
        (request("SendMessage", {"message": {**message10("x")["message"], "parts": []}}), V10),
        (request("SendMessage", {"message": {**message10("x")["message"], "role": "ROLE_NONSENSE"}}), V10),
        (request("GetTask", {}), V10),
        (request("ListTasks", {"pageSize": 0}), V10),
        (request("ListTasks", {"pageToken": "nonsense"}), V10),
    ],
)
async def test_parameters_that_do_not_fit_are_invalid_params(
    live: LiveWorkspace, body: Any, headers: dict[str, str]
) -> None:
    assert await code(live, body, headers | credential()) == -32602


async def test_refused_parameters_are_named_and_their_values_are_not(live: LiveWorkspace) -> None:
    params = without(message03("the secret plan"), "messageId")
    answer = (await live.http.post("/", json=request("message/send", params))).text
    assert "params.message.messageId" in answer
    assert "secret plan" not in answer


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("tasks/get", {}),
        ("tasks/cancel", {}),
        ("tasks/resubscribe", {}),
        ("GetTask", V10),
        ("CancelTask", V10),
        ("SubscribeToTask", V10),
    ],
)
async def test_an_unknown_task_is_not_found(
    live: LiveWorkspace, method: str, headers: dict[str, str]
) -> None:
    assert await code(live, request(method, {"id": "nobody"}), headers) == -32001


@pytest.mark.parametrize(("method", "headers"), [("tasks/cancel", {}), ("CancelTask", V10)])
async def test_a_finished_task_cannot_be_canceled(
    live: LiveWorkspace, method: str, headers: dict[str, str]
) -> None:
    task = await live.send("say:done")
    assert await code(live, request(method, {"id": task["id"]}), headers) == -32002


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (request("message/send", message03("x")), V10),
        (request("message/stream", message03("x")), V10),
        (request("tasks/get", {"id": "x"}), V10),
        (request("SendMessage", message10("x")), {}),
        (request("SendStreamingMessage", message10("x")), {}),
        (request("SendMessage", message10("x")), {"A2A-Version": "2.0"}),
        (request("message/send", message03("x")), {"A2A-Version": "nonsense"}),
    ],
)
async def test_a_method_of_another_version_than_the_header_says_is_not_supported(
    live: LiveWorkspace, body: Any, headers: dict[str, str]
) -> None:
    assert await code(live, body, headers) == -32009


@pytest.mark.parametrize(
    ("method", "build", "headers"), [("message/send", message03, {}), ("SendMessage", message10, V10)]
)
async def test_an_output_that_cannot_be_produced_is_an_unsupported_content_type(
    live: LiveWorkspace, method: str, build: Any, headers: dict[str, str]
) -> None:
    params = build("say:x", configuration={"acceptedOutputModes": ["image/png"]})
    assert await code(live, request(method, params), headers) == -32005


@pytest.mark.parametrize("mode", ["text/plain", "text", "text/*", "*/*"])
async def test_an_output_that_covers_text_is_accepted(live: LiveWorkspace, mode: str) -> None:
    answer = await live.rpc("message/send", message03("say:x", configuration={"acceptedOutputModes": [mode]}))
    assert answer["result"]["status"]["state"] == "completed"


async def test_an_input_that_the_card_does_not_declare_is_an_unsupported_content_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.scripted_adapter.Adapter.input_modes", lambda _: ("text/plain", "image/*"))
    async with live_workspace(tmp_path) as live:
        params = message03("say:x")
        params["message"]["parts"].append(
            {"kind": "file", "file": {"uri": "file:///x", "mimeType": "video/mp4"}}
        )
        assert await code(live, request("message/send", params)) == -32005
        params["message"]["parts"][1]["file"]["mimeType"] = "image/png"
        assert (await live.rpc("message/send", params))["result"]["status"]["state"] == "completed"


@pytest.mark.parametrize(
    ("method", "params", "headers"),
    [
        (
            "tasks/pushNotificationConfig/set",
            {"taskId": "x", "pushNotificationConfig": {"url": "http://x"}},
            {},
        ),
        ("CreateTaskPushNotificationConfig", {"taskId": "x", "url": "http://x"}, V10),
    ],
)
async def test_push_notifications_are_not_declared_and_refused_with_their_own_code(
    live: LiveWorkspace, method: str, params: Any, headers: dict[str, str]
) -> None:
    assert await code(live, request(method, params), headers) == -32003


async def test_a_body_over_the_limit_is_refused_before_it_is_read_whole(
    live: LiveWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(a2a_errors, "MAX_BODY_BYTES", 1000)
    response = await live.http.post("/", json=request("message/send", message03("x" * 2000)))
    assert response.status_code == 413
    assert response.json()["error"]["code"] == -32600


async def test_streaming_that_is_switched_off_is_refused_and_not_declared(tmp_path: Path) -> None:
    config = WorkspaceConfig.model_validate({"a2a": {"streaming": False}})
    assert not build_card(config, "http://x", ["text/plain"]).capabilities.streaming
    async with live_workspace(tmp_path, config) as live:
        assert await code(live, request("SendStreamingMessage", message10("say:x")), V10) == -32004
