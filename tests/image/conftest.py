"""A running container of the image under test, as testinfra's host when no other is named, and stand-ins."""

from __future__ import annotations

import os
import subprocess
import uuid
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
