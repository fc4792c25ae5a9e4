"""Asks a real codex whether it accepts an auth.json that the watchdog wrote."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def assert_codex_accepts(codex: Sequence[str], codex_home: Path) -> None:
    """Run `codex login status` in `codex_home`; `codex` is the command, such as `["codex"]`.

    It proves that the file parses with all that codex needs; codex calls an expired token signed in as well.
    """
    done = subprocess.run(
        [*codex, "login", "status"],
        env={"PATH": os.environ["PATH"], "HOME": str(codex_home.parent), "CODEX_HOME": str(codex_home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Logged in using ChatGPT" in done.stderr
