"""The answers to what the app-server asks its client (PLATFORM.md 10.4, CODEX.md 9.5).

Nobody sits in front of this workspace, and an unanswered request stalls the turn for ever, so each of the
nine methods gets an answer of its own shape at once. What would be an approval is given where the container
is the sandbox (`danger-full-access`) and refused otherwise: there, an approval would be a way out of codex's
sandbox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app_server import MethodNotSupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["ServerRequests"]


class ServerRequests:
    """Answers requests of the server. Call it with (method, params); it returns the result's object.

    `trusted_mcp_servers` may run their tools; the tools of other servers are declined.
    Raises MethodNotSupportedError for everything that has no honest answer here.
    """

    def __init__(self, *, sandbox: str, trusted_mcp_servers: Collection[str]) -> None:
        self._unrestricted = sandbox == "danger-full-access"
        self._trusted = frozenset(trusted_mcp_servers)
        self._handlers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "mcpServer/elicitation/request": self._elicitation,
            "item/commandExecution/requestApproval": self._approval,
            "item/fileChange/requestApproval": self._approval,
            "item/permissions/requestApproval": self._permissions,
            "item/tool/requestUserInput": self._user_input,
            "item/tool/call": self._dynamic_tool,
            "applyPatchApproval": self._legacy_approval,
            "execCommandApproval": self._legacy_approval,
        }

    def __call__(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Answer one request."""
        handler = self._handlers.get(method)
        if handler is None:
            raise MethodNotSupportedError(f"this client does not support {method}")
        return handler(params)

    def _elicitation(self, params: dict[str, Any]) -> dict[str, Any]:
        """Let our own server's tools run. A form with required fields has nobody who could fill it in."""
        schema = params.get("requestedSchema")
        needs_a_person = params.get("mode") != "form" or bool(
            isinstance(schema, dict) and schema.get("required")
        )
        if params.get("serverName") in self._trusted and not needs_a_person:
            return {"action": "accept", "content": {}}
        return {"action": "decline", "content": None}

    def _approval(self, _params: dict[str, Any]) -> dict[str, Any]:
        return {"decision": "accept" if self._unrestricted else "decline"}

    def _permissions(self, params: dict[str, Any]) -> dict[str, Any]:
        asked = params.get("permissions")
        granted = asked if self._unrestricted and isinstance(asked, dict) else {}
        return {"permissions": granted, "scope": "turn"}

    def _user_input(self, params: dict[str, Any]) -> dict[str, Any]:
        questions = params.get("questions")
        ids = [q["id"] for q in questions if isinstance(q, dict)] if isinstance(questions, list) else []
        return {"answers": {question: {"answers": []} for question in ids}}

    def _dynamic_tool(self, params: dict[str, Any]) -> dict[str, Any]:
        text = f"This client offers no tool named {params.get('tool')}."
        return {"contentItems": [{"type": "inputText", "text": text}], "success": False}

    def _legacy_approval(self, _params: dict[str, Any]) -> dict[str, Any]:
        return {"decision": "approved" if self._unrestricted else "denied"}
