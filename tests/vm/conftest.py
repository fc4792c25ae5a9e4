"""The host under test, with its workspace on the stand-in for the model."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from support.responses_server import ResponsesServer
from support.vm_host import ROOT, VmHost
from support.workspace_container import gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which host."""
    parser.addoption("--vm", required=True, help="name of the host in the scenario's inventory")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for all tests: the stand-in outlives a test."""
    return "asyncio"


@pytest.fixture(scope="session")
async def standin() -> AsyncIterator[ResponsesServer]:
    async with ResponsesServer(host=await gateway()) as server:
        yield server


@pytest.fixture
async def model(standin: ResponsesServer) -> AsyncIterator[ResponsesServer]:
    """The stand-in, with the requests of this test alone; whatever it is asked unexpectedly fails it."""
    standin.requests.clear()
    standin.failures.clear()
    yield standin
    standin.check()


@pytest.fixture(scope="session")
def vm(request: pytest.FixtureRequest) -> VmHost:
    return VmHost(request.config.getoption("--vm"))


@pytest.fixture(scope="session")
async def workspace(vm: VmHost, standin: ResponsesServer) -> VmHost:
    """The host, as it was converged, serving and able to answer."""
    await vm.use(standin.base_url)
    await vm.sh("systemctl restart codex-workspace")
    await vm.ready()
    return vm


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A copy of the payload, to be changed."""
    return shutil.copytree(
        ROOT / "files", tmp_path / "files", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
