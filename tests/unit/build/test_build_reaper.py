"""What a build leaves behind is removed when its playbook is gone, and not before."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from support.plugins import load, path_with, put_command
from support.watchdog import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

session = load("plugins/action/build_session.py")
BUILD = "codex-workspace-build-0123456789"


class Engine:
    """A fake docker whose containers and volumes are files, and a clock that goes on when it is told to."""

    def __init__(self, root: Path) -> None:
        self.bin, self.containers, self.volumes = root / "bin", root / "containers", root / "volumes"
        self.journal, self.ticks, self.clock = root / "journal", root / "ticks", root / "clock"
        self.scratch = root / "scratch"
        for directory in (self.containers, self.volumes, self.scratch):
            directory.mkdir()
        (self.scratch / "pip.conf").touch()
        os.mkfifo(self.clock)
        put_command(self.bin, "sleep", f"echo tick >>{self.ticks}; read _ <{self.clock}")
        put_command(
            self.bin,
            "docker",
            f"""echo "$*" >>{self.journal}
            case "$1 $2" in
            "ps --all")
              prefix=$(printf '%s\\n' "$*" | sed -n 's/.*name=^\\([^ ]*\\).*/\\1/p')
              cd {self.containers} && ls | grep "^$prefix" || true;;
            "rm --force") shift 2; cd {self.containers} && rm -f -- "$@";;
            "volume rm") shift 3; cd {self.volumes} && rm -f -- "$@";;
            *) echo "unexpected: $*" >&2; exit 1;; esac""",
        )

    def reap(self, pid: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["sh", "-c", session.REAPER, "reaper", str(pid), BUILD, str(self.scratch)],
            env={**os.environ, **path_with(self.bin)},
        )

    def tick(self) -> None:
        """Let the clock go on by one pause of the reaper."""
        self.clock.write_text("go\n")

    def paused(self, times: int) -> bool:
        return self.ticks.exists() and len(self.ticks.read_text().splitlines()) >= times

    def paused_or_gone(self, times: int, reaper: subprocess.Popen[bytes]) -> bool:
        return reaper.poll() is not None or self.paused(times)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path)


@pytest.fixture
def playbook() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def end(reaper: subprocess.Popen[bytes], engine: Engine) -> None:
    """See the reaper to its end, however many pauses it makes."""
    paused = len(engine.ticks.read_text().splitlines())
    while reaper.poll() is None:
        wait_until(partial(engine.paused_or_gone, paused, reaper), "the reaper goes on")
        if reaper.poll() is None:
            engine.tick()
            paused += 1


def test_nothing_is_touched_while_the_playbook_lives(
    engine: Engine, playbook: subprocess.Popen[bytes]
) -> None:
    (engine.containers / f"{BUILD}-codex").touch()
    reaper = engine.reap(playbook.pid)
    for pause in (1, 2, 3):
        wait_until(partial(engine.paused, pause), "the reaper looks and waits")
        assert not engine.journal.exists()
        if pause < 3:
            engine.tick()
    assert (engine.containers / f"{BUILD}-codex").exists()
    playbook.kill()
    playbook.wait()
    end(reaper, engine)


def test_what_the_build_made_goes_with_the_playbook_and_nothing_else(
    engine: Engine, playbook: subprocess.Popen[bytes]
) -> None:
    for name in (f"{BUILD}-codex", f"{BUILD}-smoke-fresh", "codex-workspace-build-9999999999-codex", "mine"):
        (engine.containers / name).touch()
    for name in (BUILD, "codex-workspace-build-9999999999"):
        (engine.volumes / name).touch()
    reaper = engine.reap(playbook.pid)
    wait_until(lambda: engine.paused(1), "the reaper waits")
    playbook.kill()
    playbook.wait()
    end(reaper, engine)
    assert sorted(file.name for file in engine.containers.iterdir()) == [
        "codex-workspace-build-9999999999-codex",
        "mine",
    ]
    assert [file.name for file in engine.volumes.iterdir()] == ["codex-workspace-build-9999999999"]
    assert not engine.scratch.exists()


def test_a_container_that_an_orphan_makes_after_the_playbooks_end_goes_too(
    engine: Engine, playbook: subprocess.Popen[bytes]
) -> None:
    """A killed playbook leaves a module running, which may have been about to start a container."""
    reaper = engine.reap(playbook.pid)
    wait_until(lambda: engine.paused(1), "the reaper waits")
    playbook.kill()
    playbook.wait()
    engine.tick()
    wait_until(partial(engine.paused_or_gone, 2, reaper), "the reaper has looked once")
    (engine.containers / f"{BUILD}-codex").touch()
    (engine.volumes / BUILD).touch()
    end(reaper, engine)
    assert list(engine.containers.iterdir()) == []
    assert list(engine.volumes.iterdir()) == []
