"""A password in an index's address serves the build, and is seen nowhere else."""

from __future__ import annotations

import re
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.image_build import docker
from support.plugins import ROOT
from support.private_index import PrivateIndex, installed_modules, installed_uv, requirement, wheel
from support.watchdog import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.image_build import Build, Builder

PACKAGE = "codex_workspace_probe"


class ProcessWatch:
    """Looks all the time for a secret in the arguments and the environment of every process here."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seen: set[str] = set()
        self.rounds = 0

    def __enter__(self) -> ProcessWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.rounds += 1
            for process in Path("/proc").iterdir():
                if process.name.isdigit():
                    self._look_at(process)

    def _look_at(self, process: Path) -> None:
        for name in ("cmdline", "environ"):
            try:
                content = (process / name).read_bytes()
            except OSError:  # it has ended
                continue
            if self._secret in content:
                readable = (
                    content.replace(self._secret, b"SECRET").replace(b"\0", b" ").decode(errors="replace")
                )
                self.seen.add(f"{name}: {readable[:500]}")


def in_stream(command: list[str], needles: list[bytes]) -> list[bytes]:
    """Return those of the needles that a command prints."""
    found: set[bytes] = set()
    longest = max(map(len, needles))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        tail = b""
        while chunk := process.stdout.read(1 << 22):
            window = tail + chunk
            found |= {needle for needle in needles if needle in window}
            tail = window[-longest:]
    assert process.returncode == 0
    return sorted(found)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PrivateIndex]:
    """An index with uv and one small package, which also brings what the entry point imports."""
    _, uv_name, uv = installed_uv()
    package = wheel(PACKAGE, "1.0", {f"{PACKAGE}.py": b"THERE = True\n", **installed_modules("PyYAML")})
    wheels = {uv_name: uv, f"{PACKAGE}-1.0-py3-none-any.whl": package}
    with PrivateIndex(tmp_path, wheels) as served:
        yield served


@pytest.mark.parametrize("place", ["cmdline", "environ"])
def test_the_watch_sees_a_secret_of_a_process(place: str) -> None:
    secret = "seen-by-everyone"
    arguments = ["sh", "-c", "read _", secret if place == "cmdline" else "nothing"]
    env = {"SECRET": secret} if place == "environ" else {}
    with (
        ProcessWatch(secret) as watch,
        subprocess.Popen(arguments, stdin=subprocess.PIPE, env=env, executable="/bin/sh") as process,
    ):
        wait_until(lambda: watch.seen, "the watch has seen it")
        process.kill()
    assert [seen.partition(":")[0] for seen in watch.seen] == [place]


def settings(builder: Builder, index: PrivateIndex) -> dict[str, object]:
    version, _, _ = installed_uv()
    package = index.wheels[f"{PACKAGE}-1.0-py3-none-any.whl"]
    # The index has none of what the bundled runtime needs, and the build would say so.
    project = (ROOT / "files/runtime/pyproject.toml").read_text()
    needless = re.sub(
        r"^dependencies = \[.*?\]$", "dependencies = []", project, flags=re.DOTALL | re.MULTILINE
    )
    files = {
        "app/requirements.txt": requirement(PACKAGE, "1.0", package),
        "runtime/pyproject.toml": needless,
    }
    return {
        **builder.payload("private", files),
        "codex_workspace_uv_version": version,
        "codex_workspace_build_pip_index_url": index.url,
        "codex_workspace_build_ca_file": str(index.authority),
        # Some releases of pip cannot verify an address, and other networks have no name for this machine.
        "codex_workspace_build_network": "host",
    }


def test_a_password_of_the_index_is_in_no_process_no_output_no_layer_and_no_history(
    builder: Builder, good: Build, index: PrivateIndex
) -> None:
    with ProcessWatch(index.password) as watch:
        build = builder.run(settings(builder, index), verbosity="-vvv")
    assert build.process.returncode == 0, build.end.replace(index.password, "SECRET")
    assert "/simple/uv/" in index.granted
    assert watch.rounds > 10
    assert watch.seen == set()
    assert index.password not in build.output
    image = f"{build.image}:latest"
    assert docker("run", "--rm", "--entrypoint", "python3", image, "-c", f"import {PACKAGE}") == ""
    assert index.password not in docker("history", "--no-trunc", image) + docker("image", "inspect", image)
    authority = index.authority.read_bytes().splitlines()[2]
    assert in_stream(["docker", "save", image], [index.password.encode(), authority]) == []


def test_a_password_of_the_index_is_not_told_when_the_index_refuses_it(
    builder: Builder, good: Build, index: PrivateIndex
) -> None:
    refused = index.url.replace(index.password, f"wrong{index.password}")
    build = builder.run(
        {**settings(builder, index), "codex_workspace_build_pip_index_url": refused}, verbosity="-vvv"
    )
    assert build.process.returncode == 2
    assert index.password not in build.output
    assert build.left_behind() == []
