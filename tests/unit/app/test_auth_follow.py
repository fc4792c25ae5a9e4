"""A follower against the fake platform: it reads and sends nothing, and its file is never half written."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import auth_follow
from adapter import Adapter
from auth_follow import Follower, is_follower, sync_interval
from molecule_runtime import platform_auth
from molecule_runtime.adapters.base import AdapterConfig
from molecule_runtime.platform import PlatformClient
from provider_config import ProviderError
from support.fake_platform import FakePlatform
from support.watchdog import DAY, auth_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


def subscription(refresh_token: str, *, age: float = DAY, **tokens: Any) -> str:
    """By default of an access token that tells no time: `age` counts."""
    return json.dumps(auth_document(access_token="opaque", refresh_token=refresh_token, age=age, **tokens))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "codex"


@pytest.fixture
async def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakePlatform]:
    """A platform that knows the workspace, and at the end has seen nothing wrong."""
    monkeypatch.setenv("CONFIGS_DIR", str(tmp_path))
    async with FakePlatform() as running:
        (tmp_path / ".auth_token").write_text(running.issue_token())
        platform_auth.refresh_cache()
        yield running
        assert {call.route for call in running.calls} <= {"secrets"}, "a follower only reads"
    running.check()


@pytest.fixture
async def client(platform: FakePlatform) -> AsyncIterator[PlatformClient]:
    made = PlatformClient(platform.url, "ws-self", "org-1")
    yield made
    await made.aclose()


def tokens_in(home: Path) -> str:
    """The refresh token that stands beside auth.json: codex is given the rest of the document alone."""
    kept = json.loads((home / "auth.json.withheld").read_text())
    given = json.loads((home / "auth.json").read_text())
    token: str = kept["tokens"]["refresh_token"]
    assert given["tokens"].pop("refresh_token").startswith("withheld-from-a-follower.")
    del kept["tokens"]["refresh_token"]
    assert given == kept
    return token


def modes_in(home: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}


def names_in(home: Path) -> set[str]:
    return {path.name for path in home.iterdir()}


async def test_what_the_platform_holds_is_taken_with_the_organisation_in_the_header(
    platform: FakePlatform, client: PlatformClient, home: Path
) -> None:
    text = subscription("rt-1") + "\r\n"
    platform.secret_values = {"CODEX_AUTH_JSON": text, "OTHER": "x"}
    await Follower(home, client.secrets).now()
    assert (home / "auth.json.withheld").read_bytes() == text.encode()
    assert tokens_in(home) == "rt-1"
    assert modes_in(home) == {0o600}
    (call,) = platform.calls
    assert (call.route, call.authorized, call.org) == ("secrets", True, "org-1")


async def test_the_alias_is_taken_too_and_the_first_name_wins(
    platform: FakePlatform, client: PlatformClient, home: Path
) -> None:
    platform.secret_values = {"CODEX_CHATGPT_AUTH_JSON": subscription("rt-alias", age=2 * DAY)}
    await Follower(home, client.secrets).sync()
    assert tokens_in(home) == "rt-alias"
    platform.secret_values["CODEX_AUTH_JSON"] = subscription("rt-first")
    await Follower(home, client.secrets).sync()
    assert tokens_in(home) == "rt-first"


async def test_newer_tokens_replace_older_ones_and_never_the_other_way_round(
    platform: FakePlatform, client: PlatformClient, home: Path
) -> None:
    follower = Follower(home, client.secrets)
    for age, token, expected in ((3, "rt-1", "rt-1"), (1, "rt-2", "rt-2"), (2, "rt-stale", "rt-2")):
        platform.secret_values = {"CODEX_AUTH_JSON": subscription(token, age=age * DAY)}
        await follower.sync()
        assert tokens_in(home) == expected


async def test_a_refresh_that_leaves_last_refresh_alone_is_taken_and_a_workspaces_own_older_secret_is_not(
    platform: FakePlatform, client: PlatformClient, home: Path
) -> None:
    follower = Follower(home, client.secrets)
    for hours, token, expected in ((1, "rt-1", "rt-1"), (9, "rt-2", "rt-2"), (1, "rt-own", "rt-2")):
        document = auth_document(expires_in=hours * 3600, refresh_token=token, age=0)
        document["last_refresh"] = "2026-01-01T00:00:00Z"
        platform.secret_values = {"CODEX_AUTH_JSON": json.dumps(document)}
        await follower.sync()
        assert tokens_in(home) == expected


async def test_whoever_signs_in_by_hand_keeps_the_tokens_and_codex_does_not_get_them(
    platform: FakePlatform, client: PlatformClient, home: Path
) -> None:
    platform.secret_values = {"CODEX_AUTH_JSON": subscription("rt-1", age=2 * DAY)}
    follower = Follower(home, client.secrets)
    await follower.sync()
    (home / "auth.json").write_text(subscription("rt-by-hand"))
    await follower.sync()
    assert tokens_in(home) == "rt-by-hand"


@pytest.mark.parametrize("text", ["", "{", "{}", '{"auth_mode": "apikey"}'])
async def test_what_is_no_subscription_leaves_the_file_as_it_is(
    platform: FakePlatform, client: PlatformClient, home: Path, text: str
) -> None:
    platform.secret_values = {"CODEX_AUTH_JSON": subscription("rt-1")}
    await Follower(home, client.secrets).sync()
    platform.secret_values = {"CODEX_AUTH_JSON": text}
    await Follower(home, client.secrets).sync()
    assert tokens_in(home) == "rt-1"


@pytest.mark.parametrize("status", [401, 403, 500, 503])
async def test_a_platform_that_refuses_or_fails_stops_nothing(
    platform: FakePlatform, client: PlatformClient, home: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_runtime.platform._GET_WAITS", (0.0, 0.0))
    platform.secret_values = {"CODEX_AUTH_JSON": subscription("rt-1")}
    platform.reject_next("secrets", status, times=3)
    await Follower(home, client.secrets).sync()
    assert not (home / "auth.json").exists()


async def test_a_platform_that_does_not_answer_holds_up_the_boot_for_a_bounded_time(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth_follow, "_FIRST_SECONDS", 0.05)

    async def silent() -> dict[str, str]:
        await asyncio.Event().wait()
        raise AssertionError

    await Follower(home, silent).now()


async def test_a_full_disk_leaves_the_old_file_whole_and_the_next_round_tries_again(
    platform: FakePlatform, client: PlatformClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(home, client.secrets)
    platform.secret_values = {"CODEX_AUTH_JSON": subscription("rt-1", age=2 * DAY)}
    await follower.sync()
    before = names_in(home)
    platform.secret_values = {"CODEX_AUTH_JSON": subscription("rt-2")}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        await follower.sync()
    assert tokens_in(home) == "rt-1"
    assert names_in(home) == before
    await follower.sync()
    assert tokens_in(home) == "rt-2"


async def test_it_fetches_again_and_again_and_sooner_while_it_has_nothing(
    platform: FakePlatform, client: PlatformClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            platform.secret_values = {"CODEX_AUTH_JSON": subscription("rt-1")}
        if len(slept) == 6:
            raise asyncio.CancelledError

    monkeypatch.setattr(
        auth_follow, "asyncio", SimpleNamespace(sleep=sleep, to_thread=asyncio.to_thread, Lock=asyncio.Lock)
    )
    with pytest.raises(asyncio.CancelledError):
        await Follower(home, client.secrets, interval=100).run()
    assert slept == [5, 10, 20, 100, 100, 100]
    assert tokens_in(home) == "rt-1"


# --- the adapter --------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> AdapterConfig:
    for name in ("CODEX_AUTH_JSON", "CODEX_CHATGPT_AUTH_JSON", "OPENAI_API_KEY", "MINIMAX_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CODEX_HOME", str(home))
    monkeypatch.setenv("CODEX_AUTH_REFRESH_OWNER", "0")
    return AdapterConfig(model="", config_path=str(tmp_path), workspace_id="ws-self")


async def test_a_follower_that_has_nothing_but_the_platform_signs_in_before_it_looks_for_a_credential(
    platform: FakePlatform, config: AdapterConfig, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_URL", platform.url)
    platform.secret_values = {"CODEX_AUTH_JSON": subscription("rt-1")}
    adapter = Adapter()
    try:
        await adapter.setup(config)
    finally:
        await adapter.close()
    assert tokens_in(home) == "rt-1"
    assert 'forced_login_method = "chatgpt"' in (home / "config.toml").read_text()


async def test_the_owner_asks_the_platform_for_nothing(
    platform: FakePlatform, config: AdapterConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_URL", platform.url)
    monkeypatch.setenv("CODEX_AUTH_REFRESH_OWNER", "1")
    platform.secret_values = {"CODEX_AUTH_JSON": subscription("rt-1")}
    with pytest.raises(ProviderError, match="no credential"):
        await Adapter().setup(config)
    assert platform.calls == []


@pytest.mark.parametrize(("value", "follows"), [("0", True), ("1", False)])
@pytest.mark.parametrize("url", ["off", "https://platform.example"])
def test_what_is_said_counts(value: str, follows: bool, url: str) -> None:
    assert is_follower({"CODEX_AUTH_REFRESH_OWNER": value, "PLATFORM_URL": url}) is follows


@pytest.mark.parametrize(
    ("url", "follows"), [("off", False), ("NONE/", False), ("https://p", True), ("", True)]
)
def test_a_workspace_is_the_owner_unless_there_is_a_platform(url: str, follows: bool) -> None:
    assert is_follower({"PLATFORM_URL": url}) is follows
    assert is_follower({"PLATFORM_URL": url, "CODEX_AUTH_REFRESH_OWNER": ""}) is follows


async def test_under_a_platform_a_workspace_with_a_subscription_follows_by_default(
    platform: FakePlatform, config: AdapterConfig, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_URL", platform.url)
    monkeypatch.delenv("CODEX_AUTH_REFRESH_OWNER")
    monkeypatch.setenv("CODEX_AUTH_JSON", subscription("rt-env", age=3 * DAY))
    platform.secret_values = {"CODEX_AUTH_JSON": subscription("rt-1")}
    adapter = Adapter()
    try:
        await adapter.setup(config)
    finally:
        await adapter.close()
    assert tokens_in(home) == "rt-1"
    status = json.loads((home / "auth_refresh_status.json").read_text())
    assert status["watchdog_last_outcome"] == "skip:not_refresh_owner"
    assert abs(status["last_refresh_age_seconds"] - DAY) < DAY


async def test_under_a_platform_a_workspace_with_an_api_key_asks_for_no_subscription(
    platform: FakePlatform, config: AdapterConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_URL", platform.url)
    monkeypatch.delenv("CODEX_AUTH_REFRESH_OWNER")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    await Adapter().setup(config)
    assert platform.calls == []


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1h", "31536001", "\u0661"])
def test_a_wrong_interval_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"CODEX_AUTH_SYNC_INTERVAL_SECONDS is .* give a whole number"):
        sync_interval({"CODEX_AUTH_SYNC_INTERVAL_SECONDS": value})


def test_the_interval_is_shorter_than_the_platform_refreshes_ahead_unless_it_is_set() -> None:
    assert sync_interval({}) == 600
    assert sync_interval({"CODEX_AUTH_SYNC_INTERVAL_SECONDS": " 60 "}) == 60
