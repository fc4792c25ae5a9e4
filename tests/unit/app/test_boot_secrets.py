"""Secrets that come as files, in whatever state they are found."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import boot_secrets
from boot_secrets import SecretsError, of_loader, of_systemd

if TYPE_CHECKING:
    from pathlib import Path

ENV = {"PATH": os.environ["PATH"], "KEPT": "1"}


def load(tmp_path: Path, script: str, **env: str) -> dict[str, str]:
    (tmp_path / "load.sh").write_text(script)
    return of_loader({**ENV, **env}, tmp_path / "load.sh")


# --- load.sh ------------------------------------------------------------------------------------------------


def test_a_value_of_several_lines_arrives_whole(tmp_path: Path) -> None:
    (tmp_path / "KEY").write_bytes(b"-----BEGIN-----\n a=b \xff\n-----END-----")
    found = load(tmp_path, f'export KEY="$(cat {tmp_path}/KEY)"\n')
    assert os.fsencode(found["KEY"]) == b"-----BEGIN-----\n a=b \xff\n-----END-----"
    assert set(found) == {"KEY"}


@pytest.mark.parametrize(
    "script",
    [
        b"export MY_TOKEN=abc\r\nif true; then\r\n  export OTHER_KEY='d e'\r\nfi\r\n",
        b"\xef\xbb\xbfexport MY_TOKEN=abc\nexport OTHER_KEY='d e'\n",
        b"export MY_TOKEN='abc\r'\nexport OTHER_KEY=$'d e\\n'\n",
        b"export MY_TOKEN=$'\\ufeffabc\\r\\n\\n' OTHER_KEY='d e'",
    ],
)
def test_line_ends_and_byte_order_marks_are_no_part_of_a_secret(tmp_path: Path, script: bytes) -> None:
    (tmp_path / "load.sh").write_bytes(script)
    env = {**ENV, "LC_ALL": "C.UTF-8"}
    assert of_loader(env, tmp_path / "load.sh") == {"MY_TOKEN": "abc", "OTHER_KEY": "d e"}


def test_only_what_is_exported_and_new_counts(tmp_path: Path) -> None:
    script = "local_only=1\nexport KEPT=1 CHANGED=2 EMPTY=\nfunction f { :; }\nexport -f f\ncd /\n"
    assert load(tmp_path, script, CHANGED="1") == {"CHANGED": "2", "EMPTY": ""}


def test_what_it_prints_is_no_variable(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert load(tmp_path, "echo FORGED=1; printf 'A=1\\0'; export REAL=1\n") == {"REAL": "1"}
    assert "FORGED=1" in capfd.readouterr().err


def test_what_it_leaves_running_does_not_hold_up_the_boot(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! >'{tmp_path}/pid'\nexport A=1\n"
    try:
        assert load(tmp_path, script) == {"A": "1"}
    finally:
        os.kill(int((tmp_path / "pid").read_text()), 15)


@pytest.mark.parametrize("path", ["absent", "absent/load.sh", "directory"])
def test_without_the_file_there_is_nothing_to_load(tmp_path: Path, path: str) -> None:
    (tmp_path / "directory").mkdir()
    assert of_loader(ENV, tmp_path / path) == {}


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("export A=1\nfalse\n", "failed (exit code 1"),
        ("export A=(\n", "failed (exit code"),
        ("exit 3\n", "failed (exit code 3"),
        ("exit 0\n", "take `exit` out of it"),
        ("exec true\n", "take `exit` out of it"),
        ("kill -KILL $$\n", "failed (exit code -9"),
    ],
)
def test_a_file_that_does_not_load_is_an_error_that_names_it(tmp_path: Path, script: str, words: str) -> None:
    with pytest.raises(SecretsError) as caught:
        load(tmp_path, script)
    assert words in str(caught.value)
    assert str(tmp_path / "load.sh") in str(caught.value)


def test_a_file_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot_secrets, "_SECONDS", 0.2)
    with pytest.raises(SecretsError, match=r"did not end within 0\.2 s"):
        load(tmp_path, "while :; do read -rt 60 <> <(:) || :; done\n")


def test_a_directory_that_may_not_be_looked_into_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "is_file", refused)
    with pytest.raises(SecretsError, match=r"load\.sh cannot be sourced: Permission denied"):
        of_loader(ENV, tmp_path / "load.sh")


# --- systemd ------------------------------------------------------------------------------------------------


def test_each_file_of_systemd_is_a_variable(tmp_path: Path) -> None:
    (tmp_path / "KEY").write_bytes(b"two\nlines\n\n")
    (tmp_path / "RAW").write_bytes(b"\xff")
    (tmp_path / "WINDOWS_KEY").write_bytes(b"sk-1\r\n\r\n")
    (tmp_path / "not-a-variable").write_text("x")
    found = dict(of_systemd({"CREDENTIALS_DIRECTORY": str(tmp_path)}))
    assert found == {"KEY": "two\nlines\n", "RAW": "\udcff", "WINDOWS_KEY": "sk-1"}


@pytest.mark.parametrize("env", [{}, {"CREDENTIALS_DIRECTORY": ""}])
def test_without_systemd_there_are_none(env: dict[str, str]) -> None:
    assert dict(of_systemd(env)) == {}


def test_a_credential_that_no_variable_can_hold_is_refused_without_its_value(tmp_path: Path) -> None:
    (tmp_path / "KEY").write_bytes(b"sk-secret\0x")
    with pytest.raises(SecretsError) as caught:
        dict(of_systemd({"CREDENTIALS_DIRECTORY": str(tmp_path)}))
    assert str(tmp_path / "KEY") in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_credentials_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "KEY").mkdir()
    with pytest.raises(SecretsError, match="Is a directory"):
        dict(of_systemd({"CREDENTIALS_DIRECTORY": str(tmp_path)}))
    with pytest.raises(SecretsError, match="No such file"):
        dict(of_systemd({"CREDENTIALS_DIRECTORY": str(tmp_path / "gone")}))
