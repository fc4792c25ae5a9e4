"""The fake platform itself: its forwarders against a live workspace, its strictness, and its command line."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from molecule_runtime import platform_auth
from support.fake_platform import FakePlatform, Peer
from support.runtime_process import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from unit.runtime.conftest import LiveWorkspace

pytestmark = pytest.mark.anyio

_REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
async def http(
    platform: FakePlatform, live: LiveWorkspace, configs: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """The API as our workspace calls it, with the live workspace behind the platform."""
    platform.rotate_token(configs / ".auth_token")
    row = platform.workspaces["ws-self"]
    row.url, row.inbound_secret = live.url, "inbound"
    platform_auth.save_inbound_secret("inbound")
    headers = {**platform_auth.auth_headers(), "X-Workspace-ID": "ws-self"}
    async with httpx.AsyncClient(base_url=platform.url, headers=headers, timeout=20) as client:
        yield client


async def test_a_file_of_the_user_reaches_the_working_tree_and_comes_back(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    stored = await http.post("/workspaces/ws-self/chat/uploads", files={"files": ("a b.txt", b"hello")})
    (described,) = stored.json()["files"]
    path = tmp_path / "workspace" / described["uri"].removeprefix("workspace:/workspace/")
    assert path.read_bytes() == b"hello"
    served = await http.get("/workspaces/ws-self/chat/download", params={"path": str(path)})
    assert (served.status_code, served.content) == (200, b"hello")
    assert "attachment" in served.headers["content-disposition"]


async def test_the_transcript_is_read_through_the_platform_with_the_callers_bearer(
    http: httpx.AsyncClient, live: LiveWorkspace
) -> None:
    await live.send("say:x")
    page = (await http.get("/workspaces/ws-self/transcript", params={"limit": 5})).json()
    assert page["lines"] == [{"text": "say:x"}]


@pytest.mark.parametrize(
    "payload",
    [
        {"method": "message/send", "params": {"message": {"parts": [{"type": "text", "text": "say:x"}]}}},
        {"message": {"content": "say:x"}},
        {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": {"content": "say:x"}}},
    ],
)
async def test_what_the_proxy_makes_of_old_requests_is_answered(
    http: httpx.AsyncClient, payload: dict[str, object]
) -> None:
    answer = (await http.post("/workspaces/ws-self/a2a", json=payload)).json()
    assert answer["result"]["status"]["state"] == "completed"


async def test_a_delegated_task_is_delivered_as_a_message_with_its_id(
    http: httpx.AsyncClient, platform: FakePlatform, live: LiveWorkspace
) -> None:
    platform.add_peer(Peer("ws-b", url=live.url, inbound_secret="inbound"))
    key = hashlib.sha256(b"ws-b:say:done").hexdigest()[:32]
    body = {"target_id": "ws-b", "task": "say:done", "idempotency_key": key}
    assert (await http.post("/workspaces/ws-self/delegate", json=body)).status_code == 202
    await asyncio.gather(*platform._deliveries)
    (row,) = (await http.get("/workspaces/ws-self/delegations")).json()
    assert (row["status"], row["response_preview"]) == ("completed", "done")
    assert "_key" not in row


async def test_what_no_workspace_should_do_is_kept_and_raised() -> None:
    async with FakePlatform() as platform, httpx.AsyncClient(base_url=platform.url) as http:
        platform.issue_token()
        platform.switches.org_id = "org-1"
        org = {"X-Molecule-Org-Id": "org-1"}
        assert (await http.get("/registry/ws-self/peers")).status_code == 400
        assert (await http.get("/registry/ws-self/peers", headers=org)).status_code == 401
        assert (await http.get("/registry/discover/ws-parent", headers=org)).status_code == 404
        with pytest.raises(AssertionError, match="X-Molecule-Org-Id is missing") as caught:
            platform.check()
        assert "no bearer although a token was issued" in str(caught.value)


async def test_a_loopback_address_is_refused_at_registration() -> None:
    async with FakePlatform() as platform, httpx.AsyncClient(base_url=platform.url) as http:
        url = "http://127.0.0.1:8000"
        body = {"id": "ws-self", "url": url, "agent_card": {"name": "x", "url": url}, "delivery_mode": "push"}
        assert (await http.post("/registry/register", json=body)).status_code == 400


async def test_it_runs_by_itself_and_is_switched_over_http(tmp_path: Path) -> None:
    port = free_port()
    token = tmp_path / "token"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(
            "-m",
            "support.fake_platform",
            "--port",
            str(port),
            "--workspace",
            "ws-1",
            "--token-file",
            str(token),
        ),
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ":".join(
                str(_REPOSITORY / each) for each in ("tests", "files/config_document", "files/runtime")
            ),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        line = await process.stderr.readline()
        assert line.decode().strip() == f"fake platform on http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {token.read_text()}"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as http:
            switches = {
                "peer": {"id": "ws-2", "name": "Two", "parent_id": "ws-parent"},
                "reject": ["peers", 502, 1],
            }
            assert (await http.post("/_fake/switch", json=switches)).status_code == 200
            assert (await http.get("/registry/ws-1/peers")).status_code == 502
            assert [row["name"] for row in (await http.get("/registry/ws-1/peers")).json()] == ["Two"]
            state = (await http.get("/_fake/state")).text
            assert (await http.post("/_fake/switch", json={"nonsense": 1})).status_code == 400
        assert token.read_text() not in state
        assert '"route":"peers"' in state
    finally:
        process.terminate()
        await process.communicate()
