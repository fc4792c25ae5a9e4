"""A lock on a host is held from task to task, and ends with the playbook that took it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from support.local_target import Target

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def target(tmp_path: Path) -> Target:
    root = tmp_path / "target"
    root.mkdir()
    return Target(root)


def lock(target: Target) -> dict[str, Any]:
    return {"host_lock": {"path": str(target.root / "lock"), "wait_seconds": 0}}


def test_a_lock_is_held_from_task_to_task_and_refused_to_others(target: Target) -> None:
    probe = {"ansible.builtin.command": f"flock --nonblock {target.root}/lock true"}
    taken, held, refused = target.run(lock(target), probe, lock(target))
    assert (taken["failed"], held["rc"]) == (False, 1)
    assert "another run has been changing this host since 2" in refused["msg"]


def test_a_lock_ends_with_the_playbook_that_took_it(target: Target) -> None:
    target.run(lock(target))
    wait = f"flock --wait 20 {target.root}/lock true"
    assert subprocess.run(wait.split(), check=False).returncode == 0


def test_a_lock_that_is_given_back_can_be_taken(target: Target) -> None:
    token = {"token": "{{ task0.token }}"}
    again = {"host_lock": {**lock(target)["host_lock"], "wait_seconds": 20}}
    assert [report["failed"] for report in target.run(lock(target), {"host_lock": token}, again)] == [
        False
    ] * 3


def test_nothing_is_locked_in_check_mode(target: Target) -> None:
    target.run(lock(target), check=True)
    assert not (target.root / "lock").exists()
