"""What a client sends and nothing can be done with: named, short, and no harm to anybody else."""

from __future__ import annotations

import base64
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from molecule_runtime import logs, platform_auth
from molecule_runtime.bodies import MAX_DEPTH, MAX_PARTS, MAX_VALUES
from unit.runtime.conftest import credential, live_workspace

if TYPE_CHECKING:
    from pathlib import Path

    from unit.runtime.conftest import LiveWorkspace

pytestmark = pytest.mark.anyio

HEADERS = {"Content-Type": "application/json"}
V10 = {"A2A-Version": "1.0"}
LONG = "x" * 1_000_000


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for level in range(depth):
        value = {"a": value} if level % 2 else [value]
    return value


def v03(*parts: Any, **message: Any) -> dict[str, Any]:
    whole = {"kind": "message", "messageId": "m", "role": "user", "parts": list(parts) or [TEXT], **message}
    return {"jsonrpc": "2.0", "id": "q", "method": "message/send", "params": {"message": whole}}


def v10(*parts: Any, **message: Any) -> dict[str, Any]:
    whole = {"messageId": "m", "role": "ROLE_USER", "parts": list(parts) or [{"text": "say:x"}], **message}
    return {"jsonrpc": "2.0", "id": "q", "method": "SendMessage", "params": {"message": whole}}


TEXT = {"kind": "text", "text": "say:x"}


def query(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "q", "method": method, "params": params}


def data(value: Any) -> Any:
    return {"kind": "data", "data": {"v": value}}


FAULTS: dict[str, tuple[Any, int, str]] = {
    "NaN": (v03(data(float("nan"))), -32602, "params.message.parts.0.data.v: no number"),
    "infinity": (v03(metadata={"a": float("-inf")}), -32602, "params.message.metadata.a: no number"),
    "NaN, 1.0": (v10({"data": {"v": float("nan")}}), -32602, "params.message.parts.0.data.v: no number"),
    "NaN, no part": ({**v03(), "x": float("nan")}, -32600, "x: no number"),
    "an integer that no double holds": (v03(data(10**400)), -32602, "too large"),
    "an integer that no double holds, 1.0": (v10({"data": 10**400}), -32602, "too large"),
    "surrogate in text": (v03({"kind": "text", "text": "a\ud800b"}), -32602, "parts.0.text: half of a surr"),
    "surrogate in text, 1.0": (v10({"text": "\udfff"}), -32602, "parts.0.text: half of a surr"),
    "surrogate in a name": (v03(metadata={"\ud800": 1}), -32602, "params.message.metadata.(a name): half"),
    "surrogate in the id": ({**v03(), "id": "\ud800"}, -32600, "id: half of a surr"),
    "surrogate in the method": ({**v03(), "method": "\ud800"}, -32600, "method: half of a surr"),
    "deep metadata": (v03(metadata={"a": nested(900)}), -32602, "nested deeper than"),
    "deep data": (v03(data(nested(90))), -32602, "nested deeper than"),
    "deep data, 1.0": (v10({"data": nested(90)}), -32602, "nested deeper than"),
    "deep anywhere": ({**v03(), "x": nested(90)}, -32600, "nested deeper than"),
    "long URI": (v03({"kind": "file", "file": {"uri": f"file:///{LONG}"}}), -32602, "file.uri: longer than"),
    "long URL, 1.0": (v10({"url": f"file:///{LONG}"}), -32602, "parts.0.url: longer than"),
    "long id": ({**v03(), "id": LONG}, -32600, "id: longer than"),
    "huge id": ({**v03(), "id": 10**300}, -32600, "id: a number that is too large"),
    "long message id": (v03(messageId=LONG), -32602, "messageId: longer than"),
    "long context": (v10(contextId=LONG), -32602, "contextId: longer than"),
    "long method": ({**v03(), "method": LONG}, -32600, "method: longer than"),
    "long media type": (
        v03({"kind": "file", "file": {"uri": "/x", "mimeType": LONG}}),
        -32602,
        "longer than",
    ),
    "many parts": (v03(*[{"kind": "zzz"}] * (MAX_PARTS + 1)), -32602, "parts: more than"),
    "many values": (v03(data([1] * (MAX_VALUES + 1))), -32602, "more than 50000 values"),
    "history 2**63": (
        query("tasks/get", id="x", historyLength=2**63),
        -32602,
        "historyLength: no number from",
    ),
    "history below 0": (
        query("tasks/get", id="x", historyLength=-1),
        -32602,
        "historyLength: no number from",
    ),
    "history 2**63, 1.0": (query("GetTask", id="x", historyLength=2**63), -32602, "historyLength: no number"),
    "no base64": (v03({"kind": "file", "file": {"bytes": "no base64!"}}), -32602, "file.bytes: neither"),
    "no base64, 1.0": (v10({"raw": "a"}), -32602, "parts.0.raw: neither"),
    "no data: URL": (v03({"kind": "file", "file": {"bytes": "data:text/plain"}}), -32602, "bytes: neither"),
}


async def test_each_fault_is_the_clients_named_and_short(live: LiveWorkspace) -> None:
    for name, (body, code, message) in FAULTS.items():
        response = await live.http.post(
            "/", content=json.dumps(body), headers=HEADERS | V10 if "1.0" in name else HEADERS
        )
        assert response.status_code == 200, name
        assert len(response.content) < 1500, name
        error = response.json()["error"]
        assert error["code"] == code, (name, error)
        assert message in error["message"], (name, error)
    assert not live.executor.seen
    assert (await live.send("say:on"))["status"]["state"] == "completed"


async def test_invalid_parts_are_named_first_and_counted(live: LiveWorkspace) -> None:
    body = v03(*[{"kind": "zzz", LONG[:500]: 1}] * 900)
    response = await live.http.post("/", json=body)
    error = response.json()["error"]
    assert error["code"] == -32602
    assert len(error["data"]["errors"]) == 5
    assert error["data"]["more"] > 800
    assert len(response.content) < 4000


async def test_the_deepest_and_largest_that_is_taken_can_be_read_again_by_everybody(
    live: LiveWorkspace,
) -> None:
    # A part's data lies five levels deep: request, params, message, parts, part.
    deep = nested(MAX_DEPTH - 6)
    sent = [
        v03({"kind": "data", "data": {"v": deep}}, TEXT),
        v10({"data": nested(MAX_DEPTH - 5)}, {"text": "say:x"}),
        v03(TEXT, metadata={"v": deep, "whole": 2**53, "text": "\U0001f600"}),
        v03(*[TEXT] * MAX_PARTS),
    ]
    for body in sent:
        version = V10 if body["method"] == "SendMessage" else {}
        answer = (await live.http.post("/", json=body, headers=version)).json()
        result = answer["result"].get("task") or answer["result"]
        again = await live.rpc("tasks/get", {"id": result["id"]})
        assert again["result"]["history"], again
    listed = await live.rpc("ListTasks", {"historyLength": 5}, A2A_Version="1.0", **credential())
    assert len(listed["result"]["tasks"]) == len(sent)


CONTENT = bytes(range(256)) + b"\xfb\xff\xfe?>"
PLAIN = base64.b64encode(CONTENT).decode()
FORMS = (
    PLAIN,
    base64.urlsafe_b64encode(CONTENT).decode(),
    base64.urlsafe_b64encode(CONTENT).decode().rstrip("="),
    base64.encodebytes(CONTENT).decode(),
    f"data:application/x-thing;base64,{PLAIN}",
    f"DATA:;charset=x;BASE64,{PLAIN.replace('=', '%3D').replace('+', '%2B')}",
    "data:application/x-thing," + "".join(f"%{byte:02x}" for byte in CONTENT),
)


async def test_a_files_bytes_arrive_as_they_were_in_every_form_of_base64(live: LiveWorkspace) -> None:
    for form, dialect in itertools.product(FORMS, (v03, v10)):
        part = {"kind": "file", "file": {"bytes": form, "name": "f"}} if dialect is v03 else {"raw": form}
        text = TEXT if dialect is v03 else {"text": "say:x"}
        headers = {} if dialect is v03 else V10
        answer = (await live.http.post("/", json=dialect(part, text), headers=headers)).json()
        task = answer["result"].get("task") or answer["result"]
        history = (await live.rpc("tasks/get", {"id": task["id"]}))["result"]["history"]
        file = history[0]["parts"][0]["file"]
        assert base64.b64decode(file["bytes"]) == CONTENT, form[:40]
        assert "x-thing" not in form or file["mimeType"] == "application/x-thing"


async def test_an_accepted_mode_may_have_a_parameter(live: LiveWorkspace) -> None:
    for mode in ("text/plain; charset=utf-8", "TEXT/Plain;charset=UTF-8", "application/json;x=y"):
        body = v03()
        body["params"]["configuration"] = {"acceptedOutputModes": [mode]}
        assert "result" in (await live.http.post("/", json=body)).json(), mode


async def test_a_workspace_that_is_not_configured_reads_no_more_than_a_configured_one(tmp_path: Path) -> None:
    async with live_workspace(tmp_path, configured=False) as live:
        for body, expected in (
            (v03(), "q"),
            ({**v03(), "id": "\ud800"}, None),
            ({**v03(), "id": LONG}, None),
        ):
            response = await live.http.post("/", content=json.dumps(body), headers=HEADERS)
            assert (response.status_code, response.json()["id"]) == (503, expected)


# --- files of the platform ----------------------------------------------------------------------------------


async def test_paths_that_no_file_can_have_are_no_error_of_ours(
    live: LiveWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform_auth.save_inbound_secret("secret")
    headers = {"Authorization": "Bearer secret"}
    (tmp_path / "workspace/loop").symlink_to("loop")
    for name in ("n" * 300, "d/" * 3000 + "f", "loop/x", "loop"):
        path = {"path": f"{tmp_path}/workspace/{name}"}
        response = await live.http.get("/internal/file/read", params=path, headers=headers)
        assert response.status_code == 404, name[:10]
        assert len(response.content) < 500


async def test_an_upload_without_a_length_ends_at_the_limit(
    live: LiveWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform_auth.save_inbound_secret("secret")
    monkeypatch.setattr(live.workspace.internal, "_max_bytes", 1 << 20)
    taken = 0

    async def endless() -> Any:
        nonlocal taken
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="f"\r\n\r\n'
        while taken < 64:
            taken += 1
            yield b"x" * (1 << 20)
        yield b"\r\n--b--\r\n"

    headers = {"Authorization": "Bearer secret", "Content-Type": "multipart/form-data; boundary=b"}
    response = await live.http.post("/internal/chat/uploads/ingest", content=endless(), headers=headers)
    assert response.status_code == 413


# --- the log ------------------------------------------------------------------------------------------------


def test_a_log_line_is_bounded_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    try:
        logs.configure()
        log = logs.get_logger("test")
        log.warning("said", text="t" * 20_000_000, many=["m" * 100] * 1000, secret="sk-" + "a" * 3_000_000)
    finally:
        structlog.configure(**before)
    said = capsys.readouterr().err
    assert "(20000000 characters)" in said
    assert len(said) < 20_000
    assert "sk-aaaa" not in said
