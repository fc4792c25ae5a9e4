"""A strict stand-in for the OpenAI Responses endpoint: `POST /v1/responses`, answered with server-sent
events.

A test scripts what each request gets, in order; whatever is not scripted, not authorised or not shaped as the
endpoint wants it is recorded as a failure, which `check` raises. For a demo it runs by itself:

    python -m support.responses_server --port 9000 --script steps.json

Only the standard library, so that it runs in the image too. The events are what codex 0.130.0 was seen to
need.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import itertools
import json
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

__all__ = [
    "Answer",
    "Call",
    "Cut",
    "Gate",
    "HttpError",
    "Request",
    "ResponseFailed",
    "ResponsesServer",
    "Silence",
    "Step",
    "Usage",
]

_BODY_KEYS = {
    "client_metadata", "include", "input", "instructions", "max_output_tokens", "metadata", "model",
    "parallel_tool_calls", "previous_response_id", "prompt_cache_key", "reasoning", "service_tier", "store",
    "stream", "temperature", "text", "tool_choice", "tools",
}  # fmt: skip
_TOOL_TYPES = {"custom", "function", "image_generation", "namespace", "tool_search", "web_search"}
_ITEM_TYPES = {
    "compaction", "custom_tool_call", "custom_tool_call_output", "function_call", "function_call_output",
    "local_shell_call", "message", "reasoning", "web_search_call",
}  # fmt: skip
_CONTENT_TYPES = {"input_text", "input_image", "output_text"}
_ROLES = {"assistant", "developer", "system", "user"}
_HEAD_LIMIT = 64 * 1024
_BODY_LIMIT = 256 * 1024 * 1024


class Gate:
    """Holds a stream until the test opens it; `reached` tells when the stream stands before it."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._reached = asyncio.Event()

    def open(self) -> None:
        """Let the stream go on."""
        self._open.set()

    async def reached(self) -> None:
        """Wait until the stream stands here, with everything before it sent."""
        await self._reached.wait()

    async def _pass(self) -> None:
        self._reached.set()
        await self._open.wait()


@dataclass(frozen=True)
class Answer:
    """A message: `parts` are its deltas, with gates and pauses (s) between. `phase` as codex marks it."""

    parts: Sequence[str | Gate | float]
    phase: str | None = None

    @classmethod
    def text(cls, text: str, *, deltas: int = 1, phase: str | None = None) -> Answer:
        """`text` in `deltas` pieces of about the same length."""
        size = max(1, -(-len(text) // deltas))
        return cls([text[i : i + size] for i in range(0, len(text), size)], phase)

    @property
    def whole(self) -> str:
        """The text of the completed message."""
        return "".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True)
class Call:
    """A call of a function tool. `namespace` is that of an MCP server, such as `mcp__molecule__`."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    namespace: str | None = None


@dataclass(frozen=True)
class HttpError:
    """An HTTP status instead of a stream."""

    status: int
    message: str = "refused by the stand-in"
    code: str | None = None


@dataclass(frozen=True)
class ResponseFailed:
    """A stream that ends with `response.failed`."""

    code: str
    message: str = "failed by the stand-in"


@dataclass(frozen=True)
class Cut:
    """A connection that breaks in the middle of a message, after `text`."""

    text: str = ""


@dataclass(frozen=True)
class Silence:
    """A stream that begins and then says nothing until the client or the server goes away."""

    reached: Gate = field(default_factory=Gate)


@dataclass(frozen=True)
class Usage:
    """What a response says that it has used; `cached` is part of `input`, `reasoning` of `output`."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.cached + other.cached,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )

    @property
    def total(self) -> int:
        """Input and output."""
        return self.input + self.output


def _usage(number: int) -> Usage:
    """Response `number` uses what no other of the first few dozen does, so that sums tell which are in."""
    return Usage(100 + 7 * number, 10 * (number % 3), 20 + number * number, number % 5)


Output = Answer | Call
Step = Answer | Call | HttpError | ResponseFailed | Cut | Silence | tuple[Output, ...]
"""What one request gets. A tuple is one response with several output items."""


@dataclass(frozen=True)
class Request:
    """One accepted request."""

    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def texts(self) -> list[tuple[str, str]]:
        """(role, text) of every message in the input, in order."""
        return [
            (item["role"], "".join(part.get("text", "") for part in item["content"]))
            for item in self.body["input"]
            if item["type"] == "message"
        ]

    @property
    def user_texts(self) -> list[str]:
        """What users said, without what codex itself puts between tags."""
        return [text for role, text in self.texts if role == "user" and not text.startswith("<")]

    @property
    def last_user_text(self) -> str:
        """The newest text of a user; "" without one."""
        return next(iter(reversed(self.user_texts)), "")

    @property
    def tool_outputs(self) -> dict[str, Any]:
        """Output by call id."""
        return {
            item["call_id"]: item["output"]
            for item in self.body["input"]
            if item["type"].endswith("_call_output")
        }


class UnexpectedRequestError(AssertionError):
    """The endpoint was spoken to in a way that it does not allow, or that the test did not script."""


class ResponsesServer:
    """The endpoint on a loopback port. `async with` it, `script` it, and `check` it at the end.

    `responder` answers requests when the script is used up; without one they are failures. `usage` gives what
    a response has used by its number, from 1; `reported` is the sum of what clients were told.
    """

    def __init__(
        self,
        *,
        api_key: str | None = "test-key",
        responder: Callable[[Request], Step] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        usage: Callable[[int], Usage] = _usage,
    ) -> None:
        self.api_key = api_key
        self.usage = usage
        self.reported = Usage()
        self.responder = responder
        self.requests: list[Request] = []
        self.failures: list[str] = []
        self._host, self._port = host, port
        self._steps: deque[Step] = deque()
        self._server: asyncio.Server | None = None
        self._arrived = asyncio.Condition()
        self._numbers = itertools.count(1)
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, self._host, self._port, limit=_HEAD_LIMIT)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def base_url(self) -> str:
        """What goes into `base_url` of a provider."""
        return f"http://{self._host}:{self._port}/v1"

    def script(self, *steps: Step) -> None:
        """Add what the next requests get, in order."""
        self._steps.extend(steps)

    async def request(self, number: int) -> Request:
        """Wait for request `number`, counted from 1."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= number)
        return self.requests[number - 1]

    def check(self) -> None:
        """Raise UnexpectedRequestError for what went wrong, and for a step that nobody asked for."""
        left = [f"never asked for: {step!r}"[:300] for step in self._steps]
        if problems := [*self.failures, *left]:
            raise UnexpectedRequestError("; ".join(problems))

    # -- HTTP ----------------------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. Returns whether the connection stays open."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return False
        request_line, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = request_line.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if await self._is_no_turn(method, target, headers, writer):
            return True
        length = int(headers.get("content-length", "0"))
        if length > _BODY_LIMIT:
            return await self._refuse(writer, f"a body of {length} bytes")
        raw = await reader.readexactly(length)
        problem = self._problem_with_request(method, target, headers)
        if problem is None:
            try:
                body = json.loads(raw)
                problem = _problem_with_body(body)
            except ValueError as error:
                problem = f"the body is no JSON: {error}"
        if problem is not None:
            return await self._refuse(writer, f"{method} {target}: {problem}")
        request = Request(headers, body)
        if self.api_key is not None and not hmac.compare_digest(
            headers.get("authorization", ""), f"Bearer {self.api_key}"
        ):
            # A wrong key is a case that the endpoint knows how to answer; a missing one is a bug of the
            # client.
            if "authorization" not in headers:
                self.failures.append("no Authorization header")
            await self._error(writer, HttpError(401, "Incorrect API key provided", "invalid_api_key"))
            return True
        return await self._answer(request, writer)

    async def _is_no_turn(
        self, method: str, target: str, headers: dict[str, str], writer: asyncio.StreamWriter
    ) -> bool:
        """Answer what codex asks beside its turns, and return whether it was that."""
        if headers.get("upgrade", "").lower() == "websocket":
            # The built-in provider tries a WebSocket first; 426 sends it to plain HTTP at once.
            await self._error(writer, HttpError(426, "no WebSocket here"))
            return True
        if (method, target.partition("?")[0]) == ("GET", "/v1/models"):
            # With a subscription codex asks which models there are. It knows some by itself.
            await self._json(writer, 200, {"models": []})
            return True
        return False

    def _problem_with_request(self, method: str, target: str, headers: dict[str, str]) -> str | None:
        if method != "POST" or target != "/v1/responses":
            return "only POST /v1/responses is known"
        if headers.get("content-type") != "application/json":
            return f"content-type is {headers.get('content-type')!r}"
        if "text/event-stream" not in headers.get("accept", ""):
            return f"accept is {headers.get('accept')!r}, not text/event-stream"
        if "content-length" not in headers or "content-encoding" in headers:
            return "a body must have a length and no encoding"
        return None

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        async with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        if self._steps:
            step = self._steps.popleft()
        elif self.responder is not None:
            step = self.responder(request)
        else:
            return await self._refuse(writer, f"request {len(self.requests)} is not scripted")
        if isinstance(step, HttpError):
            await self._error(writer, step)
            return True
        return await self._stream(step, writer)

    async def _refuse(self, writer: asyncio.StreamWriter, problem: str) -> bool:
        self.failures.append(problem)
        await self._error(writer, HttpError(400, problem))
        return False

    async def _error(self, writer: asyncio.StreamWriter, error: HttpError) -> None:
        body = {"error": {"message": error.message, "type": "error", "code": error.code}}
        await self._json(writer, error.status, body)

    async def _json(self, writer: asyncio.StreamWriter, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        writer.write(
            f"HTTP/1.1 {status} Stand-in\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()

    # -- the stream ----------------------------------------------------------------------------------------

    async def _stream(self, step: Step, writer: asyncio.StreamWriter) -> bool:
        number = next(self._numbers)
        response_id = f"resp_{number}"
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )

        async def send(event: dict[str, Any]) -> None:
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()

        await send({"type": "response.created", "response": {"id": response_id}})
        if isinstance(step, Silence):
            await step.reached._pass()
            return False
        if isinstance(step, Cut):
            await _begin_message(send, f"msg_{number}_0", 0, None)
            if step.text:
                await send(_delta(f"msg_{number}_0", 0, step.text))
            return False
        if isinstance(step, ResponseFailed):
            error = {"code": step.code, "message": step.message}
            await send({"type": "response.failed", "response": {"id": response_id, "error": error}})
        elif isinstance(step, HttpError):
            raise TypeError("an HTTP error is no stream")
        else:
            outputs = step if isinstance(step, tuple) else (step,)
            for index, output in enumerate(outputs):
                if isinstance(output, Answer):
                    await _message(send, f"msg_{number}_{index}", index, output)
                else:
                    await _call(send, f"call_{number}_{index}", index, output)
            usage = self.usage(number)
            self.reported += usage
            response = {"id": response_id, "usage": _as_json(usage)}
            await send({"type": "response.completed", "response": response})
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


def _as_json(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }


async def _begin_message(
    send: Callable[[dict[str, Any]], Awaitable[None]], item_id: str, index: int, phase: str | None
) -> None:
    item: dict[str, Any] = {"type": "message", "role": "assistant", "id": item_id, "content": []}
    if phase is not None:
        item["phase"] = phase
    await send({"type": "response.output_item.added", "output_index": index, "item": item})


def _delta(item_id: str, index: int, text: str) -> dict[str, Any]:
    return {
        "type": "response.output_text.delta",
        "item_id": item_id,
        "output_index": index,
        "content_index": 0,
        "delta": text,
    }


async def _message(
    send: Callable[[dict[str, Any]], Awaitable[None]], item_id: str, index: int, answer: Answer
) -> None:
    await _begin_message(send, item_id, index, answer.phase)
    for part in answer.parts:
        if isinstance(part, Gate):
            await part._pass()
        elif isinstance(part, str):
            await send(_delta(item_id, index, part))
        else:
            await asyncio.sleep(part)
    item: dict[str, Any] = {
        "type": "message",
        "role": "assistant",
        "id": item_id,
        "content": [{"type": "output_text", "text": answer.whole}],
    }
    if answer.phase is not None:
        item["phase"] = answer.phase
    await send({"type": "response.output_item.done", "output_index": index, "item": item})


async def _call(
    send: Callable[[dict[str, Any]], Awaitable[None]], call_id: str, index: int, call: Call
) -> None:
    item: dict[str, Any] = {
        "type": "function_call",
        "id": f"fc_{call_id}",
        "call_id": call_id,
        "name": call.name,
        "arguments": json.dumps(call.arguments),
    }
    if call.namespace is not None:
        item["namespace"] = call.namespace
    await send({"type": "response.output_item.done", "output_index": index, "item": item})


# -- what a request must look like -----------------------------------------------------------------


def _problem_with_body(body: Any) -> str | None:
    if not isinstance(body, dict):
        return "the body is no object"
    wrong_tools = [
        tool
        for tool in body.get("tools") or ()
        if not isinstance(tool, dict) or tool.get("type") not in _TOOL_TYPES
    ]
    problems = {
        "keys that the endpoint does not know": sorted(set(body) - _BODY_KEYS),
        "model is missing": not isinstance(body.get("model"), str) or not body["model"],
        "stream is not true": body.get("stream") is not True,
        "input is no list, or empty": not isinstance(body.get("input"), list) or not body["input"],
        "tools is no list": not isinstance(body.get("tools"), list),
        "unknown tools": wrong_tools,
    }
    for problem, found in problems.items():
        if found:
            return problem if found is True else f"{problem}: {found}"[:300]
    return _problem_with_input(body["input"])


def _problem_with_input(items: Iterable[Any]) -> str | None:
    calls: set[str] = set()
    for item in items:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind not in _ITEM_TYPES:
            return f"unknown input item {item!r}"[:200]
        if kind == "message":
            if item.get("role") not in _ROLES:
                return f"unknown role {item.get('role')!r}"
            if not item.get("content") or any(p.get("type") not in _CONTENT_TYPES for p in item["content"]):
                return f"content of a message is empty or unknown: {item.get('content')!r}"[:200]
        elif kind.endswith("_call_output"):
            if item.get("call_id") not in calls:
                return f"the output of a call that was never made: {item.get('call_id')!r}"
        elif "call_id" in item:
            calls.add(item["call_id"])
    return None


# -- by itself -------------------------------------------------------------------------------------


def step_from_json(step: dict[str, Any]) -> Step:
    """One step of a script file.

    `{"deltas": ["a", "b"], "pause": 0.2}`, `{"text": "..."}`, `{"call": "exec_command", "arguments": {...}}`,
    `{"status": 429, "message": "..."}` or `{"failed": "insufficient_quota"}`. Raises ValueError for others.
    """
    match step:
        case {"text": str(text)}:
            return Answer([text])
        case {"deltas": [*deltas]}:
            pause = float(step.get("pause", 0))
            parts: list[str | Gate | float] = []
            for delta in deltas:
                parts += [str(delta), pause]
            return Answer(parts)
        case {"call": str(name)}:
            return Call(name, dict(step.get("arguments", {})), step.get("namespace"))
        case {"status": int(status)}:
            return HttpError(status, str(step.get("message", "refused by the stand-in")))
        case {"failed": str(code)}:
            return ResponseFailed(code)
        case _:
            raise ValueError(f"unknown step {step!r}; allowed: text, deltas, call, status, failed")


def _echo(request: Request) -> Step:
    """What the last command printed, after a call of one; else what the user said."""
    last = request.body["input"][-1]
    if last["type"] == "function_call_output":
        return Answer([f"It printed {str(last['output']).partition('Output:')[2].strip()}"])
    words = f"You said: {request.last_user_text}".split(" ")
    return Answer([part for word in words for part in (f"{word} ", 0.05)])


async def _serve(host: str, port: int, steps: list[Step], api_key: str | None) -> None:
    async with ResponsesServer(api_key=api_key, responder=_echo, host=host, port=port) as server:
        server.script(*steps)
        print(f"listening on {server.base_url}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve a script, then echo what is said. The key that clients must send comes from RESPONSES_API_KEY."""
    parser = argparse.ArgumentParser(description="A strict stand-in for the OpenAI Responses endpoint.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument(
        "--script", type=Path, help="a JSON list of steps; without it every message is echoed"
    )
    options = parser.parse_args()
    steps = (
        [step_from_json(step) for step in json.loads(options.script.read_text())] if options.script else []
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.host, options.port, steps, os.environ.get("RESPONSES_API_KEY")))


if __name__ == "__main__":
    main()
