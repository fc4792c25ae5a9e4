"""A strict OAuth token endpoint on loopback, which takes a refresh token only once.

The watchdog sends tokens over plain HTTP to loopback only, so for a workspace in a container the endpoint
runs by itself in the same network, and prints a line for each request:

    python3 token_endpoint.py --port 9000 --grant rt-first --hold-until /tmp/released

Only the standard library, so that it runs in the image.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
PATH = "/oauth/token"
PATIENCE_SECONDS = 60


def jwt(claims: dict[str, Any]) -> str:
    """Return an unsigned JWT; codex does not look at the signature."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}.c2lnbmF0dXJl"


@dataclass
class Reply:
    """What to answer instead of tokens."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def error(cls, status: int, code: str) -> Reply:
        """Return an error in the shape of OpenAI's endpoint."""
        return cls(status, json.dumps({"error": {"code": code, "message": "for people"}}).encode())


def _examine(method: str, path: str, content_type: str, raw: bytes) -> tuple[dict[str, str], str]:
    if (method, path, content_type) != ("POST", PATH, "application/json"):
        return {}, f"{method} {path} as {content_type!r}"
    try:
        body = json.loads(raw)
    except ValueError:
        return {}, "body is not JSON"
    if not isinstance(body, dict) or set(body) != {"client_id", "grant_type", "refresh_token"}:
        return {}, "body has not just client_id, grant_type and refresh_token"
    if body["client_id"] != CLIENT_ID or body["grant_type"] != "refresh_token":
        return {}, "client_id or grant_type is wrong"
    return body, ""


class TokenEndpoint:
    """Serves in threads of its own. Use as a context manager.

    `grants` holds the refresh tokens that are accepted, `used` those that were, `seen` all that came.
    `replies` are given first, in order, and spend nothing. `extra` changes the members of an answer (`...`
    removes one). `hold()` keeps answers back until `release()`; the token is spent on arrival, as by the real
    one. `faults` lists what a request got wrong: a test that ends with any has failed.
    """

    def __init__(self, port: int = 0) -> None:
        self.grants: set[str] = set()
        self.used: set[str] = set()
        self.replies: list[Reply] = []
        self.seen: list[str] = []
        self.faults: list[str] = []
        self.rotate = True
        self.extra: dict[str, Any] = {}
        self.access_claims: dict[str, Any] = {"exp": 4_000_000_000}
        self.before_answer: Callable[[], None] = lambda: None
        self.issued: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._arrived = threading.Semaphore(0)
        self._released = threading.Event()
        self._released.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        """Return the full URL of the token endpoint."""
        return f"http://127.0.0.1:{self._server.server_port}{PATH}"

    def __enter__(self) -> TokenEndpoint:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if kind is None:
            assert self.faults == []

    def hold(self) -> None:
        """Keep answers back from now on."""
        self._released.clear()

    def release(self) -> None:
        """Let the answers go."""
        self._released.set()

    def wait_for_request(self) -> None:
        """Return when the next request has arrived and been judged, though perhaps not answered."""
        assert self._arrived.acquire(timeout=PATIENCE_SECONDS), "no request came"

    def _judge(self, method: str, path: str, content_type: str, raw: bytes) -> Reply:
        with self._lock:
            body, fault = _examine(method, path, content_type, raw)
            if fault:
                self.faults.append(fault)
                return Reply(400, b'{"error": "invalid_request"}')
            token = body["refresh_token"]
            self.seen.append(token)
            if self.replies:
                return self.replies.pop(0)
            if token in self.used:
                return Reply.error(401, "refresh_token_reused")
            if token not in self.grants:
                return Reply.error(401, "refresh_token_invalidated")
            number = len(self.issued) + 1
            answer: dict[str, Any] = {"access_token": jwt({**self.access_claims, "number": number})}
            if self.rotate:
                self.grants.remove(token)
                self.used.add(token)
                answer["refresh_token"] = f"rt-secret-issued-{number}"
                answer["id_token"] = jwt({"email": "user@example.com", "number": number})
                self.grants.add(answer["refresh_token"])
            self.issued.append(answer)
            answer = {name: value for name, value in {**answer, **self.extra}.items() if value is not ...}
            return Reply(200, json.dumps(answer).encode())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                reply = endpoint._judge(self.command, self.path, self.headers.get("Content-Type", ""), raw)
                endpoint._arrived.release()
                endpoint._released.wait(PATIENCE_SECONDS)
                endpoint.before_answer()
                try:
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(reply.body)))
                    self.end_headers()
                    self.wfile.write(reply.body)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def do_GET(self) -> None:
                self._serve()

            def do_POST(self) -> None:
                self._serve()

            def do_PUT(self) -> None:
                self._serve()

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                """Keep the test's output clean."""

        return Handler


def main() -> None:
    """Serve until the process ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grant", action="append", default=[], help="a refresh token that is accepted, once")
    parser.add_argument("--hold-until", type=Path, help="answer nothing before this file is there")
    options = parser.parse_args()

    def before_answer() -> None:
        sys.stdout.write(f"asked {len(endpoint.seen)} times, {len(endpoint.faults)} faults\n")
        sys.stdout.flush()
        while options.hold_until and not options.hold_until.exists():
            time.sleep(0.05)

    with TokenEndpoint(options.port) as endpoint:
        endpoint.grants.update(options.grant)
        endpoint.before_answer = before_answer
        sys.stdout.write("serving\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
