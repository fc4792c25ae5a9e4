"""A password in the address of an index or of a proxy serves the build, and is seen nowhere else."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.forward_proxy import ForwardProxy
from support.image_build import docker, inspect
from support.plugins import ROOT
from support.private_index import PrivateIndex, installed_modules, installed_uv, requirement, wheel
from support.watchdog import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.image_build import Build, Builder

PACKAGE = "codex_workspace_probe"


class ProcessWatch:
    """Looks all the time for secrets in the arguments and the environment of every process here."""

    def __init__(self, *secrets: str) -> None:
        self._secrets = [secret.encode() for secret in secrets]
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
            for secret in self._secrets:
                if secret in content:
                    readable = content.replace(secret, b"SECRET").replace(b"\0", b" ")
                    self.seen.add(f"{name}: {readable.decode(errors='replace')[:500]}")


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
    files = {"app/requirements.txt": requirement(PACKAGE, "1.0", package)}
    # The index has none of what the packages of this repository need, and the build would say so.
    for name in ("config_document", "runtime"):
        project = (ROOT / f"files/{name}/pyproject.toml").read_text()
        files[f"{name}/pyproject.toml"] = re.sub(
            r"^dependencies = \[.*?\]$", "dependencies = []", project, flags=re.DOTALL | re.MULTILINE
        )
    return {
        **builder.payload("private", files),
        "codex_workspace_uv_version": version,
        "codex_workspace_build_pip_index_url": index.url,
        "codex_workspace_build_ca_file": str(index.authority),
        # Some releases of pip cannot verify an address, and other networks have no name for this machine.
        "codex_workspace_build_network": "host",
    }


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[tuple[ForwardProxy, Path]]:
    """A proxy, and the configuration of a docker client that gives it to every new container."""
    directory = tmp_path / "docker-client"
    directory.mkdir()
    with ForwardProxy() as proxy:
        address = {"httpProxy": proxy.url, "httpsProxy": proxy.url, "noProxy": "proxy-exception.example"}
        config = {"proxies": {"default": address}, "HttpHeaders": {"X-Token": proxy.password}}
        (directory / "config.json").write_text(json.dumps(config))
        yield proxy, directory


def layers_of(image: str) -> list[str]:
    """IDs of an image and of all that it stands on, as far as the engine has them."""
    return [name for name in docker("history", "--quiet", "--no-trunc", image).split() if name != "<missing>"]


def test_a_password_is_in_no_process_no_output_no_layer_and_no_history(
    builder: Builder, base: str, index: PrivateIndex, proxied: tuple[ForwardProxy, Path]
) -> None:
    proxy, client = proxied
    with ProcessWatch(index.password, proxy.password) as watch:
        build = builder.run(settings(builder, index), verbosity="-vvv", env={"DOCKER_CONFIG": str(client)})
    hidden = build.end.replace(index.password, "SECRET").replace(proxy.password, "SECRET")
    assert build.process.returncode == 0, hidden
    assert "/simple/uv/" in index.granted
    assert set(proxy.granted) == {index.url.partition("@")[2].partition("/")[0]}
    assert watch.rounds > 10
    assert watch.seen == set()
    image = f"{build.image}:latest"
    assert docker("run", "--rm", "--entrypoint", "python3", image, "-c", f"import {PACKAGE}") == ""

    layers = layers_of(image)
    assert set(build.image_ids) <= set(layers)
    kept = docker("history", "--no-trunc", image) + docker("image", "inspect", *layers)
    for password in (index.password, proxy.password):
        assert password not in build.output + kept
    assert "proxy-exception" not in kept
    variables = inspect(base)["Config"]["Env"]
    assert [inspect(layer)["Config"]["Env"] for layer in layers[1:]] == [variables] * (len(layers) - 1)
    own = ["ADAPTER_MODULE=adapter", "GIT_ASKPASS=/usr/local/bin/molecule-askpass", "PYTHONPATH=/app"]
    assert sorted(inspect(image)["Config"]["Env"]) == sorted([*variables, *own])

    authority = index.authority.read_bytes().splitlines()[2]
    needles = [index.password.encode(), proxy.password.encode(), b"proxy-exception", authority]
    assert in_stream(["docker", "save", image], needles) == []


def test_a_layer_and_an_image_with_what_a_docker_client_gave_them_are_not_used_again(
    builder: Builder, good: Build
) -> None:
    """Earlier versions kept the proxies of the docker client's configuration in what they committed."""
    tainted = ["--env", "HTTPS_PROXY=http://builder:s3cret@proxy.example:3128"]
    payload = builder.payload("tainted")
    first = builder.run(payload)
    clean = inspect(first.image_ids[0])
    labels = clean["Config"]["Labels"]
    assert (first.layers["payload"], first.layers["runtime"]) == ("built", "reused")
    for image in (f"{first.image}:latest", f"{first.image}:0.1.0", *reversed(first.image_ids)):
        docker("image", "rm", "--no-prune", image, check=False)
    container = docker("create", *tainted, clean["Parent"])
    key = f"LABEL codex-workspace.layer.key={labels['codex-workspace.layer.key']}"
    tag = f"codex-workspace-test-base:{secrets.token_hex(5)}"
    docker("commit", "--change", key, container, tag)
    builder.images.append(tag)
    docker("rm", container)
    assert builder.run(payload).layers["payload"] == "built"

    image = f"codex-workspace-test-{secrets.token_hex(5)}"
    container = docker("create", *tainted, f"{good.image}:latest")
    for tag in ("0.1.0", "latest"):
        docker("commit", container, f"{image}:{tag}")
    docker("rm", container)
    again = builder.run({"codex_workspace_image_name": image})
    assert again.process.returncode == 0, again.end
    assert inspect(f"{image}:latest")["Id"] == inspect(f"{image}:0.1.0")["Id"]
    assert sorted(inspect(f"{image}:latest")["Config"]["Env"]) == sorted(
        inspect(f"{good.image}:latest")["Config"]["Env"]
    )


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
