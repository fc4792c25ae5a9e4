"""The listening socket."""

from __future__ import annotations

import socket

__all__ = ["open_listener"]


def open_listener(host: str, port: int, backlog: int = 1024) -> socket.socket:
    """Listen on `host`:`port` (0 for any free port). Raises OSError.

    The protocol number is given because asyncio switches Nagle's algorithm off only on sockets that carry
    it, and accepted sockets inherit it: `socket.create_server` leaves it 0, and every answer then waits 40
    ms for an ACK.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener
