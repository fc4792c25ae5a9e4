"""Plugins and modules of this repository, loaded by path as Ansible does, and fakes for what they run."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "roles/codex_workspace/library"


def load(path: str) -> ModuleType:
    """Load a Python file of the repository as a module of its own."""
    file = ROOT / path
    spec = importlib.util.spec_from_file_location(f"under_test_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_module(
    path: str, arguments: Mapping[str, Any], env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a module as a process, as a target does, and return what it reports.

    Args:
        path: The module, from the repository's root.
        arguments: Its arguments; ``_ansible_check_mode`` is one of them.
        env: Variables laid over this process's own.
    """
    done = subprocess.run(
        [sys.executable, ROOT / path],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 0) == (not report.get("failed")), done
    return report


def put_command(directory: Path, name: str, script: str) -> Path:
    """Write a shell script that stands for a command, in a directory for PATH."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


def path_with(directory: Path) -> dict[str, str]:
    """Return an environment in which the commands of a directory come first."""
    return {"PATH": f"{directory}:{os.environ['PATH']}"}
