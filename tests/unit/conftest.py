"""For the tests of the refresh watchdog: an endpoint that knows one token, a CODEX_HOME that asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.token_endpoint import TokenEndpoint
from support.watchdog import REFRESH_TOKEN, Home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    with TokenEndpoint() as served:
        served.grants.add(REFRESH_TOKEN)
        yield served


@pytest.fixture
def home(tmp_path: Path, endpoint: TokenEndpoint) -> Iterator[Home]:
    home = Home(tmp_path / "codex", endpoint.url)
    yield home
    home.close()
