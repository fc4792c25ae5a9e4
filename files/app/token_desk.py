"""Where codex asks for new tokens in a workspace that does not refresh its account itself.

codex 0.130.0 refreshes when the model answers 401, and when its access token has expired. A follower's codex
is sent here instead of to OpenAI, over loopback and with a refresh token that is none. The question is news:
the tokens are dead. Newer ones are fetched from the platform, and codex goes on with them in the same
turn. Where there are none, codex is told so and fails at once; an address that does not answer would be tried
again for ten seconds, one that answers anything but 401 too.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from typing import TYPE_CHECKING, Any, Final

import structlog

from codex_auth_refresh import parse_object, text_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["NO_DESK", "TokenDesk"]

log = structlog.get_logger(__name__)

_VARIABLE: Final = "CODEX_REFRESH_TOKEN_URL_OVERRIDE"
# For a codex that must not refresh and has no desk to ask: nobody answers on the discard port.
NO_DESK: Final = {_VARIABLE: "http://127.0.0.1:9/follower"}
_SECONDS: Final = 15.0
_LIMIT: Final = 1 << 16


class TokenDesk:
    """An HTTP server on loopback. `tokens` gives those of auth.json, `fetch` looks for newer ones.

    Only who has read auth.json knows the refresh token that it accepts.
    """

    def __init__(self, tokens: Callable[[], Mapping[str, Any]], fetch: Callable[[], Awaitable[None]]) -> None:
        self._tokens = tokens
        self._fetch = fetch
        self._server: asyncio.Server | None = None
        self.environment = NO_DESK
        """What makes codex ask here."""

    async def open(self) -> None:
        """Listen. Where that is not possible codex asks nobody, and finds new tokens in auth.json."""
        try:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LIMIT)
        except OSError as error:
            log.warning("auth.no_desk", reason=str(error))
            return
        port = self._server.sockets[0].getsockname()[1]
        self.environment = {_VARIABLE: f"http://127.0.0.1:{port}/follower"}

    async def aclose(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whoever breaks off, or sends what is no request, gets no answer.
        with contextlib.suppress(OSError, ValueError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_SECONDS):
                status, answer = await self._answer(await _body(reader))
                body = json.dumps(answer).encode()
                head = (
                    f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                )
                writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
                await writer.drain()
        writer.close()

    async def _answer(self, body: bytes) -> tuple[str, dict[str, Any]]:
        refused = ("401 Unauthorized", {"error": {"code": "not_refresh_owner"}})
        before = self._tokens()
        given = text_of(parse_object(body) or {}, "refresh_token")
        if not given or not hmac.compare_digest(given.encode("utf-8", "replace"), _known(before)):
            return refused
        await self._fetch()
        after = self._tokens()
        if after.get("access_token") == before.get("access_token"):
            return refused
        return "200 OK", {name: after[name] for name in ("access_token", "id_token") if name in after}


def _known(tokens: Mapping[str, Any]) -> bytes:
    return text_of(tokens, "refresh_token").encode("utf-8", "replace")


async def _body(reader: asyncio.StreamReader) -> bytes:
    """The body of a POST with a length. Raises ValueError for another request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    if not head[0].startswith("POST "):
        raise ValueError(head[0])
    lengths = [line.partition(":")[2] for line in head if line.lower().startswith("content-length:")]
    length = int(lengths[0]) if lengths else 0
    if not 0 <= length <= _LIMIT:
        raise ValueError(f"{length} bytes")
    return await reader.readexactly(length)
