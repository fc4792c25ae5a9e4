from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.responses_server import Answer, Call, HttpError, ResponsesServer, UnexpectedRequestError

pytestmark = pytest.mark.anyio

_TESTS = Path(__file__).parents[2]
_HEADERS = {"authorization": "Bearer test-key", "accept": "text/event-stream"}
_MESSAGE = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
_BODY: dict[str, Any] = {"model": "m", "input": [_MESSAGE], "tools": [], "stream": True}


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


async def test_a_scripted_answer_is_streamed_as_events() -> None:
    async with ResponsesServer() as server, httpx.AsyncClient(headers=_HEADERS) as client:
        server.script((Answer(["a", "b"]), Call("tool", {"x": 1})))
        response = await client.post(f"{server.base_url}/responses", json=_BODY)
        kinds = [event["type"] for event in events(response.text)]
        server.check()
    assert kinds == [
        "response.created",
        "response.output_item.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_item.done",
        "response.output_item.done",
        "response.completed",
    ]


@pytest.mark.parametrize(
    ("method", "path", "change", "headers", "words"),
    [
        ("GET", "responses", {}, {}, "only POST /v1/responses"),
        ("POST", "chat/completions", {}, {}, "only POST /v1/responses"),
        ("POST", "responses", {"stream": False}, {}, "stream is not true"),
        ("POST", "responses", {"model": ""}, {}, "model is missing"),
        ("POST", "responses", {"input": []}, {}, "input is no list, or empty"),
        ("POST", "responses", {"tools": None}, {}, "tools is no list"),
        ("POST", "responses", {"tools": [{"type": "magic"}]}, {}, "unknown tools"),
        ("POST", "responses", {"messages": []}, {}, "keys that the endpoint does not know: ['messages']"),
        ("POST", "responses", {"input": [{"type": "wish"}]}, {}, "unknown input item"),
        ("POST", "responses", {"input": [{**_MESSAGE, "role": "king"}]}, {}, "unknown role"),
        ("POST", "responses", {"input": [{**_MESSAGE, "content": []}]}, {}, "content of a message is empty"),
        (
            "POST",
            "responses",
            {"input": [{"type": "function_call_output", "call_id": "c", "output": ""}]},
            {},
            "the output of a call that was never made",
        ),
        ("POST", "responses", {}, {"accept": "application/json"}, "accept is"),
        ("POST", "responses", {}, {"content-type": "text/plain"}, "content-type is"),
    ],
)
async def test_whatever_the_endpoint_does_not_allow_fails_the_test(
    method: str, path: str, change: dict[str, Any], headers: dict[str, str], words: str
) -> None:
    async with ResponsesServer() as server, httpx.AsyncClient(headers=_HEADERS) as client:
        response = await client.request(
            method, f"{server.base_url}/{path}", json={**_BODY, **change}, headers=headers
        )
        assert response.status_code == 400
        with pytest.raises(UnexpectedRequestError, match=re.escape(words)):
            server.check()


async def test_a_request_without_a_script_fails_the_test() -> None:
    async with ResponsesServer() as server, httpx.AsyncClient(headers=_HEADERS) as client:
        await client.post(f"{server.base_url}/responses", json=_BODY)
        with pytest.raises(UnexpectedRequestError, match="request 1 is not scripted"):
            server.check()


async def test_a_step_that_nobody_asked_for_fails_the_test() -> None:
    async with ResponsesServer() as server:
        server.script(HttpError(500))
        with pytest.raises(UnexpectedRequestError, match="never asked for: HttpError"):
            server.check()


async def test_a_wrong_key_is_refused_and_a_missing_one_fails_the_test() -> None:
    async with (
        ResponsesServer() as server,
        httpx.AsyncClient(headers={"accept": "text/event-stream"}) as client,
    ):
        url = f"{server.base_url}/responses"
        wrong = await client.post(url, json=_BODY, headers={"authorization": "Bearer wrong"})
        assert wrong.status_code == 401
        server.check()
        assert (await client.post(url, json=_BODY)).status_code == 401
        with pytest.raises(UnexpectedRequestError, match="no Authorization header"):
            server.check()


async def test_a_websocket_is_sent_to_plain_http() -> None:
    async with ResponsesServer() as server, httpx.AsyncClient() as client:
        response = await client.get(f"{server.base_url}/responses", headers={"upgrade": "websocket"})
        assert response.status_code == 426
        server.check()


async def test_by_itself_it_serves_a_script_and_then_echoes(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    steps = [{"deltas": ["a", "b"]}, {"text": "c"}, {"call": "tool"}, {"status": 418}, {"failed": "boom"}]
    script.write_text(json.dumps(steps))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "support.responses_server", "--script", str(script),
        env={"PYTHONPATH": str(_TESTS), "RESPONSES_API_KEY": "test-key", "PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().split()[-1] + "/responses"
        async with httpx.AsyncClient(headers=_HEADERS) as client:
            answers = [await client.post(url, json=_BODY) for _ in range(6)]
    finally:
        process.terminate()
        await process.wait()
    assert [answer.status_code for answer in answers] == [200, 200, 200, 418, 200, 200]
    deltas = [event["delta"] for event in events(answers[0].text) if "delta" in event]
    assert deltas == ["a", "b"]
    assert "You said: hello" in "".join(event.get("delta", "") for event in events(answers[5].text))
