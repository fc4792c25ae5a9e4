"""The two secrets: kept privately, replaced whole, compared exactly, never in a log."""

from __future__ import annotations

import logging
import os
import stat
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from molecule_runtime import logs, platform_auth
from molecule_runtime.files import write_atomic
from molecule_runtime.redaction import MASK, redact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_a_token_is_private_from_its_first_byte_on(configs: Path) -> None:
    platform_auth.save_token("abc")
    path = configs / ".auth_token"
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("abc", 0o600)


@pytest.mark.parametrize("value", ["", " ", "a b", "a\n", "tökén"])
def test_a_value_that_is_no_token_is_refused_and_nothing_is_written(configs: Path, value: str) -> None:
    with pytest.raises(ValueError, match="refusing"):
        platform_auth.save_token(value)
    assert list(configs.iterdir()) == []


def test_the_same_token_is_not_written_again(configs: Path) -> None:
    platform_auth.save_token("abc")
    before = (configs / ".auth_token").stat().st_ino
    platform_auth.save_token("abc")
    assert (configs / ".auth_token").stat().st_ino == before


def test_a_token_is_read_once_and_again_after_a_refresh(configs: Path) -> None:
    platform_auth.save_token("old")
    (configs / ".auth_token").write_text("new\n")
    assert platform_auth.get_token() == "old"
    assert platform_auth.refresh_cache() == "new"


BAD = {
    b"first-secret\nsecond-secret\n": "holds 2 lines",
    b"first-secret second-secret": "holds blanks or bytes that no token has",
    b"\xff\xfe\x00secret": "holds blanks or bytes that no token has",
    "s\u00ebcret".encode(): "holds blanks or bytes that no token has",
}


@pytest.mark.parametrize("content", BAD)
def test_a_file_that_holds_no_token_is_refused_with_a_reason_and_nothing_of_it_is_said(
    configs: Path, content: bytes
) -> None:
    path = configs / ".auth_token"
    path.write_bytes(content)
    with capture_logs() as lines:
        assert platform_auth.auth_headers() == {}
        reason = f"{path} {BAD[content]}" + (" and not one" if b"\n" in content else "")
        assert platform_auth.problem() == reason
        assert platform_auth.get_token() is None
    assert [line["event"] for line in lines] == [reason]
    assert "cret" not in str(lines)
    platform_auth.save_token("from-the-platform")
    assert (platform_auth.get_token(), platform_auth.problem()) == ("from-the-platform", "")
    assert path.read_text() == "from-the-platform"


def test_a_directory_in_the_place_of_the_token_is_refused_with_a_reason(configs: Path) -> None:
    (configs / ".auth_token").mkdir()
    assert platform_auth.get_token() is None
    assert platform_auth.problem() == f"{configs}/.auth_token cannot be read: Is a directory"
    with pytest.raises(OSError, match="directory"):
        platform_auth.save_token("abc")
    assert (platform_auth.get_token(), platform_auth.problem()) == ("abc", "")


@pytest.mark.parametrize("content", [b"abc\r\n", b"\xef\xbb\xbfabc", b" abc \n\n"])
def test_line_ends_and_a_byte_order_mark_are_no_part_of_a_token(configs: Path, content: bytes) -> None:
    (configs / ".auth_token").write_bytes(content)
    assert platform_auth.get_token() == "abc"


@pytest.mark.parametrize("on_disk", [None, "old"])
def test_a_token_that_could_not_be_written_is_kept_and_written_when_there_is_room(
    configs: Path, monkeypatch: pytest.MonkeyPatch, on_disk: str | None
) -> None:
    path = configs / ".auth_token"
    if on_disk:
        platform_auth.save_token(on_disk)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(platform_auth, "write_atomic", full)
        with pytest.raises(OSError, match="No space"):
            platform_auth.save_token("new")
        assert platform_auth.refresh_cache() == "new", "a stranger's request asks for this"
        assert (path.read_text() if path.exists() else None) == on_disk
    platform_auth.save_unsaved()
    assert path.read_text() == "new"
    path.write_text("newest")
    assert platform_auth.refresh_cache() == "newest"


def test_what_the_platform_writes_meanwhile_wins_over_what_could_not_be_written(
    configs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform_auth.save_token("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(platform_auth, "write_atomic", full)
        with pytest.raises(OSError, match="No space"):
            platform_auth.save_token("new")
    (configs / ".auth_token").write_text("from-the-platform")
    assert platform_auth.refresh_cache() == "from-the-platform"


def test_without_a_token_there_is_no_header_rather_than_an_empty_bearer(configs: Path) -> None:
    assert platform_auth.auth_headers() == {}
    (configs / ".auth_token").write_text("\n")
    assert platform_auth.auth_headers() == {}
    assert platform_auth.self_source_headers("ws-1") == {"X-Workspace-ID": "ws-1"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Bearer s", True),
        ("bearer s", False),
        ("Bearer  s", False),
        ("Bearer sx", False),
        ("s", False),
        (None, False),
    ],
)
def test_a_bearer_must_match_exactly(header: str | None, expected: bool) -> None:
    assert platform_auth.bearer_matches(header, "s") is expected


@pytest.mark.parametrize("secret", [None, ""])
def test_no_header_matches_an_unknown_secret(secret: str | None) -> None:
    assert not platform_auth.bearer_matches("Bearer ", secret)
    assert not platform_auth.bearer_matches("Bearer None", secret)


def test_a_file_is_the_old_one_or_the_new_one_and_no_temporary_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.glob("*file*")] == ["file"]


SECRETS = [
    "sk-proj-abcdefghijklmnop1234",
    "ghp_abcdefghijklmnopqrst0123",
    "github_pat_abcdefghijklmnopqrst",
    "xoxb-1234567890-abc",
    "AKIAABCDEFGHIJKLMNOP",
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln",
    "rt_abcdefghijklmnopqrstuvwxyz",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_secret_is_masked_and_the_rest_is_kept(secret: str) -> None:
    assert redact(f"before {secret} after") == f"before {MASK} after"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abcdefgh1234", f"Authorization: Bearer {MASK}"),
        ("https://user:hunter22@git.example/x", f"https://user:{MASK}@git.example/x"),
        ("OPENAI_API_KEY=abcdef123", f"OPENAI_API_KEY={MASK}"),
        ('{"password": "hunter22"}', f'{{"password": "{MASK}"}}'),
        ("the token count is 5; a secret plan", "the token count is 5; a secret plan"),
    ],
)
def test_secrets_are_known_by_where_they_stand(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.fixture
def quiet_root() -> Iterator[None]:
    """Gives the root logger back as it was."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    yield
    root.handlers[:], root.level = before[0], before[1]


@pytest.mark.parametrize("as_json", [False, True])
def test_no_secret_reaches_the_log_by_message_field_or_traceback(
    quiet_root: None, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    logs.configure("DEBUG", as_json=as_json)
    logger = logs.get_logger("test")
    logger.info("a %s", SECRETS[0], field=SECRETS[1])
    logging.getLogger("library").warning("b %s", SECRETS[2])
    error = RuntimeError(SECRETS[3])
    logger.error("c", exc_info=error)
    written = capsys.readouterr().err
    assert all(secret not in written for secret in SECRETS)
    assert written.count(MASK) == 4
