"""Speaking A2A to another workspace, and reading every kind of answer that one may give."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from molecule_runtime import platform_auth
from molecule_runtime.network import NetworkError, client_options
from molecule_runtime.platform import PlatformError
from molecule_runtime.platform_budget import exceeded_periods, refusal

if TYPE_CHECKING:
    from molecule_runtime.platform import PlatformClient

__all__ = ["Answer", "PeerError", "Queued", "read_answer", "send_to_peer"]

_TIMEOUT = httpx.Timeout(300.0, connect=30.0)


class PeerError(Exception):
    """A peer could not be reached, or answered with an error. The text names the class or the code."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the peer said."""

    text: str


@dataclass(frozen=True, slots=True)
class Queued:
    """The peer is busy or polls; the task was taken, not done. No failure."""


async def send_to_peer(client: PlatformClient, workspace_id: str, url: str, text: str) -> Answer | Queued:
    """Send one text message in the 0.3 dialect, which every deployed peer speaks. Raises PeerError.

    Our bearer goes to the platform's own URLs only: a peer that sees it could act as this workspace. A peer
    at `url` that asks for a bearer of its own (401) has done nothing: the platform has its bearer, so the
    same message goes through the platform's proxy.
    """
    own_platform = url == client.base_url or url.startswith(f"{client.base_url}/")
    headers = {"X-Workspace-ID": client.workspace_id} | (platform_auth.auth_headers() if own_platform else {})
    message = {
        "kind": "message",
        "messageId": str(uuid.uuid4()),
        "role": "user",
        "parts": [{"kind": "text", "text": text}],
    }
    request = {
        "jsonrpc": "2.0",
        "id": message["messageId"],
        "method": "message/send",
        "params": {"message": message},
    }
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT, **client_options(url)) as http:
            response = await http.post(url, json=request, headers=headers)
    except (httpx.TransportError, httpx.InvalidURL, NetworkError) as error:
        raise PeerError(f"{type(error).__name__} at {url}: {error}") from error
    if response.status_code == 401 and not own_platform:
        try:
            return read_answer(200, await client.send_a2a(workspace_id, request))
        except PlatformError as error:
            return read_answer(error.status or 502, error.body or {"error": str(error)})
    try:
        body = response.json()
    except ValueError:
        body = None
    return read_answer(response.status_code, body)


def read_answer(status: int, body: Any) -> Answer | Queued:
    """Classify a reply: a result, an error, or a note that it was queued. Raises PeerError."""
    periods = exceeded_periods(status, body)
    if periods is not None:
        raise PeerError(refusal(periods))
    if not isinstance(body, dict):
        raise PeerError(f"HTTP {status} without a JSON object")
    if body.get("queued") is True or body.get("status") == "queued" or body.get("busy") is True:
        return Queued()
    error = body.get("error")
    if isinstance(error, dict):
        detail = f": {error['data']}" if isinstance(error.get("data"), str) else ""
        raise PeerError(f"JSON-RPC error {error.get('code')}: {error.get('message')}{detail}")
    if error is not None or status >= 400:
        raise PeerError(f"HTTP {status}: {error}")
    return Answer(_result_text(body.get("result")))


def _result_text(result: Any) -> str:
    if not isinstance(result, dict):
        raise PeerError("the answer has neither a result nor an error")
    result = result.get("task") or result.get("message") or result
    status = result.get("status") or {}
    said = _texts((status.get("message") or {}).get("parts"))
    state = str(status.get("state", "completed")).removeprefix("TASK_STATE_").lower()
    if state not in ("completed", "input-required", "input_required"):
        raise PeerError(f"the task is {state}: {said or 'no reason given'}")
    artifacts = [_texts(artifact.get("parts")) for artifact in result.get("artifacts") or []]
    return "\n\n".join(filter(None, artifacts)) or said or _texts(result.get("parts"))


def _texts(parts: Any) -> str:
    return "".join(part["text"] for part in parts or [] if isinstance(part.get("text"), str))
