"""Secrets with line ends, and networks of all kinds: the workspace works, or the reason is served."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from support.codex_workbench import API_KEY
from support.responses_server import Answer, Call, ResponsesServer
from support.workspace_container import CONFIG, WorkspaceContainer, gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.fake_platform import FakePlatform

pytestmark = pytest.mark.anyio

PLATFORM = "export PLATFORM_URL=http://192.0.2.1:8080 "


@pytest.fixture(scope="module")
async def workspace(image: str, standin: ResponsesServer) -> AsyncIterator[WorkspaceContainer]:
    """One that starts again and again, each time with other variables."""
    config = CONFIG.format(base_url=standin.base_url)
    async with WorkspaceContainer(image, config, env={"STANDIN_KEY": f"{API_KEY}\r\n"}) as running:
        yield running


async def restarted(workspace: WorkspaceContainer, loader: str) -> None:
    await workspace.put("/configs", {"secrets.d/load.sh": loader}, owner=0)
    await workspace.restart()


@pytest.mark.parametrize(
    "loader",
    [
        "true\n",
        f"\ufeffexport STANDIN_KEY={API_KEY}\r\nif true; then\r\n:\r\nfi\r\n",
        f"export STANDIN_KEY=$'{API_KEY}\\n'\n",
        "export ALL_PROXY=socks5://192.0.2.1:1 NO_PROXY='[::1],172.16.0.0/12,10.0.0.0/8,192.168.0.0/16'\n",
    ],
    ids=["environment", "file of Windows", "line end", "proxies"],
)
async def test_the_key_reaches_the_model_whatever_stands_at_its_end(
    workspace: WorkspaceContainer, model: ResponsesServer, loader: str
) -> None:
    await restarted(workspace, loader)
    model.script(Answer.text("Hello."))
    assert await workspace.answer("hello") == "Hello."
    assert model.requests[-1].headers["authorization"] == f"Bearer {API_KEY}"


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        (f"export STANDIN_KEY=$'{API_KEY}\\u0142'\n", "STANDIN_KEY has characters that no key has"),
        (f"export STANDIN_KEY=$'{API_KEY}\\n{API_KEY}'\n", "STANDIN_KEY has characters that no key has"),
        ("export PLATFORM_URL=http://h:80a\n", "PLATFORM_URL"),
        (f"{PLATFORM} MOLECULE_ORG_ID=$'\\u0142'\n", "MOLECULE_ORG_ID has characters that cannot go"),
        (f"{PLATFORM} ALL_PROXY=socks5://u:pw-secret@h:1\n", "ALL_PROXY is a SOCKS proxy"),
        (f"{PLATFORM} http_proxy=http://u:pw-secret@h:80a\n", "http_proxy is no address of a proxy"),
        ("export MOLECULE_WORKSPACE_URL=h:8000\n", "MOLECULE_WORKSPACE_URL is 'h:8000'"),
    ],
)
async def test_what_cannot_be_used_is_served_by_name(
    workspace: WorkspaceContainer, loader: str, words: str
) -> None:
    await restarted(workspace, f"export LC_ALL=C.UTF-8\n{loader}")
    ready = await workspace.http.get("/readyz")
    assert ready.status_code == 503
    assert words in ready.json()["reason"]
    story = (await workspace.logs()).rpartition("workspace test, platform")[2]
    assert words in story
    for secret in ("Traceback", API_KEY, "pw-secret"):
        assert secret not in story + ready.text


@contextlib.asynccontextmanager
async def forward_proxy(upstream: str, seen: list[str]) -> AsyncIterator[str]:
    """An HTTP proxy for all who know its password. Whatever they ask for, `upstream` answers."""
    host, port = upstream.removeprefix("http://").split(":")
    tasks = set[asyncio.Task[None] | None]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, url, version = head.splitlines()[0].split(" ")
        seen.append(url)
        fields = [
            line for line in head.splitlines()[1:] if line and not line.lower().startswith("connection:")
        ]
        assert "proxy-authorization: basic dxnlcjpwdy1zzwnyzxq=" in [field.lower() for field in fields]
        path = f"/{url.split('/', 3)[3]}"
        back, forth = await asyncio.open_connection(host, int(port))
        forth.write(
            "\r\n".join([f"{method} {path} {version}", *fields, "Connection: close", "", ""]).encode()
        )
        length = next((int(f.split(":")[1]) for f in fields if f.lower().startswith("content-length:")), 0)
        forth.write(await reader.readexactly(length))
        writer.write(await back.read())
        for each in (forth, writer):
            each.close()

    server = await asyncio.start_server(serve, "0.0.0.0", 0)
    async with server:
        yield f"http://user:pw-secret@{await gateway()}:{server.sockets[0].getsockname()[1]}"


async def test_a_platform_behind_a_proxy_is_reached_by_the_agents_tools_too(
    image: str, model: ResponsesServer, platform: FakePlatform
) -> None:
    """The password of the proxy is in no file that codex reads."""
    seen: list[str] = []
    direct = urlsplit(model.base_url).hostname
    async with forward_proxy(platform.url, seen) as proxy:
        env = {
            "PLATFORM_URL": "http://platform.invalid:8080",
            "http_proxy": proxy,
            "NO_PROXY": f"{direct}/32",
        }
        async with WorkspaceContainer(
            image, CONFIG.format(base_url=model.base_url), env=env, platform=platform
        ) as workspace:
            assert "pw-secret" not in await workspace.says("registered with the platform")
            model.script(Call("list_peers", {}, namespace="mcp__molecule__"), Answer.text("Done."))
            assert await workspace.answer("who is there?") == "Done."
            (output,) = model.requests[-1].tool_outputs.values()
            assert "Bee (ID: ws-b" in json.dumps(output)
            assert "http://platform.invalid:8080/registry/test/peers" in seen
            toml = await workspace.sh("cat /home/agent/.codex/config.toml")
            assert "http_proxy" in toml
            assert "pw-secret" not in toml
