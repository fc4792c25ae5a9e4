"""A follower's codex, the real binary: it has no refresh token, and what it asks reaches nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from auth_follow import Follower
from auth_json import install, tokens_in
from proxies import past_the_proxy
from support.codex_workbench import Workbench
from support.responses_server import Answer, HttpError, Request, ResponsesServer, Step
from support.token_endpoint import jwt
from support.watchdog import DAY, auth_document
from token_desk import NO_DESK, TokenDesk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

CONFIG = """\
openai_base_url = "{base_url}"
cli_auth_credentials_store = "file"
forced_login_method = "chatgpt"
[features]
apps = false
plugins = false
enable_request_compression = false
[analytics]
enabled = false
"""
CLAIMS = {"chatgpt_plan_type": "pro", "chatgpt_account_id": "account-1", "chatgpt_user_id": "user-1"}
SPELLINGS = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def subscription(number: int, *, expires_in: float, **tokens: Any) -> dict[str, Any]:
    """Version `number` of the tokens of one account; a refresh leaves `last_refresh` as it was."""
    claims = {"email": "user@example.com", "https://api.openai.com/auth": CLAIMS, "number": number}
    refresh = f"rt-secret-{number}"
    return auth_document(expires_in=expires_in, id_token=jwt(claims), refresh_token=refresh, **tokens)


class RecordingProxy:
    """Takes each request, answers none with anything of use, and keeps all that it was sent."""

    def __init__(self) -> None:
        self.seen = b""
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[RecordingProxy]:
        """Serve inside."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen += await reader.read(1 << 16)
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


class Account:
    """The platform's secret and the model that takes its newest access token only."""

    def __init__(self, model: ResponsesServer, home: Path, *, expires_in: float = DAY, **tokens: Any) -> None:
        self.home = home
        self.secret = subscription(1, expires_in=expires_in, **tokens)
        self.accepted = ""
        self.follower = Follower(home, self._fetch)
        self.desk = TokenDesk(lambda: tokens_in(home), self.follower.now)
        model.api_key, model.responder = None, self._respond

    async def _fetch(self) -> dict[str, str]:
        return {"CODEX_AUTH_JSON": json.dumps(self.secret)}

    def _respond(self, request: Request) -> Step:
        taken = request.headers["authorization"] == f"Bearer {self.accepted}"
        return Answer.text("Here.") if taken else HttpError(401, "expired")

    def rotate(self, **tokens: Any) -> None:
        """The platform refreshes: the model takes the new token only."""
        self.secret = subscription(2, expires_in=9 * DAY, **tokens)
        self.accepted = self.secret["tokens"]["access_token"]


@contextlib.asynccontextmanager
async def following(
    tmp_path: Path, model: ResponsesServer, env: dict[str, str], *, desk: bool = True, **account: Any
) -> AsyncIterator[tuple[Workbench, Account]]:
    """A workspace that follows an account, with the variables `env` about it."""
    home = tmp_path / "home/.codex"
    made = Account(model, home, **account)
    install(home, json.dumps(made.secret), "CODEX_AUTH_JSON", withhold=True)
    if desk:
        await made.desk.open()
    bench = Workbench(tmp_path, "", env={**env, **past_the_proxy(env), **made.desk.environment})
    (home / "config.toml").write_text(CONFIG.format(base_url=model.base_url))
    try:
        async with bench:
            yield bench, made
    finally:
        await made.desk.aclose()


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_nothing_is_sent_through_a_proxy_and_a_dead_token_ends_the_turn_at_once(
    tmp_path: Path, model: ResponsesServer, spelling: str
) -> None:
    async with RecordingProxy().running() as proxy:
        env = {spelling: proxy.url, "NO_PROXY": "internal.example"}
        async with following(tmp_path, model, env) as (bench, _):
            sent = bench.send("hello")
            assert "CODEX_AUTH_REFRESH_OWNER is not 1" in await sent.failed()
            assert sent.failure == "unauthorized"
        assert len(model.requests) == 2, "codex looks at auth.json once more, and asks no third time"
        sent_out = [line for line in proxy.seen.split(b"\r\n") if line.startswith((b"POST", b"GET"))]
        assert sent_out == []
        assert b"rt-secret" not in proxy.seen
        assert b"withheld" not in proxy.seen


@pytest.mark.parametrize("expires_in", [DAY, -60], ids=["refused by the model", "expired"])
@pytest.mark.parametrize("account_id", ["account-1", ...], ids=["account", "no account"])
async def test_tokens_that_the_platform_has_refreshed_are_used_in_the_same_turn(
    tmp_path: Path, model: ResponsesServer, expires_in: float, account_id: Any
) -> None:
    async with following(tmp_path, model, {}, expires_in=expires_in, account_id=account_id) as (
        bench,
        account,
    ):
        account.rotate(account_id=account_id)
        assert await bench.send("hello").completed() == "Here."
        kept = json.loads((account.home / "auth.json.withheld").read_text())
        assert kept["tokens"]["refresh_token"] == "rt-secret-2"
        assert "rt-secret" not in (account.home / "auth.json").read_text()
        assert tokens_in(account.home)["access_token"] == account.accepted


@pytest.mark.parametrize("desk", [True, False])
async def test_after_a_dead_token_the_next_message_works_with_a_new_one_and_no_restart(
    tmp_path: Path, model: ResponsesServer, desk: bool
) -> None:
    async with following(tmp_path, model, {}, desk=desk) as (bench, account):
        assert (account.desk.environment == NO_DESK) is not desk
        await bench.send("hello").failed()
        pid = bench.codex.pid
        account.rotate()
        await account.follower.now()
        assert await bench.send("and now?").completed() == "Here."
        assert bench.codex.pid == pid
