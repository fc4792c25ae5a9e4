"""The part of `turns.py` that runs in the image: the stand-in for the model, and what is measured there.

Only the standard library and the image's own modules. The client, the runtime and a bare `codex app-server`
share one container, one binary, one configuration and one endpoint, so that what differs between two figures
is the runtime. Every result goes to stdout as one JSON object: name to samples.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from codex_binary import find_codex
from support.responses_server import Answer, Request, ResponsesServer, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PORT = 8000
WARM_UP = 3
PATIENCE = 120.0
"""Seconds after which an answer counts as lost; nothing is expected to take that long."""


class LostError(RuntimeError):
    """Something was not answered, or not with its own answer."""


# -- the stand-in ----------------------------------------------------------------------------------


def stamped(request: Request) -> Step:
    """Answer with the clock, which all containers of a machine share, and then with the words expected."""
    return Answer([f"{time.monotonic_ns()} ", f"answer to {request.last_user_text}"])


async def serve(port: int) -> None:
    """Serve the stand-in to the containers beside it until the process ends."""
    async with ResponsesServer(
        api_key=os.environ["STANDIN_KEY"], responder=stamped, host="0.0.0.0", port=port
    ):
        await asyncio.Event().wait()


def checked(answer: str, text: str) -> str:
    """Return `answer` if it is the one to `text`. Raises LostError."""
    if not answer.endswith(f" answer to {text}"):
        raise LostError(f"{text!r} was answered with {answer!r}")
    return answer


def since(answer: str) -> float:
    """Return the seconds from when the stand-in wrote the beginning of `answer` until now."""
    return (time.monotonic_ns() - int(answer.split(maxsplit=1)[0])) / 1e9


# -- the three ways to ask -------------------------------------------------------------------------


class A2A:
    """One persistent connection to a runtime."""

    def __init__(self, port: int = PORT) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _post(self, method: str, text: str) -> http.client.HTTPResponse:
        number = next(self._numbers)
        message = {
            "role": "user",
            "messageId": f"{threading.get_ident()}-{time.monotonic_ns()}",
            "parts": [{"kind": "text", "text": text}],
        }
        body = {"jsonrpc": "2.0", "id": number, "method": method, "params": {"message": message}}
        self._http.request("POST", "/", json.dumps(body), {"Content-Type": "application/json"})
        response = self._http.getresponse()
        if response.status != 200:
            raise LostError(f"{method}: HTTP {response.status}: {response.read()[:500]!r}")
        return response

    def send(self, text: str) -> None:
        """`message/send`, until the task is complete. Raises LostError."""
        task = json.loads(self._post("message/send", text).read()).get("result", {})
        if task.get("status", {}).get("state") != "completed":
            raise LostError(f"{text!r} ended as {json.dumps(task)[:500]}")
        checked("".join(part["text"] for part in task["artifacts"][0]["parts"]), text)

    def stream(self, text: str) -> float:
        """`message/stream`; returns the seconds from the stand-in's first delta to its arrival.

        Raises LostError.
        """
        response = self._post("message/stream", text)
        first: float | None = None
        state = ""
        while line := response.readline():
            if not line.startswith(b"data:"):
                continue
            event = json.loads(line[5:])["result"]
            if first is None and event["kind"] == "artifact-update":
                first = since(event["artifact"]["parts"][0]["text"])
            state = event.get("status", {}).get("state", state)
        if first is None or state != "completed":
            raise LostError(f"the stream of {text!r} ended as {state or 'nothing'}")
        return first


class AppServer:
    """A bare `codex app-server` over stdio, with one thread. `with` it."""

    def __init__(self, binary: Path, home: Path) -> None:
        self._child = subprocess.Popen(
            [binary, "app-server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=home,
            env={**os.environ, "CODEX_HOME": str(home)},
        )
        self._numbers = itertools.count(1)
        self._thread = ""

    def __enter__(self) -> Self:
        self._call("initialize", {"clientInfo": {"name": "bench", "version": "1"}})
        self._write({"method": "initialized"})
        thread = {"sandbox": "danger-full-access", "approvalPolicy": "never", "cwd": str(Path.cwd())}
        self._thread = self._call("thread/start", thread)["thread"]["id"]
        return self

    def __exit__(self, *_: object) -> None:
        self._child.communicate()

    def turn(self, text: str) -> float:
        """Run one turn to its end; returns the seconds from the stand-in's first delta to its arrival."""
        request = {"threadId": self._thread, "input": [{"type": "text", "text": text}]}
        self._write({"id": next(self._numbers), "method": "turn/start", "params": request})
        first: float | None = None
        answer = ""
        for message in self._messages():
            if "error" in message:
                raise LostError(f"turn/start: {message['error']}")
            params = message.get("params", {})
            if message.get("method") == "item/agentMessage/delta":
                answer += params["delta"]
                first = since(answer) if first is None else first
            elif message.get("method") == "turn/completed":
                checked(answer, text)
                break
        if first is None:
            raise LostError("the bare app-server ended its turn without a delta")
        return first

    def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        self._write({"id": number, "method": method, "params": params})
        for message in self._messages():
            if message.get("id") == number and "method" not in message:
                if "error" in message:
                    raise LostError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
        raise LostError(f"{method}: the bare app-server is gone")

    def _write(self, message: dict[str, Any]) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(message).encode() + b"\n")
        self._child.stdin.flush()

    def _messages(self) -> Iterator[dict[str, Any]]:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            yield json.loads(line)
        raise LostError("the bare app-server is gone")


def codex_exec(binary: Path, home: Path, text: str) -> None:
    """Answer one message with a process of its own. Raises LostError."""
    done = subprocess.run(
        [binary, "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", text],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        env={**os.environ, "CODEX_HOME": str(home)},
        timeout=PATIENCE,
    )
    if done.returncode != 0:
        raise LostError(f"codex exec: exit code {done.returncode}: {done.stderr[-500:]}")
    checked(done.stdout.strip(), text)


# -- what is measured ------------------------------------------------------------------------------


def turns(count: int, processes: int) -> dict[str, list[float]]:
    """Take turns between the runtime, a bare app-server and a process per message; seconds of each."""
    binary = find_codex("codex")
    home = Path("/tmp/bare")  # the container is thrown away
    home.mkdir()
    shutil.copy(Path.home() / ".codex/config.toml", home)
    found: dict[str, list[float]] = {name: [] for name in ("a2a", "bare", "exec", "a2a_first", "bare_first")}
    a2a = A2A()
    with AppServer(binary, home) as bare:
        for number in range(-WARM_UP, count):
            started = time.monotonic()
            bare.turn(f"bare {number}")
            bare_done = time.monotonic()
            a2a.send(f"send {number}")
            a2a_done = time.monotonic()
            bare_first = bare.turn(f"delta {number}")
            a2a_first = a2a.stream(f"stream {number}")
            if number >= 0:
                found["bare"].append(bare_done - started)
                found["a2a"].append(a2a_done - bare_done)
                found["bare_first"].append(bare_first)
                found["a2a_first"].append(a2a_first)
    for number in range(processes):
        started = time.monotonic()
        codex_exec(binary, home, f"exec {number}")
        found["exec"].append(time.monotonic() - started)
    return found


def resident() -> float:
    """Return the resident memory of the runtime, which is the container's first process, in MiB."""
    command = Path("/proc/1/cmdline").read_bytes()
    if b"molecule-runtime" not in command:
        raise LostError(f"the container's first process is {command!r}, not the runtime")
    status = Path("/proc/1/status").read_text()
    (kib,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kib) / 1024


def memory(early: int, late: int) -> dict[str, list[float]]:
    """Return the runtime's resident memory after `early` and after `late` turns, in MiB."""
    a2a = A2A()
    found = []
    for number in range(1, late + 1):
        a2a.send(f"turn {number}")
        if number in (early, late):
            found.append(resident())
    return {"resident": found}


def burst(count: int) -> dict[str, list[float]]:
    """Send `count` messages at once, each on its own connection; the seconds until each was answered."""
    start = threading.Barrier(count + 1)
    seconds: list[float] = []
    problems: list[str] = []

    def one(number: int) -> None:
        a2a = A2A()
        start.wait()
        began = time.monotonic()
        try:
            a2a.send(f"message {number}")
        except (LostError, OSError, http.client.HTTPException) as error:
            problems.append(str(error) or repr(error))
        else:
            seconds.append(time.monotonic() - began)
        finally:
            a2a.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    start.wait()
    for thread in threads:
        thread.join()
    if problems:
        raise LostError(f"{len(problems)} of {count} messages were lost, the first: {problems[0]}")
    return {"burst": seconds}


def main() -> None:
    """Serve, or measure one thing and print it."""
    measures: dict[str, Callable[..., dict[str, list[float]]]] = {
        "turns": turns,
        "memory": memory,
        "burst": burst,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("serve", *measures))
    parser.add_argument("numbers", type=int, nargs="+", help="port; turns and processes; two turns; messages")
    options = parser.parse_args()
    if options.what == "serve":
        asyncio.run(serve(*options.numbers))
    try:
        found = measures[options.what](*options.numbers)
    except LostError as error:
        sys.exit(f"bench: {options.what}: {error}")
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
