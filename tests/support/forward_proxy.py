"""A forward proxy for HTTPS that lets through only those who know its password."""

from __future__ import annotations

import base64
import contextlib
import secrets
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class ForwardProxy:
    """Tunnels CONNECT requests, from ``url`` on this machine to wherever they ask for.

    ``granted`` and ``refused`` are the addresses (``host:port``) that were asked for, in order.
    """

    def __init__(self) -> None:
        self.password = f"secret-{secrets.token_hex(16)}"
        self.granted: list[str] = []
        self.refused: list[str] = []
        credentials = base64.b64encode(f"builder:{self.password}".encode()).decode()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                if self.headers.get("Proxy-Authorization") != f"Basic {credentials}":
                    proxy.refused.append(self.path)
                    self.send_response(407)
                    self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
                    self.end_headers()
                    return
                proxy.granted.append(self.path)
                host, _, port = self.path.rpartition(":")
                with socket.create_connection((host, int(port)), timeout=60) as upstream:
                    self.send_response(200)
                    self.end_headers()
                    back = threading.Thread(target=pump, args=(upstream, self.connection))
                    back.start()
                    pump(self.connection, upstream)
                    back.join()
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it so
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://builder:{self.password}@127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Hand on all that comes, until one side has ended."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
