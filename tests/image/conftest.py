"""A running container of the image under test, as testinfra's host when no other is named, and stand-ins."""

from __future__ import annotations

import os
import subprocess
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import testinfra

from support.fake_platform import FakePlatform, Peer
from support.responses_server import ResponsesServer
from support.workspace_container import gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from testinfra.host import Host

IMAGE = os.environ.get("CODEX_WORKSPACE_IMAGE", "codex-workspace:latest")


@dataclass(frozen=True)
class Target:
    """What an image and hosts promise each in its own way. All else they promise alike.

    `engine`: whether a Docker engine comes with the client. `uid`: the agent's.
    """

    python: str
    pip: str
    version: str = r"3\.(1[1-9]|[2-9]\d)\."
    uid: int = 1000
    engine: bool = False


VENV = ("/opt/molecule-venv/bin/python3", "/opt/molecule-venv/bin/pip")
TARGETS = {
    "image": Target("/usr/local/bin/python3", "pip", r"3\.11\."),
    "host": Target(*VENV),
    "host-with-engine": Target(*VENV, uid=1500, engine=True),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run of the contract say what it runs against."""
    parser.addoption("--target", choices=sorted(TARGETS), default="image", help="what --hosts names")


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    """What the tested one promises in its own way."""
    return TARGETS[request.config.getoption("--target")]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for all tests that are coroutines: containers and the stand-in outlive a test."""
    return "asyncio"


@pytest.fixture(scope="session")
def image() -> str:
    """Name of the image under test."""
    return IMAGE


@pytest.fixture(scope="module")
def container(image: str) -> Iterator[str]:
    """A container of the image that only sleeps; one a module, so that hygiene sees a new one."""
    name = f"codex-workspace-test-{uuid.uuid4().hex[:10]}"
    command = ["docker", "run", "--detach", "--name", name, "--entrypoint", "sleep", image, "infinity"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    yield name
    subprocess.run(["docker", "rm", "--force", name], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> Host:
    """The host named by ``--hosts``, or a container of the image."""
    named = request.config.getoption("--hosts")
    if named and named.startswith("ssh://"):
        options = {name: request.config.getoption(name) for name in ("sudo", "ssh_config", "ssh_extra_args")}
        return testinfra.get_host(named, **options)
    return testinfra.get_host(named or f"docker://root@{request.getfixturevalue('container')}")


@pytest.fixture(scope="module")
async def standin() -> AsyncIterator[ResponsesServer]:
    async with ResponsesServer(host=await gateway()) as server:
        yield server


@pytest.fixture
async def model(standin: ResponsesServer) -> AsyncIterator[ResponsesServer]:
    """The stand-in, with the requests of this test alone; whatever it is asked unexpectedly fails it."""
    standin.requests.clear()
    standin.failures.clear()
    standin.responder = None
    yield standin
    standin.check()


@pytest.fixture
async def platform() -> AsyncIterator[FakePlatform]:
    """A platform with a peer of the workspace; whatever no workspace should have done fails the test."""
    running = FakePlatform("test")
    running.add_peer(Peer("ws-b", "Bee", role="tester", parent_id="ws-parent"))
    await running.start(await gateway())
    yield running
    await running.stop()
    running.check()
