"""The A2A runtime from a private index: that index alone is asked for it, and the image runs it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from support.image_build import Builder, docker
from support.plugins import ROOT
from support.private_index import PrivateIndex

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "molecule-ai-workspace-runtime"
VERSION = "99.0.0"  # one that is bundled nowhere


def runtime_wheel(directory: Path) -> Path:
    """The bundled runtime, built as the version that only the private index has."""
    source = directory / "source"
    subprocess.run(["cp", "-r", str(ROOT / "files/runtime"), str(source)], check=True)
    project = source / "pyproject.toml"
    project.write_text(project.read_text().replace('version = "0.5.0"', f'version = "{VERSION}"'))
    command = ["uv", "build", "--quiet", "--wheel", "--out-dir", str(directory / "dist"), str(source)]
    subprocess.run(command, check=True)
    return next((directory / "dist").glob("*.whl"))


def test_the_runtime_comes_from_its_index_in_the_pinned_version(builder: Builder, tmp_path: Path) -> None:
    """B-27: the public index has a package of that name by somebody else."""
    wheel = runtime_wheel(tmp_path)
    with PrivateIndex(tmp_path, {wheel.name: wheel.read_bytes()}) as index:
        settings = {
            "codex_workspace_runtime_source": "index",
            "codex_workspace_runtime_version": VERSION,
            "codex_workspace_runtime_index_url": index.url,
            "codex_workspace_build_ca_file": str(index.authority),
            # The index serves at localhost.
            "codex_workspace_build_network": "host",
        }
        build = builder.run(settings)
        assert build.process.returncode == 0, build.end
        assert index.password not in build.output
        image = f"{build.image}:latest"
        look = ["run", "--rm", "--entrypoint", "pip", image, "show", PACKAGE]
        assert f"Version: {VERSION}" in docker(*look).splitlines()
        assert index.password not in docker("history", "--no-trunc", image) + docker(
            "image", "inspect", image
        )

        missing = builder.run({**settings, "codex_workspace_runtime_version": "98.0.0"}).refusal(
            after_start=True
        )
        assert f"{PACKAGE}" in missing
        assert "98.0.0" in missing
