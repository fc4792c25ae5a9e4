"""What a tool of the agent is made of: its row in the table, its errors, its calls of the platform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from molecule_runtime.platform import PlatformError, UnauthorizedError
from molecule_runtime.platform_budget import exceeded_periods, refusal
from molecule_runtime.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from molecule_runtime.mcp_tools import Toolbox

__all__ = ["NoArguments", "Tool", "ToolError", "asked"]


class ToolError(Exception):
    """A call that did not work. Its text is for the model."""


class NoArguments(BaseModel):
    """Nothing is asked for."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One row of the table: what the model reads about a tool, and what runs.

    `right` is the action that the roles of the workspace must allow (see `rbac`), "" where everybody may.
    """

    name: str
    description: str
    arguments: type[BaseModel]
    run: Callable[[Toolbox, Any], Awaitable[str]]
    read_only: bool = False
    right: str = ""


async def asked(call: Awaitable[Any]) -> Any:
    """The platform's answer. A refusal of our credential reads differently from an answer that is empty.

    Raises ToolError, whose cause is the PlatformError.
    """
    try:
        return await call
    except UnauthorizedError as error:
        raise ToolError(
            "Error: the platform does not accept this workspace's token (401). It is renewed soon; "
            "try again then"
        ) from error
    except PlatformError as error:
        periods = exceeded_periods(error.status, error.body)
        reason = refusal(periods) if periods is not None else str(error)
        raise ToolError(f"Error: {redact(reason)}") from error
