"""Fixtures of the end-to-end tests: the real codex binary and the model stand-in."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from codex_binary import CodexNotFoundError
from support.codex_workbench import codex_binary
from support.responses_server import ResponsesServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def quiet() -> None:
    """The SDK formats each event for a debug log, megabytes and all; another test may have asked for that."""
    logging.getLogger("a2a").setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def codex() -> Path:
    """The pinned binary. Without it the tests fail: a test that is skipped proves nothing."""
    try:
        return codex_binary()
    except CodexNotFoundError as error:
        pytest.fail(f"these tests need the real codex: {error} (or set CODEX_BIN)")


@pytest.fixture
async def model(codex: Path) -> AsyncIterator[ResponsesServer]:
    """The model stand-in; whatever is asked of it unexpectedly fails the test."""
    async with ResponsesServer() as server:
        yield server
        server.check()
