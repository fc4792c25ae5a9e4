"""What one round of the refresh watchdog does: its exit code, its reason, and the file that it leaves."""

from __future__ import annotations

import errno
import gzip
import json
import os
import socket
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import codex_auth_refresh as module
from support.token_endpoint import Reply, TokenEndpoint, jwt
from support.watchdog import (
    DAY,
    REFRESH_TOKEN,
    Home,
    auth_document,
    leftovers,
    module_with,
)

if TYPE_CHECKING:
    from collections.abc import Callable


# --- refreshed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (auth_document(expires_in=3 * 3600), "access_token_expiring"),
        (auth_document(expires_in=-DAY), "access_token_expiring"),
        (auth_document(expires_in=DAY, age=8 * DAY), "last_refresh_stale"),
        (auth_document(expires_in=DAY, age=-DAY), "last_refresh_in_future"),
        (auth_document(access_token=...), "access_token_missing"),
        (auth_document(access_token="opaque", age=8 * DAY), "last_refresh_stale"),
        ({**auth_document(access_token="opaque"), "last_refresh": "yesterday"}, "age_unknown"),
        ({**auth_document(access_token=jwt({"exp": "soon"})), "last_refresh": None}, "age_unknown"),
        ({**auth_document(), "auth_mode": None}, "access_token_expiring"),
    ],
)
def test_due_tokens_are_refreshed_and_nothing_else_changes(
    home: Home, endpoint: TokenEndpoint, document: dict[str, Any], reason: str
) -> None:
    home.write(document)
    started = int(time.time())
    code, word, log = home.run("--once")
    assert (code, word) == (0, f"refreshed:{reason}"), log
    assert endpoint.seen == [REFRESH_TOKEN]
    after = home.document()
    refreshed = module.parse_time(after["last_refresh"])
    assert refreshed is not None
    assert refreshed >= started
    expected = {**document, "last_refresh": after["last_refresh"]}
    assert after == {**expected, "tokens": {**document["tokens"], **endpoint.issued[0]}}
    assert list(after) == list(document), "the order is codex's"
    assert stat.S_IMODE(home.auth.stat().st_mode) == 0o600
    assert leftovers(home) == set()


def test_an_answer_with_an_access_token_alone_is_enough(home: Home, endpoint: TokenEndpoint) -> None:
    endpoint.rotate = False
    before = auth_document()
    home.write(before)
    assert home.run("--once")[0] == 0
    after = home.document()["tokens"]
    assert after == {**before["tokens"], "access_token": endpoint.issued[0]["access_token"]}


def test_an_id_token_that_codex_would_refuse_is_not_written(home: Home, endpoint: TokenEndpoint) -> None:
    endpoint.extra = {"id_token": "no jwt"}
    before = auth_document()
    home.write(before)
    assert home.run("--once")[0] == 0
    assert home.document()["tokens"]["id_token"] == before["tokens"]["id_token"]


def test_the_status_file_tells_what_happened_without_a_token(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document())
    assert home.run("--once")[0] == 0
    status = home.status()
    assert status == {
        "time": status["time"],
        "outcome": "refreshed",
        "exit_code": 0,
        "reason": "access_token_expiring",
        "last_refresh": home.document()["last_refresh"],
        "age_seconds": status["age_seconds"],
        "last_refresh_age_seconds": status["age_seconds"],
        "watchdog_last_outcome": "refreshed",
        "watchdog_last_run_iso": status["time"],
        "access_token_expires": "2096-10-02T07:06:40Z",
        "rejected_refresh_token_sha256": None,
        "rejected_reason": None,
    }
    assert module.parse_time(status["time"]) is not None
    assert 0 <= status["age_seconds"] <= 60


def test_a_link_is_kept_and_its_target_replaced(home: Home, tmp_path: Path) -> None:
    home.write(auth_document())
    target = tmp_path / "elsewhere.json"
    home.auth.rename(target)
    home.auth.symlink_to(target)
    assert home.run("--once")[0] == 0
    assert home.auth.is_symlink()
    assert json.loads(target.read_text())["tokens"]["refresh_token"] == "rt-secret-issued-1"
    assert home.status()["outcome"] == "refreshed"


def test_every_file_belongs_to_the_owner_of_auth_json(home: Home) -> None:
    uid = 1000 if os.geteuid() == 0 else os.geteuid()
    gid = 1000 if os.geteuid() == 0 else os.getegid()
    home.write(auth_document())
    os.chown(home.auth, uid, gid)
    assert home.run("--once")[0] == 0
    for path in home.path.iterdir():
        assert (path.stat().st_uid, path.stat().st_gid) == (uid, gid), path
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_file_whose_owner_cannot_be_kept_is_refused(
    home: Home, endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write(auth_document())
    before = home.auth.read_bytes()
    monkeypatch.setattr(os, "geteuid", lambda: home.auth.stat().st_uid + 1)
    result = module.Round(module.read_settings(home.environment), module.Patience()).run()
    assert (result.outcome, result.reason) == (module.Outcome.TRANSIENT, "cannot_save")
    assert endpoint.seen == []
    assert home.auth.read_bytes() == before


def test_a_file_that_is_a_mount_point_is_written_in_place(
    home: Home, endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write({**auth_document(), "long": "x" * 10_000})
    inode, replace = home.auth.stat().st_ino, Path.replace

    def busy(self: Path, target: Path) -> Path:
        if target == home.auth:
            raise OSError(errno.EBUSY, "busy")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", busy)
    slot = module.Slot(home.auth, REFRESH_TOKEN)
    slot.reserve(100)
    slot.commit(b'{"new": 1}')
    slot.close()
    assert home.auth.read_bytes() == b'{"new": 1}'
    assert home.auth.stat().st_ino == inode
    assert leftovers(home) == set()


# --- skipped ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (None, "no_auth_json"),
        ("", "empty_auth_json"),
        (" \n", "empty_auth_json"),
        (auth_document(expires_in=DAY), "fresh"),
        (auth_document(access_token="opaque"), "fresh"),
        ({**auth_document(expires_in=DAY), "last_refresh": "?"}, "fresh"),
        ({**auth_document(), "auth_mode": "apikey"}, "not_subscription"),
        ({**auth_document(), "auth_mode": "chatgptAuthTokens"}, "not_subscription"),
        ({"OPENAI_API_KEY": "sk-secret"}, "not_subscription"),
        ({**auth_document(), "auth_mode": None, "OPENAI_API_KEY": "sk-secret"}, "not_subscription"),
        ({}, "not_subscription"),
        (auth_document(refresh_token=...), "no_refresh_token"),
        (auth_document(refresh_token=""), "no_refresh_token"),
        ({**auth_document(), "tokens": None}, "no_refresh_token"),
    ],
)
def test_nothing_is_sent_or_touched_where_there_is_nothing_to_do(
    home: Home, endpoint: TokenEndpoint, document: object, reason: str
) -> None:
    home.path.mkdir()
    if document is not None:
        home.write(document)
    before = home.auth.read_bytes() if document is not None else None
    code, word, log = home.run("--once")
    assert (code, word) == (1, f"skip:{reason}"), log
    assert len(log.splitlines()) == 1
    assert endpoint.seen == []
    assert (home.auth.read_bytes() if home.auth.exists() else None) == before
    assert (home.status()["outcome"], home.status()["reason"]) == ("skip", reason)


def test_an_absent_codex_home_stays_absent(home: Home) -> None:
    assert home.run("--once")[:2] == (1, "skip:no_auth_json")
    assert not home.path.exists()


# --- transient ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(500), "http_500"),
        (Reply(503, b"<html>"), "http_503"),
        (Reply.error(429, "rate_limit_exceeded"), "http_429"),
        (Reply(400, b"{}"), "http_400"),
        (Reply.error(400, "invalid_client"), "http_400"),
        (Reply.error(403, "refresh_token_reused"), "http_403"),
        (Reply(404), "http_404"),
        (Reply(200, b"<html>"), "answer_not_json"),
        (Reply(200, b"[]"), "answer_not_json"),
        (Reply(204), "answer_not_json"),
        (Reply(200, b"{}"), "answer_without_tokens"),
        (Reply(200, b'{"access_token": 5}'), "answer_without_tokens"),
        (Reply(200, b'{"access_token": "' + b"x" * 70_000 + b'"}'), "answer_too_large"),
        (Reply(302, headers={"Location": "/oauth/token"}), "http_302"),
        (Reply(307, headers={"Location": "/oauth/token"}), "http_307"),
    ],
)
def test_a_failure_that_may_pass_leaves_the_file_and_the_token_as_they_are(
    home: Home, endpoint: TokenEndpoint, reply: Reply, reason: str
) -> None:
    home.write(auth_document())
    before = home.auth.read_bytes()
    endpoint.replies = [reply]
    code, word, log = home.run("--once")
    assert (code, word) == (2, f"transient:{reason}"), log
    assert endpoint.seen == [REFRESH_TOKEN], "asked once, no redirect followed"
    assert home.auth.read_bytes() == before
    assert leftovers(home) == set()
    assert home.status()["reason"] == reason
    assert home.run("--once")[0] == 0, "the same token is sent again"


NEW = json.dumps({"access_token": "at-new", "refresh_token": "rt-new"}).encode()


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n" % (len(NEW), NEW)),
        (b"Content-Length: 9999", NEW),
        (b"Content-Encoding: gzip\r\nContent-Length: %d" % len(gzip.compress(NEW)), gzip.compress(NEW)),
    ],
    ids=["chunks without an end", "length too large", "gzip"],
)
def test_a_whole_answer_in_an_odd_wrapping_is_saved(home: Home, headers: bytes, body: bytes) -> None:
    home.write(auth_document())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/oauth/token"
        process = home.start("--once", CODEX_REFRESH_TOKEN_URL_OVERRIDE=url)
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n" + body)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1 << 16)
    code, word, log = process.result()
    assert (code, word) == (0, "refreshed:access_token_expiring"), log
    assert home.document()["tokens"]["refresh_token"] == "rt-new"


def test_a_refresh_token_that_comes_alone_is_saved(home: Home, endpoint: TokenEndpoint) -> None:
    before = auth_document()
    home.write(before)
    endpoint.extra = {"access_token": ...}
    assert home.run("--once")[:2] == (2, "transient:answer_without_access_token")
    after = home.document()
    assert after["tokens"]["refresh_token"] == "rt-secret-issued-1"
    assert after["last_refresh"] == before["last_refresh"]
    endpoint.extra = {}
    assert home.run("--once")[0] == 0


def test_an_endpoint_that_nobody_serves_is_transient(tmp_path: Path) -> None:
    home = Home(tmp_path / "codex")
    home.write(auth_document())
    assert home.run("--once")[:2] == (2, "transient:network")


def test_an_endpoint_without_tls_is_transient(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document())
    url = endpoint.url.replace("http:", "https:")
    assert home.run("--once", CODEX_REFRESH_TOKEN_URL_OVERRIDE=url)[:2] == (2, "transient:tls")


def test_an_answer_that_does_not_come_is_given_up(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document())
    endpoint.hold()
    code, word, log = home.run(command=module_with(REQUEST_SECONDS=0.3))
    assert (code, word) == (2, "transient:timeout"), log


def test_a_proxy_never_sees_a_token_for_loopback(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document())
    proxy = "http://127.0.0.1:9"
    assert home.run(command=module_with(), http_proxy=proxy, HTTP_PROXY=proxy)[0] == 0


@pytest.mark.parametrize(
    "content", ['{"tokens": {"refresh_tok', "[]", '"text"', "\x00", '{"a": NaN}', '{"a": 1e999}']
)
def test_a_file_that_does_not_parse_is_left_as_it_is(
    home: Home, endpoint: TokenEndpoint, content: str
) -> None:
    home.write(content)
    code, word, log = home.run("--once")
    assert (code, word) == (2, "transient:auth_json_invalid"), log
    assert home.auth.read_text() == content
    assert endpoint.seen == []


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.mkdir(),
        os.mkfifo,
        lambda path: path.symlink_to(path),
        lambda path: path.write_bytes(b" " * ((1 << 20) + 1)),
    ],
    ids=["directory", "fifo", "link to itself", "huge"],
)
def test_a_file_that_cannot_be_read_is_left_as_it_is(home: Home, make: Callable[[Path], None]) -> None:
    home.path.mkdir()
    make(home.auth)
    mode = home.auth.lstat().st_mode
    assert home.run("--once")[:2] == (2, "transient:auth_json_unreadable")
    assert home.auth.lstat().st_mode == mode


def test_a_half_written_file_is_read_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = json.dumps(auth_document())
    states = ["", whole[:50], whole]
    home.write(states.pop(0))
    monkeypatch.setattr(time, "sleep", lambda _: home.write(states.pop(0)))
    assert module.read_document(home.auth) == json.loads(whole)
    assert states == []


def test_nothing_is_sent_where_the_lock_cannot_be_had(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document())
    (home.path / "auth.json.lock").mkdir()
    assert home.run("--once")[:2] == (2, "transient:cannot_lock")
    assert endpoint.seen == []


def test_an_unforeseen_error_is_not_taken_for_a_skip_and_quotes_nothing(home: Home) -> None:
    home.write(auth_document())
    code, word, log = home.run(command=module_with(SAVE_AGAIN_SECONDS=5))
    assert (code, word) == (2, "transient:internal_error"), log
    assert "TypeError, line " in log
