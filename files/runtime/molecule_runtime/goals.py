"""What the agent wants and what it has taken on, kept in the working tree so that it outlives conversations.

Below `/workspace/.molecule` (the configs directory's, where there is no working tree to write to):
`goal.yaml`, one standing goal, which a person may edit, and `tasks.json`, the list. Several servers of tools
may write at once (codex starts one for each thread), so writers take turns.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from molecule_runtime import configs_dir
from molecule_runtime.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["STATUSES", "GoalError", "Goals", "Tasks"]

STATUSES: Final = ("current", "queued", "paused", "blocked", "done", "dropped")
"""The states of a task; at most one is current, `done` and `dropped` have ended."""

DEFAULT_CADENCE: Final = 3600
SHORTEST_CADENCE: Final = 300
_ENDED: Final = ("done", "dropped")
_KEPT_ENDED: Final = 200
_WORKSPACE: Final = Path("/workspace")


class GoalError(Exception):
    """What was asked for cannot be done. The text says why, for the model."""


class _Store:
    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory or _directory()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the directory's lock. Raises GoalError where nothing can be written."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(
                self._directory / ".goals.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise GoalError(f"{self._directory} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        except OSError as error:
            raise GoalError(f"{self._directory} cannot be written: {error.strerror}") from error
        finally:
            os.close(descriptor)


class Goals(_Store):
    """The standing goal: `{"goal","source","set_by","set_at","cadence_seconds"}`."""

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self._directory / "goal.yaml"

    def get(self) -> dict[str, Any] | None:
        """The goal; None where there is none. Raises GoalError for a file that people made unreadable."""
        try:
            found = yaml.safe_load(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise GoalError(
                f"{self.path} cannot be read ({type(error).__name__}); set the goal anew"
            ) from error
        if not isinstance(found, dict) or not str(found.get("goal") or "").strip():
            return None
        return found

    def set(self, goal: str, cadence_seconds: int = DEFAULT_CADENCE) -> dict[str, Any]:
        """Replace the goal. Raises GoalError."""
        kept = {
            "goal": goal.strip(),
            "source": "workspace-mcp",
            "set_by": "agent",
            "set_at": _now(),
            "cadence_seconds": max(SHORTEST_CADENCE, cadence_seconds),
        }
        with self._locked():
            write_atomic(self.path, yaml.safe_dump(kept, sort_keys=False, allow_unicode=True).encode())
        return kept

    def clear(self) -> None:
        """Have no goal any more. Raises GoalError."""
        with self._locked():
            self.path.unlink(missing_ok=True)


class Tasks(_Store):
    """The list of tasks: `{"id","title","status","next_action","created_at","updated_at"}` each."""

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self._directory / "tasks.json"

    def listed(self, status: str = "", limit: int = 20) -> list[dict[str, Any]]:
        """The tasks of one state, or all that have not ended; the current one first. Raises GoalError."""
        found = [
            task
            for task in self._read()
            if task["status"] == status or (not status and task["status"] not in _ENDED)
        ]
        return sorted(found, key=lambda task: STATUSES.index(task["status"]))[:limit]

    def add(self, title: str, next_action: str = "") -> dict[str, Any]:
        """Take a task on. Raises GoalError."""
        with self._locked():
            tasks = self._read()
            task = {
                "id": secrets.token_hex(4),
                "title": title.strip(),
                "status": "queued",
                "next_action": next_action,
                "created_at": _now(),
                "updated_at": _now(),
            }
            self._write([*tasks, task])
        return task

    def update(self, task_id: str, status: str = "", next_action: str | None = None) -> dict[str, Any]:
        """Change a task; a new current one pauses the one before. Raises GoalError for an unknown id."""
        with self._locked():
            tasks = self._read()
            task = next((each for each in tasks if each["id"] == task_id), None)
            if task is None:
                raise GoalError(f"there is no task {task_id[:40]}; task_list gives the ids")
            for other in tasks:
                if status == "current" and other["status"] == "current" and other is not task:
                    other.update(status="paused", updated_at=_now())
            task["status"] = status or task["status"]
            task["next_action"] = task["next_action"] if next_action is None else next_action
            task["updated_at"] = _now()
            self._write(tasks)
        return task

    def _read(self) -> list[dict[str, Any]]:
        try:
            found = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise GoalError(
                f"{self.path} cannot be read ({type(error).__name__}); move it away to begin anew"
            ) from error
        empty = {"title": "", "next_action": "", "created_at": "", "updated_at": ""}
        return [
            {**empty, **task}
            for task in (found if isinstance(found, list) else [])
            if isinstance(task, dict) and isinstance(task.get("id"), str) and task.get("status") in STATUSES
        ]

    def _write(self, tasks: list[dict[str, Any]]) -> None:
        """Write them, of those that have ended only the newest."""
        ended = [task for task in tasks if task["status"] in _ENDED]
        dropped = {
            task["id"] for task in sorted(ended, key=lambda each: str(each["updated_at"]))[:-_KEPT_ENDED]
        }
        kept = [task for task in tasks if task["id"] not in dropped]
        write_atomic(self.path, json.dumps(kept, indent=1).encode())


def _directory() -> Path:
    root = _WORKSPACE if os.access(_WORKSPACE, os.W_OK) else configs_dir.resolve()
    return root / ".molecule"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
