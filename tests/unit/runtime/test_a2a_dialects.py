"""Both dialects over a real socket, with plain HTTP as anybody's client would send it."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from unit.runtime.conftest import credential, message03, message10

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from unit.runtime.conftest import LiveWorkspace

pytestmark = pytest.mark.anyio

V10 = {"A2A_Version": "1.0"}


async def events(
    live: LiveWorkspace, method: str, params: Any, **headers: str
) -> AsyncIterator[dict[str, Any]]:
    body = {"jsonrpc": "2.0", "id": "q1", "method": method, "params": params}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with live.http.stream("POST", "/", json=body, headers=named) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                yield json.loads(line.removeprefix("data:"))


async def test_a_03_message_is_answered_with_a_completed_task_its_artifact_and_its_history(
    live: LiveWorkspace,
) -> None:
    task = await live.send("say:hello say:_world")
    assert task["kind"] == "task"
    assert task["status"]["state"] == "completed"
    assert [artifact["parts"] for artifact in task["artifacts"]] == [
        [{"kind": "text", "text": "hello world"}]
    ]
    assert [message["role"] for message in task["history"]] == ["user"]
    assert task["history"][0]["parts"][0]["text"] == "say:hello say:_world"


async def test_a_10_message_is_answered_with_a_completed_task(live: LiveWorkspace) -> None:
    task = (await live.rpc("SendMessage", message10("say:hello"), **V10))["result"]["task"]
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert task["artifacts"][0]["parts"] == [{"text": "hello"}]


@pytest.mark.parametrize("part", [{"kind": "text", "text": "say:x"}, {"type": "text", "text": "say:x"}])
async def test_a_03_text_part_may_be_keyed_kind_or_type(live: LiveWorkspace, part: dict[str, str]) -> None:
    params = message03("unused")
    params["message"]["parts"] = [part]
    result = (await live.rpc("message/send", params))["result"]
    assert result["artifacts"][0]["parts"][0]["text"] == "x"


async def test_the_text_of_every_message_reaches_the_executor(live: LiveWorkspace) -> None:
    """B-16: protobuf parts are no list; code that asks for a list reads every message as empty."""
    params = message03("say:a")
    params["message"]["parts"].append({"kind": "text", "text": "say:b"})
    await live.rpc("message/send", params)
    await live.rpc("SendMessage", message10("say:c"), **V10)
    assert live.executor.seen == ["say:a say:b", "say:c"]


async def test_files_by_uri_and_inline_bytes_reach_the_executor_in_both_dialects(live: LiveWorkspace) -> None:
    inline = base64.b64encode(b"%PDF").decode()
    old = message03("say:a")
    old["message"]["parts"] += [
        {
            "kind": "file",
            "file": {"uri": "workspace:/workspace/a.pdf", "name": "a.pdf", "mimeType": "application/pdf"},
        },
        {"kind": "file", "file": {"bytes": inline, "name": "b.pdf"}},
    ]
    new = message10("say:a")
    new["message"]["parts"] += [
        {"url": "workspace:/workspace/c.pdf", "filename": "c.pdf"},
        {"raw": inline, "filename": "d.pdf"},
    ]
    await live.rpc("message/send", old)
    await live.rpc("SendMessage", new, **V10)
    assert live.executor.files == ["a.pdf", "b.pdf", "c.pdf", "d.pdf"]


@pytest.mark.parametrize(
    ("method", "build"), [("message/stream", message03), ("SendStreamingMessage", message10)]
)
async def test_the_first_delta_reaches_the_client_while_the_turn_still_runs(
    live: LiveWorkspace, method: str, build: Any
) -> None:
    headers = V10 if method[0] == "S" else {}
    seen: list[str] = []
    async for event in events(live, method, build("say:first gate:g say:second"), **headers):
        text = json.dumps(event["result"])
        seen.append(text)
        if "first" in text and "artifact" in text.lower() and not live.executor.gates["g"].is_set():
            live.executor.gates["g"].set()
    assert any("second" in text for text in seen)
    assert "completed" in seen[-1].lower()


async def test_a_stream_is_a_task_then_its_updates_then_a_final_status(live: LiveWorkspace) -> None:
    stream = [event["result"] async for event in events(live, "message/stream", message03("say:a say:b"))]
    assert [event["kind"] for event in stream] == [
        "task",
        "status-update",
        "artifact-update",
        "artifact-update",
        "status-update",
    ]
    assert [event.get("append") for event in stream[2:4]] == [False, True]
    assert [event["final"] for event in stream if event["kind"] == "status-update"] == [False, True]


async def test_a_client_that_comes_back_gets_the_task_so_far_and_the_rest(live: LiveWorkspace) -> None:
    accepted = await live.rpc(
        "message/send", message03("say:early gate:g say:late", configuration={"blocking": False})
    )
    task_id = accepted["result"]["id"]
    await live.executor.reached["g"].wait()
    received = []
    async for event in events(live, "tasks/resubscribe", {"id": task_id}):
        received.append(event["result"])
        live.executor.gates["g"].set()
    assert received[0]["kind"] == "task"
    assert received[0]["artifacts"][0]["parts"][0]["text"] == "early"
    assert received[1]["artifact"]["parts"][0]["text"] == "late"
    assert received[-1]["status"]["state"] == "completed"


async def test_a_10_client_subscribes_to_a_running_task(live: LiveWorkspace) -> None:
    params = message10("gate:g say:late", configuration={"returnImmediately": True})
    task_id = (await live.rpc("SendMessage", params, **V10))["result"]["task"]["id"]
    await live.executor.reached["g"].wait()
    received = []
    async for event in events(live, "SubscribeToTask", {"id": task_id}, **V10):
        received.append(event["result"])
        live.executor.gates["g"].set()
    assert "task" in received[0]
    assert received[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_a_client_that_hangs_up_does_not_end_the_turn(live: LiveWorkspace) -> None:
    async for event in events(live, "message/stream", message03("say:a gate:g say:b")):
        task_id = event["result"]["id"]
        break
    await live.executor.reached["g"].wait()
    live.executor.gates["g"].set()
    async for event in events(live, "tasks/resubscribe", {"id": task_id}):
        if event.get("error") is None and event["result"].get("final"):
            break
    task = (await live.rpc("tasks/get", {"id": task_id}))["result"]
    assert task["artifacts"][0]["parts"][0]["text"] == "ab"


async def test_cancel_ends_the_task_and_every_stream_that_watches_it(live: LiveWorkspace) -> None:
    task_id = ""
    states = []
    async for event in events(live, "message/stream", message03("say:a gate:never")):
        result = event["result"]
        if result["kind"] == "task":
            task_id = result["id"]
        if result["kind"] == "artifact-update":
            cancelled = (await live.rpc("tasks/cancel", {"id": task_id}))["result"]
            assert cancelled["status"]["state"] == "canceled"
        if result["kind"] == "status-update":
            states.append(result["status"]["state"])
    assert states == ["working", "canceled"]
    assert live.executor.cancelled == [task_id]


async def test_a_10_client_cancels_a_task(live: LiveWorkspace) -> None:
    params = message10("gate:never", configuration={"returnImmediately": True})
    task_id = (await live.rpc("SendMessage", params, **V10))["result"]["task"]["id"]
    cancelled = (await live.rpc("CancelTask", {"id": task_id}, **V10))["result"]
    assert cancelled["status"]["state"] == "TASK_STATE_CANCELED"


async def test_tasks_are_listed_newest_first(live: LiveWorkspace) -> None:
    ids = [(await live.send(f"say:{number}"))["id"] for number in range(3)]
    listed = (await live.rpc("ListTasks", {"pageSize": 2}, **V10, **credential()))["result"]
    assert [task["id"] for task in listed["tasks"]] == ids[:0:-1]
    assert listed["totalSize"] == 3


async def test_a_failed_turn_is_a_failed_task_with_its_reason(live: LiveWorkspace) -> None:
    task = await live.send("say:half fail:quota_exceeded")
    assert task["status"]["state"] == "failed"
    assert task["status"]["message"]["parts"][0]["text"] == "quota exceeded"


async def test_an_executor_that_raises_leaves_a_failed_task_without_its_secrets(live: LiveWorkspace) -> None:
    task = await live.send("raise:refused_sk-abcdefghijklmnopqrstuvwx")
    assert task["status"]["state"] == "failed"
    assert task["status"]["message"]["parts"][0]["text"] == "refused [redacted]"


async def test_an_executor_that_forgets_to_answer_leaves_a_failed_task(live: LiveWorkspace) -> None:
    task = await live.send("forget")
    assert task["status"]["state"] == "failed"
    assert "without an answer" in task["status"]["message"]["parts"][0]["text"]


async def test_a_bare_message_of_an_executor_becomes_a_task(live: LiveWorkspace) -> None:
    task = await live.send("bare:hello_there")
    assert (task["kind"], task["status"]["state"]) == ("task", "completed")
    assert task["artifacts"][0]["parts"][0]["text"] == "hello there"


async def test_a_peer_of_the_platform_gets_the_bare_text_where_deployed_peers_look_for_it(
    live: LiveWorkspace,
) -> None:
    result = await live.send("say:hello say:_peer", X_Workspace_ID="peer-1")
    assert result["kind"] == "message"
    assert result["role"] == "agent"
    assert result["parts"][0]["text"] == "hello peer"


async def test_a_peer_that_asks_for_a_stream_gets_the_same_message_in_it(live: LiveWorkspace) -> None:
    stream = [
        event["result"]
        async for event in events(live, "message/stream", message03("say:a say:b"), X_Workspace_ID="peer-1")
    ]
    assert [(event["kind"], event["parts"][0]["text"]) for event in stream] == [("message", "ab")]


async def test_a_peer_hears_of_a_failed_turn_as_an_error_and_never_as_a_text(live: LiveWorkspace) -> None:
    answer = await live.rpc("message/send", message03("say:half fail:no_quota"), X_Workspace_ID="peer-1")
    assert answer["error"]["code"] == -32603
    assert "no quota" in answer["error"]["message"]


async def test_two_hundred_messages_at_once_are_all_answered(live: LiveWorkspace) -> None:
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=live.url, timeout=60, limits=limits) as http:

        async def ask(number: int) -> str:
            body = {
                "jsonrpc": "2.0",
                "id": number,
                "method": "message/send",
                "params": message03(f"say:n{number}"),
            }
            answer = (await http.post("/", json=body)).json()
            text: str = answer["result"]["artifacts"][0]["parts"][0]["text"]
            return text

        answers = await asyncio.gather(*(ask(number) for number in range(200)))
    assert answers == [f"n{number}" for number in range(200)]


async def test_five_thousand_deltas_arrive_one_by_one_and_are_kept_as_one_text(live: LiveWorkspace) -> None:
    script = " ".join(["say:x"] * 5000)
    deltas = 0
    task_id = ""
    async for event in events(live, "message/stream", message03(script)):
        task_id = event["result"].get("id", task_id)
        deltas += event["result"]["kind"] == "artifact-update"
    assert deltas == 5000
    task = (await live.rpc("tasks/get", {"id": task_id}))["result"]
    assert task["artifacts"][0]["parts"] == [{"kind": "text", "text": "x" * 5000}]


async def test_a_client_that_reads_slowly_loses_nothing_of_a_long_answer(live: LiveWorkspace) -> None:
    """The SDK drops a subscriber that is 1,024 events behind; its stream then ends without an ending."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "message/stream", "params": message03("many:3000")}
    raw = json.dumps(body).encode()
    address = httpx.URL(live.url)
    # Over its limit, a StreamReader stops reading from the socket by itself.
    reader, writer = await asyncio.open_connection(address.host, address.port, limit=2**14)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
    writer.write(head + b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
    completed: dict[str, Any] = {}
    while completed.get("totalSize") != 1:
        finished = await live.rpc("ListTasks", {"status": "TASK_STATE_COMPLETED"}, **V10, **credential())
        completed = finished["result"]
    received = await reader.read()
    assert received.count(b'"kind":"artifact-update"') == 3000
    assert b'"state":"completed"' in received[-1000:]
    writer.close()
    await writer.wait_closed()


async def test_a_03_answer_says_what_it_used_where_the_platform_reads_it(live: LiveWorkspace) -> None:
    task = (await live.rpc("message/send", message03("spend:1200,34 say:hi")))["result"]
    assert json.dumps(task["usage"]) == '{"input_tokens": 1200, "output_tokens": 34}'
    assert task["metadata"]["usage"]["model"] == "gpt-5.5"
    assert task["kind"] == "task"
    failed = (await live.rpc("message/send", message03("spend:1200,34 fail:no")))["result"]
    assert (failed["status"]["state"], failed["usage"]["output_tokens"]) == ("failed", 34)


async def test_a_peers_bare_answer_says_what_it_used_too(live: LiveWorkspace) -> None:
    answer = await live.rpc(
        "message/send", message03("spend:1200,34 say:hi"), **{"X-Workspace-ID": "ws-peer"}
    )
    assert answer["result"]["kind"] == "message"
    assert answer["result"]["parts"][0]["text"] == "hi"
    assert answer["result"]["usage"] == {"input_tokens": 1200, "output_tokens": 34}


async def test_an_answer_without_usage_has_no_such_key(live: LiveWorkspace) -> None:
    assert "usage" not in (await live.rpc("message/send", message03("say:hi")))["result"]


async def test_a_10_answer_has_its_usage_in_the_tasks_metadata_alone(live: LiveWorkspace) -> None:
    result = (await live.rpc("SendMessage", message10("spend:1200,34 say:hi"), **V10))["result"]
    assert set(result) == {"task"}
    assert "usage" not in result["task"]
    assert result["task"]["metadata"]["usage"]["input_tokens"] == 1200
