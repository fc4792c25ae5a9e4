"""Keeps credentials out of the log database that codex has of its own.

codex 0.130.0 records each event of its libraries in `logs_<n>.sqlite`, whatever RUST_LOG says, and no setting
turns that off. Among them are the headers of each WebSocket that it opens to OpenAI, so the API key or the
access token, which would then stay on the volume for days.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["keep_credentials_out"]

log = structlog.get_logger(__name__)

_SECONDS: Final = 5.0
# In the database itself, so that it also holds for a codex that the agent starts.
_TRIGGER: Final = """\
CREATE TRIGGER IF NOT EXISTS codex_workspace_no_details BEFORE INSERT ON logs
WHEN NEW.level IN ('TRACE', 'DEBUG') BEGIN SELECT RAISE(IGNORE); END"""


def keep_credentials_out(env: Mapping[str, str]) -> None:
    """Let the log database of codex, which runs with `env`, take no line below INFO.

    It is there as soon as codex has answered `initialize`. Raises nothing: where it cannot be done, codex
    works all the same, and the log says so.
    """
    home = Path(env.get("CODEX_SQLITE_HOME") or env.get("CODEX_HOME") or Path.home() / ".codex")
    for path in home.glob("logs_*.sqlite"):
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=_SECONDS)) as database:
                database.execute(_TRIGGER)
        except sqlite3.Error as error:
            log.warning("codex.log_not_limited", path=str(path), reason=str(error))
