"""The directory that holds the workspace's credentials and state.

The runtime and the MCP child must call the same function: an explicit `CONFIGS_DIR` skips the check for write
access, so a child that is told `/configs` by hand can look elsewhere than its parent (B-1).
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["resolve"]

DEFAULT_CONFIGS = Path("/configs")


def resolve() -> Path:
    """Return `$CONFIGS_DIR` (created), else a writable `/configs`, else `~/.molecule-workspace` (0700).

    Not cached: the entrypoint may change the owner of `/configs` after the first call.
    Raises OSError where the directory cannot be created.
    """
    if override := os.environ.get("CONFIGS_DIR", ""):
        path = Path(override)
        path.mkdir(parents=True, exist_ok=True)
        return path
    if DEFAULT_CONFIGS.is_dir() and os.access(DEFAULT_CONFIGS, os.W_OK):
        return DEFAULT_CONFIGS
    path = Path.home() / ".molecule-workspace"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
