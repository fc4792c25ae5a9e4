"""Without an engine, and without a way to install one, there is one error and nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.image_build import Builder
from support.plugins import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.image_build import Build

NOBODY = 65534


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


def test_an_engine_that_the_user_named_is_not_replaced_by_another(builder: Builder) -> None:
    build = builder.run(env={"DOCKER_HOST": "unix:///nonexistent/docker.sock"})
    error = build.refusal_without_engine()
    for word in (
        "No Docker engine answers",
        "DOCKER_HOST is unix:///nonexistent/docker.sock",
        "Start an engine",
    ):
        assert word in error


@pytest.fixture
def checkout_of_nobody() -> Iterator[Path]:
    """A checkout, and a home, of a user who is nobody here."""
    directory = Path(tempfile.mkdtemp())
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    for name in filter(None, map(os.fsdecode, files)):
        if (ROOT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, directory / name)
    subprocess.run(["chown", "-R", str(NOBODY), directory], check=True)
    yield directory
    shutil.rmtree(directory)


def build_as_nobody(checkout: Path, **env: str) -> Build:
    """A capability lets the user read the virtual environment wherever it is; a socket takes another one."""
    assert os.geteuid() == 0, "run this test as root: it becomes somebody else"
    prefix = (
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=-all,+dac_read_search",
    )
    home = {"HOME": str(checkout), "XDG_CACHE_HOME": str(checkout / ".cache")}
    return Builder(checkout).run(prefix=prefix, env={**home, **env}, root=checkout)


def test_who_is_not_root_and_reaches_no_engine_is_told_both(checkout_of_nobody: Path) -> None:
    error = build_as_nobody(checkout_of_nobody).refusal_without_engine()
    for word in ("No Docker engine answers", "that takes root", "Start an engine, set DOCKER_HOST"):
        assert word in error


def test_a_machine_without_a_docker_client_is_as_good_as_one_without_an_engine(
    checkout_of_nobody: Path,
) -> None:
    """Where this is root on Debian, the engine and its client are installed then."""
    commands = checkout_of_nobody / "commands"
    commands.mkdir()
    for directory in map(Path, os.environ["PATH"].split(os.pathsep)):
        for command in directory.glob("*") if directory.is_dir() else ():
            if "docker" not in command.name and not (commands / command.name).is_symlink():
                (commands / command.name).symlink_to(command)
    error = build_as_nobody(checkout_of_nobody, PATH=str(commands)).refusal_without_engine()
    for word in ("No Docker engine answers", "there is no docker command on PATH", "that takes root"):
        assert word in error
