"""The platform client against the fake platform, over real sockets."""

from __future__ import annotations

import asyncio
import errno
import stat
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from molecule_runtime import platform_auth
from molecule_runtime.platform import PlatformClient, PlatformError, UnauthorizedError, UnreachableError
from support.fake_platform import FakePlatform, Peer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

WAITS = (0.0,) * 7


def registration() -> dict[str, Any]:
    url = "http://localhost:8000"
    return {"id": "ws-self", "url": url, "agent_card": {"name": "Self", "url": url}, "delivery_mode": "push"}


@pytest.fixture
async def client(platform: FakePlatform) -> AsyncIterator[PlatformClient]:
    made = PlatformClient(platform.url, "ws-self", registration=registration, register_waits=WAITS)
    yield made
    await made.aclose()


@pytest.fixture
async def registered(client: PlatformClient) -> PlatformClient:
    assert await client.register()
    return client


async def test_the_first_registration_keeps_the_token_and_the_inbound_secret_for_its_owner_only(
    client: PlatformClient, platform: FakePlatform, configs: Path
) -> None:
    assert await client.register()
    for name in (".auth_token", ".platform_inbound_secret"):
        assert stat.S_IMODE((configs / name).stat().st_mode) == 0o600
    assert platform_auth.get_inbound_secret() == platform.workspaces["ws-self"].inbound_secret
    assert (await client.peers()) == []


async def test_a_workspace_survives_an_outage_of_the_platform_at_boot(
    client: PlatformClient, platform: FakePlatform
) -> None:
    """B-41: registering once leaves a workspace online and undialable."""
    platform.drop_next("register", 2)
    platform.reject_next("register", 503)
    platform.reject_next("register", 530)
    platform.reject_next("register", 500)
    assert await client.register()
    assert [call.status for call in platform.calls_to("register")] == [0, 0, 503, 530, 500, 200]


async def test_registering_gives_up_after_eight_attempts_and_says_so_without_raising(
    client: PlatformClient, platform: FakePlatform
) -> None:
    platform.reject_next("register", 503, 20)
    with capture_logs() as lines:
        assert not await client.register()
    assert len(platform.calls_to("register")) == 8
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("not registered with the platform yet, trying again", "HTTP 503"),
        ("not registered with the platform", "HTTP 503"),
    ]


async def test_a_platform_that_does_not_answer_is_named_at_the_first_attempt(
    client: PlatformClient, platform: FakePlatform
) -> None:
    platform.drop_next("register")
    with capture_logs() as lines:
        assert await client.register()
    (line,) = lines
    assert platform.url in line["reason"]


@pytest.mark.parametrize("status", [400, 403, 409])
async def test_registering_stops_at_once_at_an_answer_that_another_attempt_would_not_change(
    client: PlatformClient, platform: FakePlatform, status: int
) -> None:
    platform.reject_next("register", status)
    with capture_logs() as lines:
        assert not await client.register()
    assert len(platform.calls_to("register")) == 1
    assert f"HTTP {status}" in lines[0]["reason"]


async def test_registering_again_after_a_restart_presents_the_token(
    registered: PlatformClient, platform: FakePlatform
) -> None:
    before = platform_auth.get_token()
    assert await registered.register()
    assert platform_auth.get_token() == before
    assert platform.calls_to("register")[-1].authorized


@pytest.mark.parametrize("route", ["heartbeat", "peers", "delegations", "notify", "activity"])
async def test_a_single_401_on_any_call_is_recovered_and_the_call_repeated(
    registered: PlatformClient, platform: FakePlatform, route: str
) -> None:
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "heartbeat": lambda: registered.heartbeat(beat()),
        "peers": registered.peers,
        "delegations": registered.delegations,
        "notify": lambda: registered.notify("hello"),
        "activity": lambda: registered.activity("agent_log", "x", "y"),
    }
    platform.reject_next(route, 401)
    await calls[route]()
    assert [call.status for call in platform.calls_to(route)] == [401, 200]


async def test_a_token_that_the_platform_wrote_to_disk_is_taken_up(
    registered: PlatformClient, platform: FakePlatform, configs: Path
) -> None:
    """B-45: a restart revokes the token and writes another one into the volume."""
    platform.rotate_token(configs / ".auth_token")
    await registered.heartbeat(beat())
    assert [call.status for call in platform.calls_to("heartbeat")] == [401, 200]
    assert len(platform.registrations) == 1


async def test_a_token_that_was_only_revoked_is_replaced_by_registering(
    registered: PlatformClient, platform: FakePlatform, configs: Path
) -> None:
    old = platform_auth.get_token()
    platform.rotate_token()
    await registered.heartbeat(beat())
    assert platform_auth.get_token() != old
    assert (configs / ".auth_token").read_text() == platform_auth.get_token()


async def test_registering_with_a_token_that_was_rotated_on_disk_is_done_with_the_new_one(
    registered: PlatformClient, platform: FakePlatform, configs: Path
) -> None:
    platform.rotate_token(configs / ".auth_token")
    assert await registered.register()
    assert [call.authorized for call in platform.calls_to("register")] == [False, False, True]


async def test_a_card_that_changed_is_registered_without_a_restart(
    registered: PlatformClient, platform: FakePlatform
) -> None:
    card = {"name": "Other", "url": "http://localhost:8000"}
    await registered.update_card(card)
    assert platform.workspaces["ws-self"].agent_card == card
    with pytest.raises(PlatformError, match="unsafe card url"):
        await registered.update_card({"name": "Other", "url": "javascript:x"})


async def test_many_calls_that_meet_a_revoked_token_register_once(
    registered: PlatformClient, platform: FakePlatform
) -> None:
    platform.rotate_token()
    await asyncio.gather(*(registered.peers() for _ in range(20)))
    assert len(platform.registrations) == 2


async def test_a_refused_recovery_is_not_repeated_hot(
    registered: PlatformClient, platform: FakePlatform
) -> None:
    platform.reject_next("heartbeat", 401, 50)
    platform.reject_next("register", 401, 50)
    for _ in range(5):
        with pytest.raises(UnauthorizedError):
            await registered.heartbeat(beat())
    assert len(platform.calls_to("register")) == 1 + 2


async def test_a_process_that_cannot_register_only_looks_for_a_newer_token(
    registered: PlatformClient, platform: FakePlatform, configs: Path
) -> None:
    child = PlatformClient(platform.url, "ws-self")
    platform.rotate_token(configs / ".auth_token")
    assert await child.peers() == []
    platform.rotate_token()
    with pytest.raises(UnauthorizedError):
        await child.peers()
    assert len(platform.registrations) == 1
    await child.aclose()


async def test_a_dropped_connection_says_what_happened_and_where(
    registered: PlatformClient, platform: FakePlatform
) -> None:
    platform.drop_next("notify")
    with pytest.raises(UnreachableError, match=r"Error at http://127\.0\.0\.1"):
        await registered.notify("hello")


async def test_a_read_is_tried_again_while_the_platform_is_out(
    registered: PlatformClient, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_runtime.platform._GET_WAITS", (0.0, 0.0))
    platform.reject_next("peers", 530)
    platform.drop_next("peers")
    assert await registered.peers() == []


async def test_the_org_header_goes_with_every_call_where_it_is_known(platform: FakePlatform) -> None:
    """B-25: without X-Molecule-Org-Id every call to a tenant is a 400."""
    platform.switches.org_id = "org-1"
    client = PlatformClient(platform.url, "ws-self", "org-1", registration=registration, register_waits=WAITS)
    assert await client.register()
    await client.heartbeat(beat())
    await client.peers()
    assert {call.org for call in platform.calls} == {"org-1"}
    await client.aclose()


async def test_calls_that_reach_other_workspaces_say_who_calls(
    registered: PlatformClient, platform: FakePlatform
) -> None:
    platform.add_peer(Peer("ws-peer", "Peer", url="http://localhost:1", parent_id="ws-parent"))
    await registered.discover("ws-peer")
    await registered.send_a2a("ws-peer", {"method": "message/send", "params": {"message": {"content": "hi"}}})
    assert {call.source for call in platform.calls if call.route in ("discover", "a2a")} == {"ws-self"}


async def test_delegating_the_same_task_twice_is_one_delegation_and_no_error(
    registered: PlatformClient, platform: FakePlatform
) -> None:
    platform.add_peer(Peer("ws-peer", "Peer"))
    first = await registered.delegate("ws-peer", "count")
    second = await registered.delegate("ws-peer", "count")
    assert first["delegation_id"] == second["delegation_id"]
    assert second["idempotent_hit"]


async def test_uploads_are_sent_with_their_types_and_counted(
    registered: PlatformClient, platform: FakePlatform, tmp_path: Path
) -> None:
    platform.workspaces["ws-self"].url = ""
    image = tmp_path / "a.png"
    image.write_bytes(b"png")
    stored = await registered.upload([(image, "image/png")])
    assert (stored[0]["name"], stored[0]["mimeType"], stored[0]["size"]) == ("a.png", "image/png", 3)
    platform.switches.lose_uploads = 1
    with pytest.raises(PlatformError, match="sent 1 files, the platform stored 0"):
        await registered.upload([(image, "image/png")])


async def test_a_full_disk_while_a_token_is_saved_leaves_the_workspace_working(
    client: PlatformClient, platform: FakePlatform, configs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("molecule_runtime.platform_auth.write_atomic", full)
    assert await client.register()
    assert await client.peers() == []
    assert not (configs / ".auth_token").exists()


async def test_activity_never_fails_what_it_tells_about(
    registered: PlatformClient, platform: FakePlatform
) -> None:
    platform.reject_next("activity", 500)
    await registered.activity("agent_log", "tool", "x" * 1000, error_detail="y" * 9000)
    await registered.activity("agent_log", "tool", "x" * 1000, error_detail="y" * 9000)
    assert (len(platform.activities[0]["summary"]), len(platform.activities[0]["error_detail"])) == (
        256,
        4096,
    )


async def test_secrets_come_whole_or_not_at_all(registered: PlatformClient, platform: FakePlatform) -> None:
    platform.secret_values = {"A": "1"}
    assert await registered.secrets() == {"A": "1"}
    platform.reject_next("secrets", 500, 3)
    with pytest.raises(PlatformError):
        await registered.secrets()


def beat() -> dict[str, Any]:
    return {
        "workspace_id": "ws-self",
        "error_rate": 0.0,
        "sample_error": "",
        "active_tasks": 0,
        "current_task": "",
        "uptime_seconds": 1,
    }
