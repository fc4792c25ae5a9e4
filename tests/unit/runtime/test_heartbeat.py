"""Liveness against the fake platform, which refuses counters that make no sense."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime import platform_auth, spending, wedge
from molecule_runtime.heartbeat import Heartbeat
from molecule_runtime.platform import PlatformClient
from support.scripted_adapter import Adapter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.fake_platform import FakePlatform

pytestmark = pytest.mark.anyio


def registration() -> dict[str, Any]:
    url = "http://localhost:8000"
    return {"id": "ws-self", "url": url, "agent_card": {"name": "Self", "url": url}, "delivery_mode": "push"}


@pytest.fixture
async def client(platform: FakePlatform) -> AsyncIterator[PlatformClient]:
    made = PlatformClient(platform.url, "ws-self", registration=registration, register_waits=(0.0,))
    assert await made.register()
    yield made
    await made.aclose()


@contextlib.asynccontextmanager
async def beating(heartbeat: Heartbeat) -> AsyncIterator[Heartbeat]:
    running = asyncio.create_task(heartbeat.run())
    try:
        yield heartbeat
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_the_platform_hears_of_a_turns_start_and_end_at_once(
    client: PlatformClient, platform: FakePlatform
) -> None:
    async with beating(Heartbeat(client, interval=3600)) as heartbeat:
        await platform.wait_for(lambda: len(platform.heartbeats) == 1)
        heartbeat.turn_started()
        await platform.wait_for(lambda: platform.heartbeats[-1]["active_tasks"] == 1)
        heartbeat.turn_ended()
        await platform.wait_for(lambda: platform.heartbeats[-1]["active_tasks"] == 0)


async def test_overlapping_turns_are_counted_and_never_set(
    client: PlatformClient, platform: FakePlatform
) -> None:
    async with beating(Heartbeat(client, interval=3600)) as heartbeat:
        heartbeat.turn_started()
        heartbeat.turn_started()
        heartbeat.turn_ended()
        await platform.wait_for(lambda: bool(platform.heartbeats))
        assert platform.heartbeats[-1]["active_tasks"] == 1
        assert platform.heartbeats[-1]["is_busy"]
        heartbeat.turn_ended()
        await platform.wait_for(lambda: platform.heartbeats[-1]["active_tasks"] == 0)


async def test_failed_turns_show_as_error_rate_until_the_next_regular_beat(client: PlatformClient) -> None:
    heartbeat = Heartbeat(client)
    for error in (None, None, None, "quota exceeded"):
        heartbeat.turn_started()
        heartbeat.turn_ended(error)
    assert (heartbeat.body()["error_rate"], heartbeat.body()["sample_error"]) == (0.25, "quota exceeded")
    heartbeat.turn_started()
    heartbeat.turn_ended()
    assert heartbeat.body()["sample_error"] == ""


async def test_a_wedged_workspace_says_so_with_its_first_reason_and_takes_it_back(
    client: PlatformClient, platform: FakePlatform
) -> None:
    wedge.mark_wedged("codex does not start: " + "x" * 200)
    wedge.mark_wedged("another reason")
    async with beating(Heartbeat(client, interval=3600)):
        await platform.wait_for(lambda: bool(platform.heartbeats))
    beat = platform.heartbeats[-1]
    assert beat["runtime_state"] == "wedged"
    assert beat["sample_error"].startswith("codex does not start")
    assert len(beat["sample_error"]) <= 80
    assert platform.workspaces["ws-self"].status == "degraded"
    wedge.clear_wedge()
    assert Heartbeat(client).body()["runtime_state"] == ""


async def test_a_single_401_is_recovered_within_the_same_beat(
    client: PlatformClient, platform: FakePlatform
) -> None:
    """The trap of 5.3: upstream counts a 401 as success, and its recovery is dead code."""
    old = platform_auth.get_token()
    platform.rotate_token()
    async with beating(Heartbeat(client, interval=3600)):
        await platform.wait_for(lambda: bool(platform.heartbeats))
    assert [call.status for call in platform.calls_to("heartbeat")] == [401, 200]
    assert platform_auth.get_token() != old


async def test_the_inbound_secret_is_kept_from_every_beat(
    client: PlatformClient, platform: FakePlatform
) -> None:
    """B-44: delivered at registration only, a new secret makes uploads 401 until the next restart."""
    platform.workspaces["ws-self"].inbound_secret = "a-new-secret"
    async with beating(Heartbeat(client, interval=0.01)):
        await platform.wait_for(lambda: len(platform.heartbeats) >= 2)
    platform_auth.refresh_cache()
    assert platform_auth.get_inbound_secret() == "a-new-secret"


async def test_the_heart_goes_on_through_an_outage_and_renews_its_connections(
    client: PlatformClient, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    resets = []
    reset = client.reset

    async def counted() -> None:
        resets.append(1)
        await reset()

    monkeypatch.setattr(client, "reset", counted)
    platform.reject_next("heartbeat", 502, 9)
    platform.drop_next("heartbeat", 2)
    async with beating(Heartbeat(client, interval=0.01)):
        await platform.wait_for(lambda: bool(platform.heartbeats))
    assert len(resets) == 1


async def test_a_bug_in_one_beat_does_not_stop_the_heart(
    client: PlatformClient, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([ValueError("bug")])
    send = client.heartbeat

    async def sometimes(body: dict[str, Any]) -> None:
        if (error := next(answers, None)) is not None:
            raise error
        await send(body)

    monkeypatch.setattr(client, "heartbeat", sometimes)
    async with beating(Heartbeat(client, interval=0.01)):
        await platform.wait_for(lambda: bool(platform.heartbeats))


async def test_a_beat_tells_what_the_adapter_does_natively_and_how_long_it_may_be_silent(
    client: PlatformClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat = Heartbeat(client)
    heartbeat.adapter = Adapter()
    monkeypatch.setattr(Adapter, "idle_timeout_override", lambda _: 900)
    assert heartbeat.body()["runtime_metadata"] == {
        "capabilities": {
            "heartbeat": False,
            "scheduler": False,
            "session": False,
            "status_mgmt": False,
            "retry": False,
            "activity_decoration": False,
            "channel_dispatch": False,
        },
        "idle_timeout_seconds": 900,
    }


async def test_slow_work_after_a_beat_delays_no_beat(client: PlatformClient, platform: FakePlatform) -> None:
    forever = asyncio.Event()

    async def slow() -> None:
        await forever.wait()

    async with beating(Heartbeat(client, interval=0.01, after_beat=slow)):
        await platform.wait_for(lambda: len(platform.heartbeats) >= 3)
    forever.set()


async def test_a_workspace_whose_platform_was_away_at_boot_registers_as_soon_as_it_is_there(
    platform: FakePlatform,
) -> None:
    """Heartbeats alone leave it online without an address."""
    platform.issue_token()
    late = PlatformClient(platform.url, "ws-self", registration=registration, register_waits=(0.0,))
    platform.reject_next("register", 503, 2)
    assert not await late.register()
    platform.reject_next("register", 503)
    platform.workspaces["ws-self"].token_hash = ""
    async with beating(Heartbeat(late, interval=0.01)):
        await platform.wait_for(lambda: len(platform.heartbeats) > 2)
    assert platform.workspaces["ws-self"].url == "http://localhost:8000"
    assert [call.status for call in platform.calls_to("register")] == [503, 503, 503, 200]
    await late.aclose()


async def test_a_platform_that_has_forgotten_the_workspace_gets_its_registration_again(
    client: PlatformClient, platform: FakePlatform
) -> None:
    async with beating(Heartbeat(client, interval=0.01)):
        await platform.wait_for(lambda: len(platform.heartbeats) == 1)
        me = platform.workspaces["ws-self"]
        del platform.workspaces["ws-self"]
        await platform.wait_for(lambda: "ws-self" in platform.workspaces)
        assert platform.workspaces["ws-self"] is not me
        seen = len(platform.heartbeats)
        await platform.wait_for(lambda: len(platform.heartbeats) > seen)
    assert len(platform.registrations) == 2


async def test_a_heartbeat_that_is_answered_503_is_sent_again_and_no_registration_comes_of_it(
    client: PlatformClient, platform: FakePlatform
) -> None:
    platform.reject_next("heartbeat", 503, 3)
    async with beating(Heartbeat(client, interval=0.01)):
        await platform.wait_for(lambda: len(platform.heartbeats) > 1)
    assert len(platform.registrations) == 1


class _Meter:
    cents: int | None = None

    def monthly_cents(self) -> int | None:
        return self.cents

    def closed(self) -> str:
        return ""

    def samples(self) -> list[Any]:
        return []


async def test_a_beat_tells_the_months_spend_in_whole_cents_and_nothing_while_there_is_none(
    client: PlatformClient, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = _Meter()
    monkeypatch.setattr(spending._TOLD, "meter", meter)
    heartbeat = Heartbeat(client)
    for cents in (None, 0, 7, 7, 9, 0, 2):
        meter.cents = cents
        await client.heartbeat(heartbeat.body())
    assert ["monthly_spend" in beat for beat in platform.heartbeats] == [
        False,
        False,
        True,
        True,
        True,
        False,
        True,
    ]
    # 9 in the first month, 2 in the next.
    assert platform.workspaces["ws-self"].spent_cents == 11
    assert platform.failures == []
