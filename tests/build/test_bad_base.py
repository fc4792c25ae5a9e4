"""A base that is absent, not the one asked for, or cannot become a workspace is refused with the reason."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import subprocess
import threading
import urllib.request
from typing import TYPE_CHECKING

import pytest

from support.image_build import LAYERS, Build, Builder, docker, inspect
from support.watchdog import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# --- of a registry ----------------------------------------------------------------------------------------


class Registry:
    """A real registry on this machine, with the good build's base in it and that base's digest."""

    def __init__(self, directory: Path, base: str) -> None:
        if shutil.which("docker-registry") is None:
            subprocess.run(["apt-get", "update", "-q"], check=True)
            subprocess.run(
                ["apt-get", "install", "-q", "-y", "--no-install-recommends", "docker-registry"], check=True
            )
        self.storage = directory / "storage"
        config = directory / "config.yml"
        log = directory / "log"
        config.write_text(
            "version: 0.1\nlog: {level: info}\nhttp: {addr: '127.0.0.1:0'}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.storage}}}}}\n"
        )
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", config], stdout=output, stderr=output
            )
        wait_until(lambda: b"listening on" in log.read_bytes(), "the registry listens")
        address = log.read_text().partition("listening on ")[2].split()[0].strip('",')
        port = int(address.rpartition(":")[2])
        self.name = f"localhost:{port}/base"
        with urllib.request.urlopen(f"http://localhost:{port}/v2/", timeout=60) as answer:
            assert answer.status == 200
        docker("tag", base, f"{self.name}:1")
        self.digest = self.push(f"{self.name}:1")

    def push(self, reference: str) -> str:
        """Push an image, have the engine forget where it is, and return its digest."""
        said = docker("push", reference)
        self.forget()
        return "sha256:" + said.partition("digest: sha256:")[2].split()[0]

    def forget(self) -> None:
        """Have the engine forget what it knows of this registry, so that it asks again."""
        references = docker("image", "ls", "--digests", self.name, "--format", "{{.Tag}} {{.Digest}}")
        for tag, digest in (line.split() for line in references.splitlines()):
            docker(
                "image",
                "rm",
                "--no-prune",
                f"{self.name}:{tag}" if tag != "<none>" else f"{self.name}@{digest}",
            )

    def stop(self) -> None:
        """End the registry."""
        self.forget()
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="module")
def registry(base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    served = Registry(tmp_path_factory.mktemp("registry"), base)
    yield served
    served.stop()


@pytest.fixture(autouse=True)
def forgotten(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "registry" in request.fixturenames:
        request.getfixturevalue("registry").forget()


def test_a_base_is_pulled_by_its_digest_and_the_image_says_so(
    builder: Builder, registry: Registry, base: str
) -> None:
    build = builder.run(
        {"codex_workspace_base_image": f"{registry.name}:1", "codex_workspace_base_digest": registry.digest}
    )
    assert build.process.returncode == 0, build.end
    labels = inspect(f"{build.image}:latest")["Config"]["Labels"]
    assert labels["org.opencontainers.image.base.name"] == f"{registry.name}:1"
    assert labels["org.opencontainers.image.base.digest"] == registry.digest
    # What was pushed is this machine's base, and a stand-in says what it is wherever it comes from.
    local = inspect(base)["Config"]["Labels"] or {}
    assert labels["codex-workspace.base.kind"] == local.get("codex-workspace.base.kind", "registry")
    assert build.layers == dict.fromkeys(LAYERS, "reused")


@pytest.mark.parametrize("source", ["pull", "auto"])
def test_a_digest_that_the_registry_does_not_have_is_refused_and_never_papered_over(
    builder: Builder, registry: Registry, source: str
) -> None:
    digest = f"sha256:{'0' * 64}"
    error = builder.run(
        {
            "codex_workspace_base_image": f"{registry.name}:1",
            "codex_workspace_base_digest": digest,
            "codex_workspace_base_source": source,
        }
    ).refusal()
    for word in (f"{registry.name}@{digest}", "manifest unknown", "codex_workspace_base_digest"):
        assert word in error


def test_a_base_whose_bytes_are_not_those_of_the_digest_is_refused(
    builder: Builder, registry: Registry
) -> None:
    """The engine keeps every manifest that it has pulled, so this is one that it has not."""
    reference = f"{registry.name}:tampered"
    docker("tag", builder.derive("true"), reference)
    digest = registry.push(reference)
    manifest = registry.storage / f"docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}/data"
    genuine = manifest.read_bytes()
    manifest.write_bytes(genuine.replace(b'"schemaVersion": 2', b'"schemaVersion":  2'))
    assert manifest.read_bytes() != genuine
    error = builder.run(
        {
            "codex_workspace_base_image": reference,
            "codex_workspace_base_digest": digest,
            "codex_workspace_base_source": "auto",
        }
    ).refusal()
    for word in (f"{registry.name}@{digest}", "codex_workspace_base_digest"):
        assert word in error


def test_a_tag_that_the_registry_does_not_have_is_refused_and_never_papered_over(
    builder: Builder, registry: Registry
) -> None:
    error = builder.run(
        # The tag is a word that also tells a registry that is not reached.
        {"codex_workspace_base_image": f"{registry.name}:timeout", "codex_workspace_base_source": "auto"}
    ).refusal()
    for word in (f"{registry.name}:timeout", "not found", "Correct codex_workspace_base_image"):
        assert word in error


def test_a_registry_that_does_not_answer_is_named_with_the_ways_out(builder: Builder) -> None:
    error = builder.run(
        {"codex_workspace_base_image": "localhost:9/base:1", "codex_workspace_base_source": "pull"}
    ).refusal()
    for word in ("localhost:9/base:1", "No registry answers", "codex_workspace_base_source to bootstrap"):
        assert word in error


@pytest.mark.parametrize("place", ["a setting", "the name"])
def test_a_digest_is_never_given_up_for_a_stand_in(builder: Builder, place: str) -> None:
    digest = f"sha256:{'0' * 64}"
    name = "localhost:9/base:1"
    pinned: dict[str, object] = (
        {"codex_workspace_base_image": f"{name}@{digest}"}
        if place == "the name"
        else {"codex_workspace_base_image": name, "codex_workspace_base_digest": digest}
    )
    error = builder.run({**pinned, "codex_workspace_base_source": "auto"}).refusal()
    for word in ("No registry answers", "leave the digest empty"):
        assert word in error


def reset(connection: socket.socket) -> None:
    """End a connection without a word, as a firewall does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def unavailable(connection: socket.socket) -> None:
    """Answer as a gateway whose registry is down."""
    connection.recv(1 << 16)
    connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("answer", [reset, unavailable])
def test_a_registry_that_resets_connections_or_is_down_is_not_one_that_says_no(
    builder: Builder, answer: Callable[[socket.socket], None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(OSError):
                        answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        name = f"localhost:{server.getsockname()[1]}/base:1"
        error = builder.run(
            {"codex_workspace_base_image": name, "codex_workspace_base_source": "pull"}
        ).refusal()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert name in error
    assert "No registry answers" in error


# --- that cannot become a workspace -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param(
            "useradd --uid 1000 other",
            ["uid 1000 belongs to the user other", "codex_workspace_agent_uid", "another base image"],
            id="uid taken by another",
        ),
        pytest.param(
            "useradd --uid 1234 agent",
            [
                "the user agent exists with uid 1234",
                "codex_workspace_agent_uid",
                "codex_workspace_agent_user",
            ],
            id="agent with another uid",
        ),
        pytest.param(
            "rm /usr/local/bin/python3*",
            ["no Python 3.11 at /usr/local/bin/python3", "python:3.11-slim"],
            id="no Python 3.11",
        ),
        pytest.param(
            "rm /usr/local/bin/python3 && printf '#!/bin/sh\\necho 3.12.1\\n' >/usr/local/bin/python3"
            " && chmod 755 /usr/local/bin/python3",
            ["no Python 3.11 at /usr/local/bin/python3", '"3.12.1"', "python:3.11-slim"],
            id="another Python",
        ),
        pytest.param(
            "printf '#!/bin/sh\\necho riscv64\\n' >/usr/bin/uname",
            ["riscv64", "no codex binary", "x86_64 and aarch64"],
            id="no codex binary",
        ),
        pytest.param(
            "sed -i 's/^VERSION_ID=.*/VERSION_ID=\"11\"/' /usr/lib/os-release",
            ["debian 11", "Debian 12 and 13"],
            id="another release",
        ),
    ],
)
def test_it_is_refused_before_anything_is_installed(builder: Builder, script: str, words: list[str]) -> None:
    build = builder.run({"codex_workspace_base_image": builder.derive(script)})
    error = build.refusal(after_start=True)
    assert [word for word in words if word not in error] == []
    assert build.image_ids == []


def test_an_engine_without_space_is_refused_before_anything_is_installed(
    builder: Builder, good: Build
) -> None:
    build = builder.run({**builder.payload("no space"), "codex_workspace_minimum_free_mb": 999_999_999})
    error = build.refusal(after_start=True)
    for word in (
        "MB free on /",
        "999999999 MB are needed",
        "codex_workspace_minimum_free_mb",
        "docker system prune",
    ):
        assert word in error
    assert build.image_ids == []
