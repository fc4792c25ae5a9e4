"""A script on a target says what it says, however much others say before it, and in whatever language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.local_target import Target
from support.plugins import load, put_command

if TYPE_CHECKING:
    from pathlib import Path

target_shell = load("roles/codex_workspace/action_plugins/target_shell.py")

NOISE = "echo 'Welcome to somebody'; printf 'no line end'; echo 'sudo: unable to resolve host' >&2"


@pytest.fixture
def noisy(tmp_path: Path) -> dict[str, Any]:
    """Keywords of a task that becomes root by a sudo that warns and lets a profile speak first."""
    # Its options and the user stand before the command.
    sudo = put_command(
        tmp_path / "bin", "sudo", f'{NOISE}\nwhile [ "$1" != /bin/sh ]; do shift; done\nexec "$@"'
    )
    variables = {"ansible_become_exe": str(sudo), "ansible_become_user": "somebody-else"}
    return {"become": True, "vars": variables}


def test_only_what_the_script_says_is_returned(tmp_path: Path, noisy: dict[str, Any]) -> None:
    script = "echo one; echo 'a warning' >&2; printf two"
    (done,) = Target(tmp_path).run({"target_shell": {"script": script}, **noisy})
    assert (done["rc"], done["stdout"], done["stderr"]) == (0, "one\ntwo", "a warning\n")
    assert done["stdout_lines"] == ["one", "two"]


def test_a_probe_and_an_archive_take_no_noise_for_an_answer(tmp_path: Path, noisy: dict[str, Any]) -> None:
    sudo = tmp_path / "bin/sudo"
    sudo.write_text(sudo.read_text().replace("no line end", "release=99\\nchanged\\n"))
    text = {"dest": str(tmp_path / "there"), "content": "x", "mode": "0600"}
    found, first, second = Target(tmp_path).run(
        {"probe": {"script": "echo distribution=debian"}, **noisy},
        {"unpack": {"texts": [text]}, **noisy},
        {"unpack": {"texts": [text]}, **noisy},
    )
    assert (found["distribution"], "release" in found) == ("debian", False)
    assert (first["changed"], second["changed"]) == (True, False)


def test_a_script_has_the_c_locale_a_known_umask_and_no_terminal(
    tmp_path: Path, noisy: dict[str, Any]
) -> None:
    sudo = tmp_path / "bin/sudo"
    german = "umask 077; export LC_ALL=de_DE.UTF-8 LANGUAGE=de"
    sudo.write_text(sudo.read_text().replace("exec", f"{german}; exec"))
    script = f'umask; echo "$LC_ALL ${{LANGUAGE-none}}"; test -t 1 || echo none; ls {tmp_path}/missing'
    (done,) = Target(tmp_path).run({"target_shell": {"script": script}, **noisy})
    assert done["stdout_lines"] == ["0022", "C none", "none"]
    assert "No such file or directory" in done["stderr"]


def test_a_script_ends_where_it_says_that_errors_end_it(tmp_path: Path) -> None:
    (done,) = Target(tmp_path).run({"target_shell": {"script": "set -e\nfalse\necho went on"}})
    assert (done["failed"], done["stdout"]) == (True, "")


def test_on_a_host_a_script_has_the_path_of_services(tmp_path: Path) -> None:
    for kind, path in (
        ("host", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("image", ""),
    ):
        (done,) = Target(tmp_path).run(
            {"target_shell": {"script": 'echo "$PATH"'}, "vars": {"codex_workspace_target": kind}}
        )
        assert (done["stdout"].strip() == path) == (kind == "host")


def test_a_script_ends_with_its_own_code_and_reads_its_own_input(tmp_path: Path) -> None:
    failed, read, nothing = Target(tmp_path).run(
        {"target_shell": {"script": "echo 'no such host' >&2; exit 3"}},
        {"target_shell": {"script": "cat", "stdin": "a text\n# of lines"}},
        {"target_shell": {"script": "cat"}},
    )
    assert (failed["failed"], failed["rc"], failed["msg"], failed["started"]) == (
        True,
        3,
        "no such host",
        True,
    )
    assert (read["stdout"], nothing["stdout"]) == ("a text\n# of lines", "")


def test_one_that_nobody_let_begin_is_told_from_one_that_failed(
    tmp_path: Path, noisy: dict[str, Any]
) -> None:
    sudo = tmp_path / "bin/sudo"
    sudo.write_text("#!/bin/sh\necho 'sudo: Ein Passwort ist notwendig' >&2\nexit 1\n")
    script, probe = Target(tmp_path).run(
        {"target_shell": {"script": "exit 1"}, **noisy}, {"probe": {"script": "exit 1"}, **noisy}
    )
    for done in (script, probe):
        assert done["failed"]
        assert not done.get("started")
        assert "sudo: Ein Passwort ist notwendig" in done["msg"]


def test_nothing_runs_in_check_mode(tmp_path: Path) -> None:
    (done,) = Target(tmp_path).run({"target_shell": {"script": f"touch {tmp_path}/made"}}, check=True)
    assert done["skipped"]
    assert not (tmp_path / "made").exists()


def test_half_of_a_script_does_nothing(tmp_path: Path) -> None:
    whole = target_shell.SCRIPT.format(mark="m", script=f"touch {tmp_path}/made\ntrue", path="")
    half = whole[: whole.index("true")]
    (done,) = Target(tmp_path).run(
        {
            "ansible.builtin.command": {
                "cmd": f"sh -c '{target_shell.RECEIVE.format(size=len(whole))}'",
                "stdin": half,
            }
        }
    )
    assert done["rc"] != 0
    assert not (tmp_path / "made").exists()
