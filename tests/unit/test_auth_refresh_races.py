"""What may happen while the watchdog waits: no single-use token is lost, spent twice or shown."""

from __future__ import annotations

import json
import resource
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import codex_auth_refresh as module
from support.token_endpoint import Reply, TokenEndpoint, jwt
from support.watchdog import (
    DAY,
    REFRESH_TOKEN,
    Home,
    auth_document,
    children,
    leftovers,
    module_with,
    rfc3339,
    wait_until,
)

# --- two watchdogs ------------------------------------------------------------------------------------------


def waits_for_lock(home: Home, pid: int) -> bool:
    lock_file = home.path / "auth.json.lock"
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if entry.readlink() == lock_file:
                return True
    return False


def test_two_watchdogs_at_once_spend_a_token_once(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document())
    endpoint.hold()
    first = home.start("--once")
    endpoint.wait_for_request()
    second = home.start("--once")
    wait_until(lambda: waits_for_lock(home, second.pid), "the second has the lock file open")
    endpoint.release()
    assert first.result()[:2] == (0, "refreshed:access_token_expiring")
    assert second.result()[:2] == (1, "skip:fresh")
    assert endpoint.seen == [REFRESH_TOKEN]


def test_a_watchdog_that_never_gets_the_lock_sends_nothing(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document())
    with module.locked(home.auth, 0):
        code, word, log = home.run(command=module_with(LOCK_SECONDS=0.2))
    assert (code, word) == (2, "transient:locked"), log
    assert endpoint.seen == []


# --- somebody writes auth.json meanwhile --------------------------------------------------------------------


def test_what_changed_under_way_is_merged(home: Home, endpoint: TokenEndpoint) -> None:
    before = auth_document()
    changed = {**before, "OPENAI_API_KEY": "sk-later", "new": {"field": 1}}
    home.write(before)
    endpoint.before_answer = lambda: home.write(changed)
    assert home.run("--once")[0] == 0
    after = home.document()
    expected = {**changed, "tokens": {**before["tokens"], **endpoint.issued[0]}}
    assert after == {**expected, "last_refresh": after["last_refresh"]}


@pytest.mark.parametrize(
    "theirs",
    [
        auth_document(expires_in=DAY, age=0, refresh_token="rt-secret-of-codex"),
        auth_document(age=0, refresh_token="rt-secret-other", account_id="account-2"),
        auth_document(age=9 * DAY, refresh_token="rt-secret-other", account_id="account-2"),
        {"auth_mode": "apikey", "OPENAI_API_KEY": "sk-secret", "tokens": None},
    ],
    ids=["codex refreshed", "another account", "another account's old file", "signed in with a key"],
)
def test_other_tokens_that_came_under_way_are_kept(
    home: Home, endpoint: TokenEndpoint, theirs: dict[str, Any]
) -> None:
    home.write(auth_document())
    endpoint.before_answer = lambda: home.write(theirs)
    assert home.run("--once")[:2] == (1, "skip:changed_under_way")
    assert home.document() == theirs
    assert leftovers(home) == set()


def test_an_old_copy_that_was_restored_under_way_does_not_win(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document(age=DAY))
    old = auth_document(age=9 * DAY, refresh_token="rt-secret-long-spent")
    endpoint.before_answer = lambda: home.write(old)
    assert home.run("--once")[0] == 0
    assert home.document()["tokens"]["refresh_token"] == "rt-secret-issued-1"


def test_a_sign_out_under_way_is_respected(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document())
    endpoint.before_answer = home.auth.unlink
    assert home.run("--once")[:2] == (1, "skip:removed_under_way")
    assert not home.auth.exists()
    assert leftovers(home) == set()


@pytest.mark.parametrize("content", ["", '{"tokens": {'])
def test_new_tokens_heal_a_file_that_somebody_broke_under_way(
    home: Home, endpoint: TokenEndpoint, content: str
) -> None:
    before = auth_document()
    home.write(before)
    endpoint.before_answer = lambda: home.write(content)
    assert home.run("--once")[0] == 0
    assert home.document()["tokens"] == {**before["tokens"], **endpoint.issued[0]}


def test_a_token_that_codex_spent_first_is_no_permanent_failure(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document())
    theirs = auth_document(expires_in=DAY, refresh_token="rt-secret-of-codex")
    endpoint.replies = [Reply.error(401, "refresh_token_reused")]
    endpoint.before_answer = lambda: home.write(theirs)
    assert home.run("--once")[:2] == (1, "skip:changed_under_way")
    assert home.status()["rejected_refresh_token_sha256"] is None


# --- permanent failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply.error(401, "refresh_token_expired"), "refresh_token_expired"),
        (Reply.error(401, "refresh_token_reused"), "refresh_token_reused"),
        (Reply.error(401, "refresh_token_invalidated"), "refresh_token_invalidated"),
        (Reply.error(400, "refresh_token_expired"), "refresh_token_expired"),
        (Reply.error(400, "refresh_token_reused"), "refresh_token_reused"),
        (Reply.error(400, "refresh_token_invalidated"), "refresh_token_invalidated"),
        (Reply(400, b'{"error": "invalid_grant"}'), "invalid_grant"),
        (Reply(401, b"<html>"), "http_401"),
        (Reply.error(401, "never heard of it"), "http_401"),
    ],
)
def test_a_permanent_failure_is_not_sent_again_until_the_file_changes(
    home: Home, endpoint: TokenEndpoint, reply: Reply, reason: str
) -> None:
    home.write(auth_document())
    before = home.auth.read_bytes()
    endpoint.replies = [reply]
    assert home.run("--once")[:2] == (3, f"permanent:{reason}")
    assert home.auth.read_bytes() == before
    rejected = module.fingerprint(REFRESH_TOKEN)
    assert home.status()["rejected_refresh_token_sha256"] == rejected

    assert home.run("--once")[:2] == (3, f"permanent:{reason}"), "remembered by a new process"
    home.write({})
    assert home.run("--once")[0] == 1
    home.write(auth_document())
    assert home.run("--once")[0] == 3, "other rounds in between do not make it forget"
    assert endpoint.seen == [REFRESH_TOKEN]

    endpoint.grants.add("rt-secret-new")
    home.write(auth_document(refresh_token="rt-secret-new"))
    assert home.run("--once")[0] == 0
    assert endpoint.seen == [REFRESH_TOKEN, "rt-secret-new"]
    assert home.status()["rejected_refresh_token_sha256"] is None


def test_a_spent_token_is_refused_by_the_endpoint_itself(home: Home, endpoint: TokenEndpoint) -> None:
    spent = auth_document()
    home.write(spent)
    assert home.run("--once")[0] == 0
    home.write(spent)
    assert home.run("--once")[:2] == (3, "permanent:refresh_token_reused")


# --- a full disk and a crash --------------------------------------------------------------------------------


def fill_disk_for(pid: int) -> None:
    """Let every write of the process to a file fail from now on."""
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))


def make_room_for(pid: int) -> None:
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def test_nothing_is_sent_when_there_is_no_room_for_the_answer(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document())
    before = home.auth.read_bytes()
    limited = ["bash", "-c", 'ulimit -S -f 8; exec "$@"', "-", *module_with()]
    code, word, log = home.run(command=limited)
    assert (code, word) == (2, "transient:cannot_save"), log
    assert endpoint.seen == []
    assert home.auth.read_bytes() == before
    assert leftovers(home) == set()


def test_new_tokens_are_saved_as_soon_as_they_can_be(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document())
    endpoint.hold()
    process = home.start(command=module_with(SAVE_AGAIN_SECONDS=(0.1,) * 300))
    endpoint.wait_for_request()
    fill_disk_for(process.pid)
    endpoint.release()
    wait_until(lambda: "not saved yet" in process.log(), "it says that it could not save")
    make_room_for(process.pid)
    assert process.result()[0] == 0
    assert home.document()["tokens"]["refresh_token"] == "rt-secret-issued-1"


def test_tokens_that_cannot_be_saved_are_mourned_loudly_and_the_old_file_is_whole(
    home: Home, endpoint: TokenEndpoint
) -> None:
    home.write(auth_document())
    before = home.auth.read_bytes()
    endpoint.hold()
    process = home.start(command=module_with(SAVE_AGAIN_SECONDS=(0.01,)))
    endpoint.wait_for_request()
    fill_disk_for(process.pid)
    endpoint.release()
    code, word, log = process.result()
    assert (code, word) == (2, "transient:save_failed"), log
    assert "NEW TOKENS COULD NOT BE SAVED" in log
    assert home.auth.read_bytes() == before
    assert leftovers(home) == set()


def slot_path(home: Home) -> Path:
    return home.path / f".auth.json.{module.fingerprint(REFRESH_TOKEN)[:16]}.new"


@pytest.mark.parametrize("tail", [b"", b"\0" * 1000], ids=["exact", "with unused room"])
def test_tokens_that_a_crash_left_beside_the_file_are_put_in_place(
    home: Home, endpoint: TokenEndpoint, tail: bytes
) -> None:
    home.write(auth_document())
    successor = auth_document(expires_in=DAY, refresh_token="rt-secret-second")
    slot_path(home).write_bytes(json.dumps(successor).encode() + tail)
    assert home.run("--once")[:2] == (0, "refreshed:recovered")
    assert home.document() == successor
    assert endpoint.seen == []
    assert leftovers(home) == set()


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b'{"tokens": {', json.dumps(auth_document(account_id="account-2")).encode()],
    ids=["empty", "unused", "half", "of another account"],
)
def test_what_else_a_crash_left_is_removed(home: Home, endpoint: TokenEndpoint, content: bytes) -> None:
    home.write(auth_document())
    slot_path(home).write_bytes(content)
    (home.path / ".auth.json.0123456789abcdef.new").write_bytes(content)
    assert home.run("--once")[0] == 0
    assert endpoint.seen == [REFRESH_TOKEN]
    assert leftovers(home) == set()


# --- signals ------------------------------------------------------------------------------------------------


def test_sigterm_while_waiting_does_not_lose_the_answer(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document())
    endpoint.hold()
    process = home.start("--once")
    endpoint.wait_for_request()
    process.process.terminate()
    endpoint.release()
    assert process.result()[:2] == (0, "refreshed:access_token_expiring")
    assert home.document()["tokens"]["refresh_token"] == "rt-secret-issued-1"


def test_sigterm_ends_a_wait_for_an_answer_that_never_comes(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document())
    endpoint.hold()
    process = home.start(command=module_with(REQUEST_SECONDS=3600.0, GRACE_SECONDS=0.2))
    endpoint.wait_for_request()
    process.process.terminate()
    assert process.result()[:2] == (2, "transient:interrupted")
    assert leftovers(home) == set()


def test_sigterm_before_anything_is_sent_ends_the_round_at_once(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document())
    with module.locked(home.auth, 0):
        process = home.start("--once")
        wait_until(lambda: waits_for_lock(home, process.pid), "it waits for the lock")
        process.process.terminate()
        assert process.result()[0] == 128 + signal.SIGTERM
    assert endpoint.seen == []


# --- secrets ------------------------------------------------------------------------------------------------


def readable(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def test_no_token_is_seen_anywhere_but_in_auth_json(home: Home, endpoint: TokenEndpoint) -> None:
    document = auth_document()
    home.write(document)
    endpoint.hold()
    # auth.json as the platform gives it; the entry itself has it from its parent, its children must not.
    loop = home.start(CODEX_AUTH_JSON=json.dumps(document), GITEA_TOKEN="git-secret")
    endpoint.wait_for_request()
    tokens = [document["tokens"][name].encode() for name in module.TOKEN_FIELDS]
    tokens += [b"git-secret", b"rt-secret"]
    (python,) = children(loop.pid)
    assert b"CODEX_HOME" in readable(Path(f"/proc/{python}/environ"))
    environments = readable(Path(f"/proc/{python}/environ"))
    arguments = b"".join(readable(Path(f"/proc/{pid}/cmdline")) for pid in (loop.pid, python))
    assert b"codex_auth_refresh" in arguments
    endpoint.release()
    wait_until(lambda: "refreshed:" in loop.log(), "the round ends")
    wait_until(lambda: [pid for pid in children(loop.pid) if pid != python], "the loop sleeps")
    for pid in children(loop.pid):
        environments += readable(Path(f"/proc/{pid}/environ"))
    loop.process.terminate()
    loop.result()

    tokens += [value.encode() for answer in endpoint.issued for value in answer.values()]
    files = b"".join(path.read_bytes() for path in home.path.iterdir() if path != home.auth)
    for token in tokens:
        assert token not in arguments
        assert token not in environments
        assert token not in loop.log().encode()
        assert token not in files


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, b"rt-secret-first"),
        Reply(400, b'{"error": {"code": "rt-secret-first"}}'),
        Reply(401, b'{"error": "rt-secret-first"}'),
        Reply(302, headers={"Location": "/?t=rt-secret-first"}),
    ],
)
def test_an_answer_is_never_quoted(home: Home, endpoint: TokenEndpoint, reply: Reply) -> None:
    home.write({**auth_document(), "last_refresh": "rt-secret-first"})
    endpoint.replies = [reply]
    log = home.run("--once")[2]
    assert "rt-secret" not in log + home.status_file.read_text()


# --- times --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02T00:00:00Z", DAY),
        ("1970-01-02T00:00:00.123456789Z", DAY),
        ("1970-01-02T02:30:00+02:30", DAY),
        ("1970-01-01T22:00:00.5-02:00", DAY),
        ("1970-13-01T00:00:00Z", None),
        ("1970-01-02T00:00:00", None),
        ("1970-01-02", None),
        (5, None),
        (None, None),
    ],
)
def test_times_are_read_as_rfc_3339_says(text: object, seconds: int | None) -> None:
    assert module.parse_time(text) == seconds


@pytest.mark.parametrize("expiry", [True, -1, 0, "5", None, 1e30, [5]])
def test_an_expiry_that_makes_no_sense_counts_as_unknown(expiry: object) -> None:
    assert module.expiry_of(jwt({"exp": expiry})) is None


def test_a_time_that_codex_wrote_is_understood() -> None:
    now = int(time.time())
    assert module.parse_time(rfc3339(now)) == now
