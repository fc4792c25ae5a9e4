"""The agent's tools for its own goal and its own list of tasks: they need no platform."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, Field

from molecule_runtime.goals import DEFAULT_CADENCE, SHORTEST_CADENCE, GoalError, Goals, Tasks
from molecule_runtime.mcp_tool import NoArguments, Tool, ToolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from molecule_runtime.mcp_tools import Toolbox

__all__ = ["GOAL_TOOLS"]

Status = Literal["current", "queued", "paused", "blocked", "done", "dropped"]


class GoalArguments(BaseModel):
    """What to aim at."""

    goal: str = Field(description="The standing goal, in full: it outlives this conversation")
    cadence_seconds: int = Field(
        default=DEFAULT_CADENCE, ge=SHORTEST_CADENCE, description="How often to come back to it, in seconds"
    )


class AddArguments(BaseModel):
    """What to take on."""

    title: str = Field(description="The task in one line")
    next_action: str = Field(default="", description="What to do first")


class ListArguments(BaseModel):
    """Which tasks to see."""

    status: Status | Literal[""] = Field(default="", description="Empty for all that have not ended")
    limit: int = Field(default=20, ge=1, le=200, description="At most so many")


class UpdateArguments(BaseModel):
    """What has changed."""

    task_id: str = Field(description="The id, as task_list gives it")
    status: Status | Literal[""] = Field(
        default="", description="Its new state; a new current task pauses the one before; empty leaves it"
    )
    next_action: str | None = Field(default=None, description="What to do next; left out, it stays")


class CompleteArguments(BaseModel):
    """Which task is done."""

    task_id: str = Field(description="The id, as task_list gives it")


async def goal_set(_: Toolbox, given: GoalArguments) -> str:
    """Replace the goal."""
    kept = _done(lambda: Goals().set(given.goal, given.cadence_seconds))
    return json.dumps({"set": True, "goal": kept["goal"], "cadence_seconds": kept["cadence_seconds"]})


async def goal_get(_: Toolbox, __: NoArguments) -> str:
    """The goal, or that there is none."""
    found = _done(Goals().get)
    return json.dumps({"goal": found} if found else {"goal": None, "note": "no goal is set"}, default=str)


async def goal_clear(_: Toolbox, __: NoArguments) -> str:
    """Have none any more."""
    _done(Goals().clear)
    return json.dumps({"cleared": True})


async def task_add(_: Toolbox, given: AddArguments) -> str:
    """Take a task on."""
    return json.dumps({"added": True, "id": _done(lambda: Tasks().add(given.title, given.next_action))["id"]})


async def task_list(_: Toolbox, given: ListArguments) -> str:
    """The tasks, the current one first."""
    return json.dumps({"tasks": _done(lambda: Tasks().listed(given.status, given.limit))})


async def task_update(_: Toolbox, given: UpdateArguments) -> str:
    """Change a task."""
    task = _done(lambda: Tasks().update(given.task_id, given.status, given.next_action))
    return json.dumps({"updated": True, "id": task["id"], "status": task["status"]})


async def task_complete(_: Toolbox, given: CompleteArguments) -> str:
    """End a task."""
    return json.dumps({"completed": True, "id": _done(lambda: Tasks().update(given.task_id, "done"))["id"]})


def _done(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except GoalError as error:
        raise ToolError(f"Error: {error}") from error


GOAL_TOOLS: Final = (
    Tool(
        "goal_set",
        "Set your standing goal, for when nothing else is to be done.",
        GoalArguments,
        goal_set,
    ),
    Tool("goal_get", "Your standing goal.", NoArguments, goal_get, read_only=True),
    Tool("goal_clear", "Have no standing goal any more.", NoArguments, goal_clear),
    Tool("task_add", "Put a task on your own list, so that it is not forgotten.", AddArguments, task_add),
    Tool(
        "task_list",
        "Your own tasks, the current one first.",
        ListArguments,
        task_list,
        read_only=True,
    ),
    Tool("task_update", "Change state or next action of a task of yours.", UpdateArguments, task_update),
    Tool("task_complete", "Say that a task of yours is done.", CompleteArguments, task_complete),
)
