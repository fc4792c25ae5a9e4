"""The agent's tools for what concerns a person, all workspaces together, or the workspace itself.

A request or an approval is put before a person and not waited for: the decision comes back later as a message
of its own.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, Field, field_validator

from molecule_runtime.card_changes import CHANGEABLE, save_changes
from molecule_runtime.mcp_tool import NoArguments, Tool, ToolError, asked
from molecule_runtime.platform import PlatformError
from molecule_runtime.redaction import redact

if TYPE_CHECKING:
    from molecule_runtime.mcp_tools import Toolbox

__all__ = ["PEOPLE_TOOLS"]

_HISTORY_LIMIT: Final = 500
# The names of the tool's answer, and the variables that say so.
_IDENTITY: Final = (
    ("model", ("MODEL",)),
    ("model_provider", ("MODEL_PROVIDER",)),
    ("molecule_model", ("MOLECULE_MODEL",)),
    ("anthropic_base_url", ("ANTHROPIC_BASE_URL",)),
    ("tier", ("TIER",)),
    ("workspace_id", ("WORKSPACE_ID",)),
    ("runtime", ("RUNTIME",)),
)


class RequestArguments(BaseModel):
    """What a person is asked for."""

    kind: Literal["task", "approval"] = Field(
        description="task: the person is to do something; approval: the person is to allow something"
    )
    title: str = Field(description="One line, shown in the person's list")
    detail: str = Field(default="", description="Context and reasons, as long as needed")
    priority: int | None = Field(default=None, description="Higher is more urgent")


class ApprovalArguments(BaseModel):
    """What a person is to allow."""

    action: str = Field(description="What you want to do, in one line")
    reason: str = Field(default="", description="Why it is needed, and what it changes")


class HistoryArguments(BaseModel):
    """Whose messages to read."""

    peer_id: str = Field(description="ID of the workspace that you talked with, as list_peers gives it")
    limit: int = Field(default=20, ge=1, le=_HISTORY_LIMIT, description="At most so many, the newest")
    before_ts: str = Field(
        default="", description="Only what is older than this time (RFC 3339), to read further back"
    )

    @field_validator("before_ts")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        if value:
            try:
                datetime.fromisoformat(value)
            except ValueError:
                raise ValueError(
                    "must be a time as in 2026-01-31T12:00:00Z, or empty for the newest"
                ) from None
        return value


class CardArguments(BaseModel):
    """How the workspace is to be shown to others."""

    card: dict[str, Any] = Field(
        description=f"What to change of {', '.join(CHANGEABLE)}; the rest of the card stays"
    )

    @field_validator("card")
    @classmethod
    def _is_ours_to_change(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value or (others := sorted(set(value) - set(CHANGEABLE))):
            given = f"{', '.join(others)} cannot be changed" if value else "it is empty"
            raise ValueError(f"{given}: give one or more of {', '.join(CHANGEABLE)}")
        return value


class BroadcastArguments(BaseModel):
    """What every workspace is to hear."""

    message: str = Field(description="The text for all workspaces of the organisation")


async def create_request(box: Toolbox, given: RequestArguments) -> str:
    """Put a request before a person."""
    answer = await asked(
        box.client.raise_request(given.kind, redact(given.title), redact(given.detail), given.priority)
    )
    where = "Approvals" if given.kind == "approval" else "Tasks"
    return json.dumps(
        {
            "request_id": answer.get("request_id"),
            "status": answer.get("status", "pending"),
            "note": f"It is in the person's {where} list now. Go on with other work: the decision "
            "reaches you later as a message.",
        }
    )


async def create_approval(box: Toolbox, given: ApprovalArguments) -> str:
    """Ask a person to allow something."""
    return await create_request(
        box, RequestArguments(kind="approval", title=given.action, detail=given.reason)
    )


async def chat_history(box: Toolbox, given: HistoryArguments) -> str:
    """What was said between this workspace and a peer, oldest first."""
    rows = await asked(box.client.history(given.peer_id, given.limit, given.before_ts))
    return json.dumps({"messages": list(reversed(rows)), "count": len(rows)})


async def get_runtime_identity(_: Toolbox, __: NoArguments) -> str:
    """Who this workspace is, by its environment: nobody is asked."""
    found = {
        name: next((os.environ[key] for key in variables if os.environ.get(key)), "")
        for name, variables in _IDENTITY
    }
    return json.dumps(found, indent=2)


async def update_agent_card(box: Toolbox, given: CardArguments) -> str:
    """Change the registered card, for good: the runtime goes on to register it so."""
    row = await asked(box.client.workspace())
    current = row.get("agent_card")
    try:
        await asked(box.client.update_card({**(current if isinstance(current, dict) else {}), **given.card}))
    except ToolError as error:
        cause = error.__cause__
        status = cause.status if isinstance(cause, PlatformError) else None
        answer = {"success": False, "status_code": status, "error": str(error)}
        raise ToolError(json.dumps(answer)) from error
    save_changes(given.card)
    return json.dumps({"success": True, "status": "updated"})


async def broadcast_message(box: Toolbox, given: BroadcastArguments) -> str:
    """Tell all workspaces of the organisation."""
    answer = await asked(box.client.broadcast(redact(given.message)))
    return json.dumps({"status": answer.get("status", "sent"), "delivered": answer.get("delivered")})


PEOPLE_TOOLS: Final = (
    Tool(
        "create_request",
        "Ask a person to do something (task) or to allow it (approval); the answer comes as a message.",
        RequestArguments,
        create_request,
        right="approve",
    ),
    Tool(
        "create_approval",
        "Ask a person to allow an action before you do it; the decision comes as a message.",
        ApprovalArguments,
        create_approval,
        right="approve",
    ),
    Tool(
        "chat_history",
        "What you and a peer have said to each other, also before this conversation.",
        HistoryArguments,
        chat_history,
        read_only=True,
    ),
    Tool(
        "get_runtime_identity",
        "Which model, provider, tier and workspace you run as.",
        NoArguments,
        get_runtime_identity,
        read_only=True,
    ),
    Tool(
        "update_agent_card",
        "Change how this workspace is shown to others, such as its description or skills.",
        CardArguments,
        update_agent_card,
        right="delegate",
    ),
    Tool(
        "broadcast_message",
        "Say something to all workspaces of the organisation, where that is allowed.",
        BroadcastArguments,
        broadcast_message,
        right="delegate",
    ),
)
