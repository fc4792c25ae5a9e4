"""A private git remote: git's own `http-backend` behind Basic authentication."""

from __future__ import annotations

import base64
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["GitRemote"]


class GitRemote:
    """Serves one bare repository on `host`, in threads of its own. Use as a context manager.

    `statuses` lists what the requests were answered with.
    """

    def __init__(self, directory: Path, host: str, username: str, password: str) -> None:
        self._root = directory
        self._expected = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
        self.statuses: list[int] = []
        self._server = ThreadingHTTPServer((host, 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://{host}:{self._server.server_port}/private.git"
        repository = directory / "private.git"
        _git("init", "--quiet", "--bare", "--initial-branch=main", str(repository))
        _git("-C", str(repository), "config", "http.receivepack", "true")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def show(self, path: str) -> str:
        """The content of a file on the branch main."""
        return _git("-C", str(self._root / "private.git"), "show", f"main:{path}")

    def _answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """The status, and what follows the status line. Nobody gets further without the right credential."""
        if headers.get("authorization") != self._expected:
            return 401, b"WWW-Authenticate: Basic realm=private\r\nContent-Length: 0\r\n\r\n"
        path, _, query = target.partition("?")
        done = subprocess.run(
            ["git", "http-backend"],
            env={
                "PATH": "/usr/bin:/bin",
                "GIT_PROJECT_ROOT": str(self._root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "REMOTE_USER": "someone",
                "REQUEST_METHOD": method,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": headers.get("content-type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
                "GIT_PROTOCOL": headers.get("git-protocol", ""),
            },
            input=body,
            capture_output=True,
            check=True,
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        status = next((line.split()[1] for line in lines if line.startswith(b"Status:")), b"200")
        kept = [line for line in lines if not line.startswith(b"Status:")]
        return int(status), b"\r\n".join([*kept, b"Content-Length: %d" % len(content), b"", content])

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        remote = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, rest = remote._answer(self.command, self.path, headers, body)
                remote.statuses.append(status)
                self.wfile.write(b"HTTP/1.0 %d Answer\r\n" % status + rest)

            def do_GET(self) -> None:
                self._serve()

            def do_POST(self) -> None:
                self._serve()

        return Handler


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout
