"""One good build, so that the others use its layers again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.image_build import Build, Builder, docker, inspect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    """A build with the default settings. Its layers stay on the engine, as they do for a user."""
    build = Builder(tmp_path_factory.mktemp("good")).run()
    assert build.process.returncode == 0, build.end
    yield build
    for tag in docker("image", "ls", build.image, "--format", "{{.Repository}}:{{.Tag}}").split():
        docker("image", "rm", "--no-prune", tag)


@pytest.fixture(scope="session")
def base(good: Build) -> str:
    """Name of the base that the good build stands on; the engine has it."""
    name: str = inspect(f"{good.image}:latest")["Config"]["Labels"]["org.opencontainers.image.base.name"]
    return name


@pytest.fixture
def builder(base: str, tmp_path: Path) -> Iterator[Builder]:
    """Builds on the base of the good one."""
    builder = Builder(tmp_path, {"codex_workspace_base_image": base, "codex_workspace_base_source": "pull"})
    yield builder
    builder.close()
