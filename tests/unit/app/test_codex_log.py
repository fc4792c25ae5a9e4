from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from codex_log import keep_credentials_out

if TYPE_CHECKING:
    from pathlib import Path

_INSERT = "INSERT INTO logs (level, feedback_log_body) VALUES (?, ?)"


def database(path: Path) -> Path:
    """A log database of codex, as far as it matters."""
    with sqlite3.connect(path) as made:
        made.execute(
            "CREATE TABLE logs (id INTEGER PRIMARY KEY AUTOINCREMENT, level TEXT, feedback_log_body TEXT)"
        )
    made.close()
    return path


def levels(path: Path) -> list[str]:
    with sqlite3.connect(path) as opened:
        found = [level for (level,) in opened.execute("SELECT level FROM logs ORDER BY id")]
    opened.close()
    return found


def test_lines_below_info_do_not_get_in_even_from_a_connection_that_was_open_before(tmp_path: Path) -> None:
    path = database(tmp_path / "logs_2.sqlite")
    codex = sqlite3.connect(path)
    for _ in range(2):
        keep_credentials_out({"CODEX_HOME": str(tmp_path)})
    lines = [("TRACE", "authorization: Bearer x"), ("DEBUG", "y"), ("INFO", "z"), ("ERROR", "z")]
    codex.executemany(_INSERT, lines)
    codex.commit()
    codex.close()
    assert levels(path) == ["INFO", "ERROR"]


def test_the_database_is_where_codex_was_told_to_have_it(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = database(tmp_path / "elsewhere/logs_3.sqlite")
    keep_credentials_out({"CODEX_HOME": str(tmp_path), "CODEX_SQLITE_HOME": str(tmp_path / "elsewhere")})
    with sqlite3.connect(path) as codex:
        codex.execute(_INSERT, ("TRACE", "x"))
    codex.close()
    assert levels(path) == []


def test_a_file_that_is_no_such_database_is_said_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "logs_2.sqlite"
    path.write_text("no database, and long enough to be none" * 4)
    before = path.read_bytes()
    with capture_logs() as lines:
        keep_credentials_out({"CODEX_HOME": str(tmp_path)})
    assert [line["event"] for line in lines] == ["codex.log_not_limited"]
    assert path.read_bytes() == before
