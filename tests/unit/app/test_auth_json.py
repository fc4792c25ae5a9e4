"""The subscription that is given: what is taken, what wins, and what a full disk leaves."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import auth_json
from atomic_file import write_atomically
from auth_json import AuthJsonError, given, install, is_subscription, settle
from codex_auth_refresh import locked
from support.token_endpoint import jwt
from support.watchdog import DAY, auth_document, rfc3339

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = "CODEX_AUTH_JSON"


def text(**changes: Any) -> str:
    """A document as `codex login` writes it; `...` removes a member."""
    members = {**auth_document(age=DAY), **changes}
    return json.dumps({name: value for name, value in members.items() if value is not ...}, indent=2)


def with_tokens(**changes: Any) -> str:
    """A document whose tokens are changed."""
    return json.dumps(auth_document(**changes))


def issued(at: float, refresh_token: str, **claims: Any) -> dict[str, Any]:
    """Token fields with a time of issue."""
    return {"access_token": jwt({"iat": at, "exp": at + 10 * DAY, **claims}), "refresh_token": refresh_token}


# --- what is taken ------------------------------------------------------------------------------------------


def test_the_first_name_that_is_set_counts() -> None:
    both = {"CODEX_CHATGPT_AUTH_JSON": "alias", "CODEX_AUTH_JSON": "first"}
    assert given(both) == ("CODEX_AUTH_JSON", "first")
    assert given({**both, "CODEX_AUTH_JSON": " \n"}) == ("CODEX_CHATGPT_AUTH_JSON", "alias")
    assert given({"CODEX_AUTH_JSON": ""}) is None


@pytest.mark.parametrize(
    "document",
    [text(), text(auth_mode=None), text(auth_mode=...), text(OPENAI_API_KEY=...), text(last_refresh=...)],
)
def test_what_codex_login_writes_is_taken(tmp_path: Path, document: str) -> None:
    assert install(tmp_path, document, SOURCE) == "written"
    assert is_subscription(tmp_path)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("", "is not JSON (line 1, column 1)"),
        ("rt-secret", "is not JSON (line 1, column 1)"),
        ('{"tokens": \n "rt-secret}', "is not JSON (line 2, column 2)"),
        ("[" * 100_000, "is not JSON"),
        ("9" * 10_000, "is not JSON"),
        ('"rt-secret"', "is not a JSON object"),
        ("[1]", "is not a JSON object"),
        (text(auth_mode="apikey"), "is for auth_mode 'apikey', and only chatgpt"),
        (text(auth_mode=["rt-secret" * 9]), "is for auth_mode"),
        (text(auth_mode=None, OPENAI_API_KEY="sk-secret"), "is for auth_mode 'apikey'"),
        ("{}", "lacks tokens.access_token, tokens.refresh_token, tokens.id_token"),
        (text(tokens=None), "lacks tokens.access_token"),
        (text(tokens=["rt-secret"]), "lacks tokens.access_token"),
        (with_tokens(refresh_token=...), "lacks tokens.refresh_token:"),
        (with_tokens(refresh_token=""), "lacks tokens.refresh_token:"),
        (with_tokens(refresh_token=7), "lacks tokens.refresh_token:"),
        (with_tokens(id_token="rt-secret"), "tokens.id_token that is no JWT"),
        (with_tokens(access_token="at\ud800"), "has characters that no token has in tokens.access_token"),
        (
            with_tokens(refresh_token="rt-secret\n"),
            "has characters that no token has in tokens.refresh_token",
        ),
        ('{"a": "\udcff"}', "is not UTF-8 text"),
    ],
)
def test_anything_else_is_refused_by_name_with_the_remedy_and_without_its_content(
    tmp_path: Path, document: str, words: str
) -> None:
    with pytest.raises(AuthJsonError) as caught:
        install(tmp_path, document, SOURCE)
    assert words in str(caught.value)
    assert str(caught.value).startswith("CODEX_AUTH_JSON ")
    assert "`codex login`" in str(caught.value)
    for secret in ("rt-secret-first", "at-secret", "id-secret", "sk-secret"):
        assert secret not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# --- a workspace that refreshes nothing ---------------------------------------------------------------------


def kept_in(home: Path) -> str:
    return (home / "auth.json.withheld").read_text()


def test_codex_is_not_given_the_refresh_token_and_gets_it_back_with_the_ownership(tmp_path: Path) -> None:
    document = text()
    assert install(tmp_path, document, SOURCE, withhold=True) == "written"
    assert "rt-secret-first" not in (tmp_path / "auth.json").read_text()
    assert kept_in(tmp_path) == document
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    assert install(tmp_path, document, SOURCE, withhold=True) == "same"
    assert {path.name: path.stat().st_ino for path in tmp_path.iterdir()} == before
    settle(tmp_path, withhold=False)
    assert (tmp_path / "auth.json").read_text() == document
    assert not (tmp_path / "auth.json.withheld").exists()
    settle(tmp_path, withhold=True)
    assert kept_in(tmp_path) == document


@pytest.mark.parametrize("withhold", [True, False])
def test_what_it_has_fetched_outlives_the_older_one_of_the_environment(
    tmp_path: Path, withhold: bool
) -> None:
    newer = json.dumps(auth_document(**issued(time.time(), "rt-newer")))
    install(tmp_path, newer, SOURCE, withhold=True)
    older = json.dumps(auth_document(**issued(time.time() - DAY, "rt-older")))
    assert install(tmp_path, older, SOURCE, withhold=withhold) == "kept"
    assert (kept_in(tmp_path) if withhold else (tmp_path / "auth.json").read_text()) == newer


@pytest.mark.parametrize("withhold", [True, False])
@pytest.mark.parametrize("left", [None, "", "{", "{}"])
def test_a_placeholder_whose_document_is_lost_is_no_reason_to_lose_the_rest(
    tmp_path: Path, withhold: bool, left: str | None
) -> None:
    install(tmp_path, text(), SOURCE, withhold=True)
    before = (tmp_path / "auth.json").read_text()
    (tmp_path / "auth.json.withheld").unlink()
    if left is not None:
        (tmp_path / "auth.json.withheld").write_text(left)
    settle(tmp_path, withhold=withhold)
    assert (tmp_path / "auth.json").read_text() == before
    assert install(tmp_path, text(), SOURCE, withhold=withhold) == "written"


def test_a_placeholder_is_no_subscription_to_give(tmp_path: Path) -> None:
    install(tmp_path, text(), SOURCE, withhold=True)
    with pytest.raises(AuthJsonError, match="of a workspace that refreshes nothing"):
        install(tmp_path / "other", (tmp_path / "auth.json").read_text(), SOURCE)


def test_a_full_disk_between_the_two_files_leaves_the_newest_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, json.dumps(auth_document(**issued(time.time() - DAY, "rt-1"))), SOURCE, withhold=True)
    newer = json.dumps(auth_document(**issued(time.time(), "rt-2")))

    def full(path: Path, content: str | bytes, *, mode: int = 0o600) -> None:
        if path.name == "auth.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(path, content, mode=mode)

    with monkeypatch.context() as patched:
        patched.setattr(auth_json, "write_atomically", full)
        with pytest.raises(OSError, match="No space"):
            install(tmp_path, newer, SOURCE, withhold=True)
    settle(tmp_path, withhold=True)
    given = json.loads((tmp_path / "auth.json").read_text())["tokens"]
    assert given["access_token"] == json.loads(newer)["tokens"]["access_token"]


# --- verbatim -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [text(), text() + "\n", text().replace("\n", "\r\n"), f"\t{text()}  "])
def test_every_byte_is_kept_and_a_second_time_changes_nothing(tmp_path: Path, document: str) -> None:
    assert install(tmp_path, document, SOURCE) == "written"
    path = tmp_path / "auth.json"
    assert path.read_bytes() == document.encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    inode = path.stat().st_ino
    assert install(tmp_path, document, SOURCE) == "same"
    assert path.stat().st_ino == inode


def test_the_directory_is_made_and_nobody_else_enters_it(tmp_path: Path) -> None:
    install(tmp_path / "a/.codex", text(), SOURCE)
    assert stat.S_IMODE((tmp_path / "a/.codex").stat().st_mode) == 0o700


def test_a_link_is_kept_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home/auth.json").symlink_to(tmp_path / "volume/auth.json")
    document = text()
    install(tmp_path / "home", document, SOURCE)
    assert (tmp_path / "home/auth.json").is_symlink()
    assert (tmp_path / "volume/auth.json").read_text() == document


# --- which is newer -----------------------------------------------------------------------------------------

NOW = int(time.time())
OLD, NEW = NOW - 5 * DAY, NOW - DAY


def document(tokens: dict[str, Any], refreshed: float | None = None, **changes: Any) -> str:
    last_refresh = None if refreshed is None else rfc3339(refreshed)
    return json.dumps({**auth_document(**tokens), "last_refresh": last_refresh, **changes})


OPAQUE = {"access_token": "opaque"}


@pytest.mark.parametrize(
    ("there", "given", "outcome"),
    [
        # The access token tells, by the clock of its issuer.
        (document(issued(NEW, "rt-2")), document(issued(OLD, "rt-1")), "kept"),
        (document(issued(OLD, "rt-1")), document(issued(NEW, "rt-2")), "written"),
        # The same access token with another refresh token: an answer that brought that alone.
        (document(issued(OLD, "rt-2")), document(issued(OLD, "rt-1")), "kept"),
        # Where it does not, last_refresh.
        (document(OPAQUE, NEW), document({**OPAQUE, "refresh_token": "rt-1"}, OLD), "kept"),
        (document(OPAQUE, OLD), document({**OPAQUE, "refresh_token": "rt-2"}, NEW), "written"),
        # A clock that had jumped ahead when it was written, or back, does not count against the issuer's.
        (document(issued(OLD, "rt-1"), NOW + 900 * DAY), document(issued(NEW, "rt-2"), NEW), "written"),
        (document(issued(NEW, "rt-2"), 0), document(issued(OLD, "rt-1"), OLD), "kept"),
        (document(OPAQUE, NOW + 900 * DAY), document({**OPAQUE, "refresh_token": "rt-2"}, NEW), "written"),
        # Nothing tells: who gives a subscription wants it used.
        (document(OPAQUE), document({**OPAQUE, "refresh_token": "rt-2"}), "written"),
        # Another account is another account, whatever its age.
        (
            document(issued(NEW, "rt-2")),
            document({**issued(OLD, "rt-1"), "account_id": "account-2"}),
            "written",
        ),
        # What is there is no subscription, or no JSON, or half a file.
        (document({**issued(NEW, "rt-2"), "refresh_token": ...}), document(issued(OLD, "rt-1")), "written"),
        ('{"OPENAI_API_KEY": "sk-1"}', document(issued(OLD, "rt-1")), "written"),
        ("", document(issued(OLD, "rt-1")), "written"),
        (document(issued(NEW, "rt-2"))[:-9], document(issued(OLD, "rt-1")), "written"),
        ("\udcff", document(issued(OLD, "rt-1")), "written"),
        ("[" * 100_000, document(issued(OLD, "rt-1")), "written"),
    ],
)
def test_a_later_refresh_of_the_same_account_is_never_overwritten(
    tmp_path: Path, there: str, given: str, outcome: str
) -> None:
    path = tmp_path / "auth.json"
    path.write_bytes(os.fsencode(there))
    assert install(tmp_path, given, SOURCE) == outcome
    assert path.read_bytes() == os.fsencode(given if outcome == "written" else there)


def test_the_account_is_known_by_its_claim_where_the_field_is_missing(tmp_path: Path) -> None:
    claim = {"https://api.openai.com/auth": {"chatgpt_account_id": "account-1"}}
    (tmp_path / "auth.json").write_text(document(issued(NEW, "rt-2")))
    without = document({**issued(OLD, "rt-1"), "account_id": ..., "id_token": jwt(claim)})
    assert install(tmp_path, without, SOURCE) == "kept"
    claim["https://api.openai.com/auth"]["chatgpt_account_id"] = "account-2"
    other = document({**issued(OLD, "rt-1"), "account_id": ..., "id_token": jwt(claim)})
    assert install(tmp_path, other, SOURCE) == "written"


# --- a file that cannot be written --------------------------------------------------------------------------


def test_on_a_full_disk_the_old_file_is_whole_and_no_temporary_one_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, document(issued(OLD, "rt-1")), SOURCE)
    before = (tmp_path / "auth.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        install(tmp_path, document(issued(NEW, "rt-2")), SOURCE)
    assert (tmp_path / "auth.json").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"auth.json", "auth.json.lock"}


def test_while_the_watchdog_holds_the_lock_a_file_that_needs_no_writing_waits_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth_json, "_LOCK_SECONDS", 0)
    install(tmp_path, document(issued(NEW, "rt-2")), SOURCE)
    with locked(tmp_path / "auth.json", 0):
        assert install(tmp_path, document(issued(NEW, "rt-2")), SOURCE) == "same"
        assert install(tmp_path, document(issued(OLD, "rt-1")), SOURCE) == "kept"
        with pytest.raises(OSError, match="another watchdog is at work"):
            install(tmp_path, document(issued(NOW, "rt-3")), SOURCE)


def test_a_file_that_was_refreshed_while_the_lock_was_waited_for_is_kept(tmp_path: Path) -> None:
    install(tmp_path, document(issued(OLD, "rt-1")), SOURCE)
    waiting = threading.Event()
    outcomes: list[str] = []

    def write() -> None:
        waiting.set()
        outcomes.append(install(tmp_path, document(issued(NEW, "rt-2")), SOURCE))

    thread = threading.Thread(target=write)
    with locked(tmp_path / "auth.json", 0):
        thread.start()
        waiting.wait()
        (tmp_path / "auth.json").write_text(document(issued(NOW, "rt-3")))
    thread.join()
    assert outcomes == ["kept"]


def test_what_is_no_file_that_can_be_read_is_no_subscription(tmp_path: Path) -> None:
    assert not is_subscription(tmp_path)
    (tmp_path / "auth.json").mkdir()
    assert not is_subscription(tmp_path)
