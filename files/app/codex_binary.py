"""Finds the native codex executable behind the npm package that puts `codex` on PATH.

The npm entry is a Node script that starts the native binary as its child: 70 ms slower, and when the script
is killed the binary lives on as an orphan (CODEX.md 1). So the workspace starts the binary itself.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CodexNotFoundError", "find_codex"]

# machine as `platform.machine()` names it -> (npm platform package, Rust target)
_PLATFORMS = {
    "x86_64": ("codex-linux-x64", "x86_64-unknown-linux-musl"),
    "aarch64": ("codex-linux-arm64", "aarch64-unknown-linux-musl"),
}
_ELF = b"\x7fELF"


class CodexNotFoundError(Exception):
    """No native codex where it should be; the text names every place that was looked at."""


def find_codex(command: str = "codex", *, path: str | None = None, machine: str | None = None) -> Path:
    """Return the absolute path of the native binary that `command` stands for.

    `command` is a name looked up on `path` (default: $PATH) or a path. A native executable is returned as it
    is; the script of the npm package is followed to the platform package beside it. Raises
    CodexNotFoundError.
    """
    found = shutil.which(command, path=path)
    if found is None:
        where = path if path is not None else os.environ.get("PATH", "")
        raise CodexNotFoundError(
            f"{command!r} is not an executable on PATH ({where or 'empty'}). "
            "Install the npm package @openai/codex, or set bridge.app_server_command to the binary."
        )
    script = Path(found).resolve()
    if _is_native(script):
        return script
    machine = machine or platform.machine()
    if machine not in _PLATFORMS:
        raise CodexNotFoundError(
            f"there is no codex binary for {machine}; supported: {', '.join(sorted(_PLATFORMS))}"
        )
    looked_at = list(_candidates(script, *_PLATFORMS[machine]))
    for candidate in looked_at:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    raise CodexNotFoundError(
        f"{found} is a script, and its native binary was not found. Looked at: "
        f"{', '.join(map(str, looked_at))}. Reinstall @openai/codex with its optional dependencies, "
        "or set bridge.app_server_command to the binary."
    )


def _is_native(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_ELF)) == _ELF
    except PermissionError:
        # It can be executed and not read, as the role installs codex: a script could not run so.
        return True


def _candidates(script: Path, package: str, target: str) -> Iterator[Path]:
    """Where Node would find the platform package, seen from `script`: each `node_modules` on the way up."""
    for directory in script.parents:
        if directory.name != "node_modules":
            yield directory / "node_modules" / "@openai" / package / "vendor" / target / "codex" / "codex"
