"""A probe gives what its script prints as names and values, and fails with what the script said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.local_target import Target

if TYPE_CHECKING:
    from pathlib import Path


def test_each_line_with_a_name_is_returned_with_its_value_in_check_mode_too(tmp_path: Path) -> None:
    script = "echo one=1; echo 'equation=a=b c'; echo empty=; echo a line without a name\n"
    for check in (False, True):
        (found,) = Target(tmp_path).run({"probe": {"script": script}}, check=check)
        assert {name: found[name] for name in ("one", "equation", "empty")} == {
            "one": "1",
            "equation": "a=b c",
            "empty": "",
        }
        assert not found["changed"]


def test_a_script_that_fails_fails_the_task_with_what_it_said(tmp_path: Path) -> None:
    said, silent = Target(tmp_path).run(
        {"probe": {"script": "echo on the way; echo no such host >&2; exit 3"}},
        {"probe": {"script": "exit 4"}},
    )
    assert (said["failed"], said["rc"], said["msg"]) == (True, 3, "no such host")
    assert "on the way" in said["stdout"]
    assert (silent["failed"], silent["msg"]) == (True, "it exited 4")
