"""The agent's tools: the table of all of them, and those for its peers, its user and its memory."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from molecule_runtime.mcp_goals import GOAL_TOOLS
from molecule_runtime.mcp_people import PEOPLE_TOOLS
from molecule_runtime.mcp_tool import NoArguments, Tool, ToolError, asked
from molecule_runtime.peers import Answer, PeerError, send_to_peer
from molecule_runtime.platform import PlatformError
from molecule_runtime.redaction import redact

if TYPE_CHECKING:
    from molecule_runtime.platform import PlatformClient

__all__ = ["TOOLS", "Tool", "ToolError", "Toolbox"]

_TERMINAL = {"completed", "failed"}
_LISTED = 10
_QUEUED_SECONDS = 300.0
_QUEUED_POLL_SECONDS = 3.0


class DelegateArguments(BaseModel):
    """Whom to give what to."""

    workspace_id: str = Field(description="ID of the peer, as list_peers gives it")
    task: str = Field(description="What the peer is to do, in full: it does not see this conversation")


class StatusArguments(BaseModel):
    """Which delegation to look at."""

    workspace_id: str = Field(description="ID of the peer; kept for compatibility, not used")
    task_id: str = Field(description="The delegation_id; empty for the ten newest")


class MessageArguments(BaseModel):
    """What to tell the user."""

    message: str = Field(description="The text for the user")
    attachments: list[Any] = Field(
        default=[],
        description="Files to send along, 100 MB at most: absolute paths, or {uri, name} of uploaded ones",
    )


class CommitArguments(BaseModel):
    """What to remember."""

    content: str = Field(description="The memory; never a secret")
    scope: Literal["LOCAL", "TEAM", "GLOBAL"] = Field(
        default="LOCAL",
        description="LOCAL: this workspace, TEAM: its siblings too, GLOBAL: root workspaces only",
    )


class RecallArguments(BaseModel):
    """What to look for."""

    query: str = Field(default="", description="Words to look for; empty for everything")
    scope: Literal["LOCAL", "TEAM", "GLOBAL", ""] = Field(default="", description="Empty for every scope")


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools' implementation over the platform's API. Every method returns text, or raises ToolError."""

    client: PlatformClient
    allowed: frozenset[str]
    queued_seconds: float = _QUEUED_SECONDS
    queued_poll_seconds: float = _QUEUED_POLL_SECONDS

    async def list_peers(self, _: NoArguments) -> str:
        """One line a peer. A refused or failed request is an error and not "no peers"."""
        peers = await asked(self.client.peers())
        if not peers:
            return "No peers available (this workspace may be isolated)"
        return "\n".join(
            f"- {peer.get('name') or 'unnamed'} (ID: {peer.get('id')}, status: {peer.get('status')}, "
            f"role: {peer.get('role') or 'none'})"
            for peer in peers
        )

    async def delegate_task(self, given: DelegateArguments) -> str:
        """The peer's answer. One that is busy or polls gets the task durably; its result is waited for."""
        name = given.workspace_id
        try:
            peer = await asked(self.client.discover(given.workspace_id))
            name = str(peer.get("name") or given.workspace_id)
            await self._log(
                "a2a_send", given.workspace_id, f"Task for {name}", request_body={"task": given.task}
            )
            answer = await send_to_peer(self.client, given.workspace_id, str(peer.get("url", "")), given.task)
            if not isinstance(answer, Answer):
                answer = await self._wait_for_durable(given)
        except (ToolError, PeerError) as error:
            reason = redact(str(error))
            await self._log(
                "a2a_receive", given.workspace_id, f"{name} failed", status="error", error_detail=reason
            )
            raise ToolError(
                f"DELEGATION FAILED to {name}: {reason}\n"
                "You can give the task to another peer, do it yourself, or tell the user."
            ) from error
        await self._log(
            "a2a_receive", given.workspace_id, f"Answer of {name}", response_body={"text": answer.text}
        )
        return answer.text

    async def _wait_for_durable(self, given: DelegateArguments) -> Answer:
        delegation = await asked(self.client.delegate(given.workspace_id, given.task))
        identifier = delegation.get("delegation_id")
        try:
            async with asyncio.timeout(self.queued_seconds):
                while True:
                    for row in await asked(self.client.delegations()):
                        if row.get("delegation_id") == identifier and row.get("status") in _TERMINAL:
                            return _durable_answer(row)
                    await asyncio.sleep(self.queued_poll_seconds)
        except TimeoutError as error:
            raise ToolError(
                f"the peer is busy; the task is queued as {identifier}. Ask check_task_status later"
            ) from error

    async def delegate_task_async(self, given: DelegateArguments) -> str:
        """Hand over and go on."""
        delegation = await asked(self.client.delegate(given.workspace_id, given.task))
        note = "Ask check_task_status for the result; it is also given to you with a later message."
        if delegation.get("idempotent_hit"):
            note = f"This task was handed over before. {note}"
        answer = {
            "delegation_id": delegation.get("delegation_id"),
            "workspace_id": given.workspace_id,
            "status": "delegated",
            "note": note,
        }
        return json.dumps(answer)

    async def check_task_status(self, given: StatusArguments) -> str:
        """One delegation, or the newest ones."""
        rows = await asked(self.client.delegations())
        if not given.task_id:
            return json.dumps({"delegations": rows[:_LISTED], "count": len(rows)})
        for row in rows:
            if row.get("delegation_id") == given.task_id:
                return json.dumps(row)
        return json.dumps({"status": "not_found", "delegation_id": given.task_id})

    async def get_workspace_info(self, _: NoArguments) -> str:
        """This workspace's public row."""
        try:
            return json.dumps(await asked(self.client.workspace()), indent=2)
        except ToolError as error:
            raise ToolError(json.dumps({"error": str(error)})) from error

    async def send_message_to_user(self, given: MessageArguments) -> str:
        """Files first: a message that announces files which are not there is worse than none."""
        wanted = [_attachment(item, number) for number, item in enumerate(given.attachments)]
        paths = [each for each in wanted if isinstance(each, Path)]
        files = [(path, mimetypes.guess_type(path.name)[0] or "application/octet-stream") for path in paths]
        uploaded = iter(await asked(self.client.upload(files)) if files else [])
        stored = [next(uploaded) if isinstance(each, Path) else each for each in wanted]
        try:
            await asked(self.client.notify(given.message, stored))
        except ToolError as error:
            cause = error.__cause__
            hint = (
                cause.body.get("hint")
                if isinstance(cause, PlatformError) and isinstance(cause.body, dict)
                else None
            )
            raise ToolError(f"{error}. {hint}" if hint else str(error)) from cause
        return f"Message sent to user with {len(stored)} attachment(s)" if stored else "Message sent to user"

    async def commit_memory(self, given: CommitArguments) -> str:
        """Store, without what looks like a secret."""
        stored = await asked(self.client.remember(redact(given.content), given.scope))
        return json.dumps(
            {"success": True, "id": stored.get("id"), "scope": stored.get("scope", given.scope)}
        )

    async def recall_memory(self, given: RecallArguments) -> str:
        """One line a memory."""
        found = await asked(self.client.recall(given.query, given.scope))
        if not found:
            return "No memories found."
        return "\n".join(f"[{memory.get('scope')}] {memory.get('content')}" for memory in found)

    def require(self, action: str) -> None:
        """Raise ToolError where the roles of the workspace do not allow `action`; "" is always allowed."""
        if action and action not in self.allowed:
            raise ToolError(f"Error: the roles of this workspace (rbac in config.yaml) do not allow {action}")

    async def _log(self, kind: str, target: str, summary: str, **fields: Any) -> None:
        await self.client.activity(kind, "message/send", summary, target_id=target, **fields)


TOOLS = (
    Tool(
        "list_peers",
        "List the workspaces that you can talk to: name, ID, status, role.",
        NoArguments,
        Toolbox.list_peers,
        read_only=True,
    ),
    Tool(
        "delegate_task",
        "Give a task to a peer and wait for its answer.",
        DelegateArguments,
        Toolbox.delegate_task,
        right="delegate",
    ),
    Tool(
        "delegate_task_async",
        "Give a task to a peer and go on; ask check_task_status for the result.",
        DelegateArguments,
        Toolbox.delegate_task_async,
        right="delegate",
    ),
    Tool(
        "check_task_status",
        "State and result of a task given with delegate_task_async.",
        StatusArguments,
        Toolbox.check_task_status,
        read_only=True,
    ),
    Tool(
        "get_workspace_info",
        "Name, role, tier, status and parent of this workspace.",
        NoArguments,
        Toolbox.get_workspace_info,
        read_only=True,
    ),
    Tool(
        "send_message_to_user",
        "Say something to the user now, with files if you like; your final answer is sent anyway.",
        MessageArguments,
        Toolbox.send_message_to_user,
    ),
    Tool(
        "commit_memory",
        "Remember a fact or a decision beyond this conversation.",
        CommitArguments,
        Toolbox.commit_memory,
        right="memory.write",
    ),
    Tool(
        "recall_memory",
        "Search what was remembered.",
        RecallArguments,
        Toolbox.recall_memory,
        read_only=True,
        right="memory.read",
    ),
    *PEOPLE_TOOLS,
    *GOAL_TOOLS,
)


def _durable_answer(row: dict[str, Any]) -> Answer:
    if row["status"] == "failed":
        raise ToolError(str(row.get("error") or "the delegated task failed"))
    return Answer(str(row.get("response_preview") or ""))


def _attachment(given: Any, number: int) -> Path | dict[str, Any]:
    """A file to upload, or the description of one that the platform has already. Raises ToolError."""
    if isinstance(given, dict) and isinstance(given.get("uri"), str) and given["uri"]:
        name = given.get("name") or PurePosixPath(given["uri"]).name
        if not isinstance(name, str):
            raise ToolError(_unknown_form(number, "its name is no text"))
        optional = {key: given[key] for key in ("mimeType", "size") if given.get(key) is not None}
        return {"uri": given["uri"], "name": name, **optional}
    path = given.get("path") if isinstance(given, dict) else given
    if not isinstance(path, str) or not path:
        raise ToolError(_unknown_form(number, f"it is {json.dumps(given, default=str)[:80]}"))
    _require_file(Path(path))
    return Path(path)


def _unknown_form(number: int, problem: str) -> str:
    return (
        f"Error: attachment {number + 1} cannot be sent, {problem}: give the absolute path of a file, "
        '{"path": "/..."}, or {"uri": "...", "name": "..."} of an uploaded one; no message was sent'
    )


def _require_file(path: Path) -> None:
    if not path.is_absolute():
        raise ToolError(f"Error: attachment {path} must be an absolute path; no message was sent")
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise ToolError(f"Error: attachment {path}: {error.strerror}; no message was sent") from error
    if not regular:
        raise ToolError(f"Error: attachment {path} is not a regular file; no message was sent")
