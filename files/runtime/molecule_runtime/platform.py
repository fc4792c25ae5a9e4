"""The platform's HTTP API, as the workspace uses it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING, Any

import httpx
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_chain, wait_fixed

from molecule_runtime import logs, platform_auth
from molecule_runtime.network import client_options, header_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tenacity import RetryCallState

__all__ = ["REGISTER_WAITS", "PlatformClient", "PlatformError", "UnauthorizedError", "UnreachableError"]

_log = logs.get_logger(__name__)

REGISTER_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0)
"""Seconds between the eight attempts to register: an outage must not leave it undialable (B-41)."""

_RECOVERY_PAUSE = 5.0
_GET_WAITS = (0.5, 1.0)
_REMEDIES = {
    400: " (it refuses the address or the card: see MOLECULE_WORKSPACE_URL)",
    401: " (another token is live: let the platform issue a new one)",
    404: " (nothing of a platform is there: see PLATFORM_URL)",
}
_SUMMARY_LIMIT = 256
_DETAIL_LIMIT = 4096

Json = dict[str, Any]


class PlatformError(Exception):
    """The platform refused a call: its HTTP `status` and what it said in `detail`."""

    def __init__(self, status: int | None, detail: str, body: Any = None) -> None:
        super().__init__(f"HTTP {status}: {detail}" if status else detail)
        self.status = status
        self.detail = detail
        self.body = body

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later: 5xx (a proxy's 520 to 530 too), or no answer at all."""
        return self.status is None or self.status >= 500


class UnauthorizedError(PlatformError):
    """401 that fresh credentials did not cure."""


class UnreachableError(PlatformError):
    """No answer: connection refused, dropped, timed out. `detail` names the kind."""


class PlatformClient:
    """One workspace's view of the platform. Safe to use from many tasks at once.

    Raises NetworkError for an address, a proxy, an authority or an organisation that cannot be used.

    Every call carries the bearer (once there is one) and `X-Molecule-Org-Id` (where known). A 401 on any
    call is followed by a look for a newer token on disk, then by a registration, then by one repetition of
    the call: the platform revokes tokens when it restarts a workspace. `registration` gives the body for
    that; without it (in the MCP child) only the disk is looked at.
    """

    def __init__(
        self,
        base_url: str,
        workspace_id: str,
        org_id: str = "",
        *,
        registration: Callable[[], Json] | None = None,
        timeout: float = 30.0,
        register_waits: Sequence[float] = REGISTER_WAITS,
    ) -> None:
        self.base_url = base_url
        self.workspace_id = workspace_id
        self.registration = registration
        self.registered = False
        self._org_id = header_value(org_id, "MOLECULE_ORG_ID")
        self._timeout = timeout
        self._register_waits = register_waits
        self._recovering = asyncio.Lock()
        self._recovery_failed_at = float("-inf")
        self._http = self._new_http()
        self._retired: httpx.AsyncClient | None = None

    def _new_http(self) -> httpx.AsyncClient:
        headers = {"X-Molecule-Org-Id": self._org_id} if self._org_id else {}
        return httpx.AsyncClient(
            base_url=self.base_url, headers=headers, timeout=self._timeout, **client_options(self.base_url)
        )

    async def reset(self) -> None:
        """Replace the HTTP client and its connections, after many failures in a row.

        The old client is closed at the next replacement only: calls may still be under way on it.
        """
        older, self._retired, self._http = self._retired, self._http, self._new_http()
        if older is not None:
            await older.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        if self._retired is not None:
            await self._retired.aclose()

    async def register(self) -> bool:
        """Register, up to eight attempts; keep the secrets that come back. False if it did not work: go on
        anyway.

        Retries after transport errors and 5xx; stops at once at 4xx, which another attempt would not change.
        """
        waits = wait_chain(*(wait_fixed(seconds) for seconds in self._register_waits))
        try:
            async for attempt in AsyncRetrying(
                stop=stop_after_attempt(len(self._register_waits) + 1),
                wait=waits,
                retry=retry_if_exception(lambda error: isinstance(error, PlatformError) and error.retryable),
                before_sleep=_tell_first_failure,
                reraise=True,
            ):
                with attempt:
                    await self._register_once()
        except PlatformError as error:
            _log.warning("not registered with the platform", reason=_why(error))
            return False
        return True

    async def register_again(self) -> None:
        """One attempt to register where the platform does not know this workspace, or never heard of it.

        Raises PlatformError.
        """
        if self.registration is None or self.registered:
            return
        await self._register_once()
        _log.info("registered with the platform")

    async def _register_once(self) -> None:
        tried = platform_auth.get_token()
        try:
            await self._post_registration(platform_auth.auth_headers())
        except UnauthorizedError:
            newer = platform_auth.refresh_cache()
            await self._post_registration(platform_auth.auth_headers() if newer != tried else {})

    async def _post_registration(self, headers: dict[str, str]) -> None:
        body = self.registration() if self.registration else {}
        answer = _object(await self._send("POST", "/registry/register", headers, json=body))
        _keep(platform_auth.save_token, answer.get("auth_token"), "workspace token")
        _keep(platform_auth.save_inbound_secret, answer.get("platform_inbound_secret"), "platform's secret")
        self.registered = True

    async def _recover(self, refused: str | None) -> bool:
        """Find a token other than the `refused` one; True if a call is worth repeating."""
        async with self._recovering:
            current = platform_auth.refresh_cache()
            if current and current != refused:
                return True
            if self.registration is None or time.monotonic() - self._recovery_failed_at < _RECOVERY_PAUSE:
                return False
            for headers in ({}, platform_auth.auth_headers()):
                try:
                    await self._post_registration(headers)
                except UnauthorizedError:
                    continue
                except PlatformError as error:
                    _log.warning("cannot renew the workspace token", status=error.status)
                    break
                _log.info("workspace token renewed")
                return True
            self._recovery_failed_at = time.monotonic()
            return False

    async def call(self, method: str, path: str, *, as_peer: bool = False, **options: Any) -> httpx.Response:
        """One call with the recovery described above. `options` go to httpx; `as_peer` adds `X-Workspace-ID`.

        Raises UnauthorizedError, UnreachableError, or PlatformError for any other status from 400 on.
        """
        token = platform_auth.get_token()
        try:
            return await self._send(method, path, self._headers(as_peer=as_peer), **options)
        except UnauthorizedError:
            if not await self._recover(token):
                raise
        return await self._send(method, path, self._headers(as_peer=as_peer), **options)

    async def get(self, path: str, *, as_peer: bool = False, **options: Any) -> httpx.Response:
        """A GET, tried three times in all while the platform does not answer or answers 5xx."""
        waits = wait_chain(*(wait_fixed(seconds) for seconds in _GET_WAITS))
        async for attempt in AsyncRetrying(
            stop=stop_after_attempt(len(_GET_WAITS) + 1),
            wait=waits,
            retry=retry_if_exception(lambda error: isinstance(error, PlatformError) and error.retryable),
            reraise=True,
        ):
            with attempt:
                return await self.call("GET", path, as_peer=as_peer, **options)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _headers(self, *, as_peer: bool) -> dict[str, str]:
        return (
            platform_auth.self_source_headers(self.workspace_id) if as_peer else platform_auth.auth_headers()
        )

    async def _send(self, method: str, path: str, headers: dict[str, str], **options: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, path, headers=headers, **options)
        except httpx.TransportError as error:
            raise UnreachableError(None, f"{type(error).__name__} at {self.base_url}: {error}") from error
        if response.status_code < 400:
            return response
        body = _json_or_none(response)
        detail = body.get("error") if isinstance(body, dict) else None
        kind = UnauthorizedError if response.status_code == 401 else PlatformError
        raise kind(response.status_code, str(detail or response.reason_phrase), body)

    async def heartbeat(self, body: Json) -> None:
        """Send one beat and keep the inbound secret that may come back (B-44).

        Raises PlatformError. A 404 says that the platform has forgotten this workspace: it is to register.
        """
        platform_auth.save_unsaved()
        try:
            answer = _object(await self.call("POST", "/registry/heartbeat", json=body))
        except PlatformError as error:
            if error.status == 404:
                self.registered = False
            raise
        _keep(platform_auth.save_inbound_secret, answer.get("platform_inbound_secret"), "platform's secret")

    async def update_card(self, card: Json) -> None:
        """Replace the registered card."""
        body = {"workspace_id": self.workspace_id, "agent_card": card}
        await self.call("POST", "/registry/update-card", json=body)

    async def discover(self, workspace_id: str) -> Json:
        """`{"id","url","name"?}` of a peer. Not to be kept over turns: URLs change."""
        return _object(await self.get(f"/registry/discover/{workspace_id}", as_peer=True))

    async def peers(self) -> list[Json]:
        """Siblings, children and the parent, never this workspace."""
        return _objects(await self.get(f"/registry/{self.workspace_id}/peers", as_peer=True))

    async def workspace(self) -> Json:
        """The public row of this workspace."""
        return _object(await self.get(f"/workspaces/{self.workspace_id}"))

    async def delegate(self, target_id: str, task: str) -> Json:
        """Hand `task` to a peer durably; `{"delegation_id","status",...}`. The same task twice is one."""
        key = hashlib.sha256(f"{target_id}:{task}".encode()).hexdigest()[:32]
        body = {"target_id": target_id, "task": task, "idempotency_key": key}
        return _object(
            await self.call("POST", f"/workspaces/{self.workspace_id}/delegate", as_peer=True, json=body)
        )

    async def delegations(self) -> list[Json]:
        """At most 50 rows, newest first."""
        return _objects(await self.get(f"/workspaces/{self.workspace_id}/delegations"))

    async def remember(self, content: str, scope: str) -> Json:
        """Store a memory; `{"id","scope","namespace"}`."""
        body = {"content": content, "scope": scope}
        return _object(await self.call("POST", f"/workspaces/{self.workspace_id}/memories", json=body))

    async def recall(self, query: str, scope: str) -> list[Json]:
        """Memories that match, `{"id","content","scope","created_at"}` each."""
        params = {key: value for key, value in (("q", query), ("scope", scope)) if value}
        return _objects(await self.get(f"/workspaces/{self.workspace_id}/memories", params=params))

    async def upload(self, files: Sequence[tuple[Path, str]]) -> list[Json]:
        """Send `(path, mime type)` files to the user's chat; `{"uri","name","mimeType","size"}` each, same
        order.

        Raises PlatformError as well if another number comes back than was sent.
        """
        parts = [("files", (path.name, path.read_bytes(), mime)) for path, mime in files]
        path = f"/workspaces/{self.workspace_id}/chat/uploads"
        answer = _object(await self.call("POST", path, files=parts, timeout=120.0))
        stored = answer.get("files")
        if not isinstance(stored, list) or len(stored) != len(files):
            raise PlatformError(None, f"sent {len(files)} files, the platform stored {len(stored or [])}")
        return [item for item in stored if isinstance(item, dict)]

    async def notify(self, message: str, attachments: Sequence[Json] = ()) -> None:
        """Say something to the user."""
        body = {"message": message, "attachments": list(attachments)}
        await self.call("POST", f"/workspaces/{self.workspace_id}/notify", json=body)

    async def raise_request(self, kind: str, title: str, detail: str, priority: int | None = None) -> Json:
        """Put a `task` or an `approval` before a person; `{"request_id","status"}`.

        The decision arrives later, as a message of its own.
        """
        body: Json = {
            "kind": kind,
            "recipient_type": "user",
            "recipient_id": "",
            "title": title,
            "detail": detail,
            **({} if priority is None else {"priority": priority}),
        }
        path = f"/workspaces/{self.workspace_id}/requests"
        return _object(await self.call("POST", path, json=body, timeout=20.0))

    async def history(self, peer_id: str, limit: int, before: str = "") -> list[Json]:
        """The activity rows between this workspace and a peer, newest first; `before` is an RFC 3339 time."""
        params: dict[str, str | int] = {"peer_id": peer_id, "limit": limit}
        if before:
            params["before_ts"] = before
        return _objects(await self.get(f"/workspaces/{self.workspace_id}/activity", params=params))

    async def instructions(self) -> str:
        """What the platform wants every agent of the organisation, and this one, to follow (Markdown)."""
        path = f"/workspaces/{self.workspace_id}/instructions/resolve"
        found = _object(await self.call("GET", path)).get("instructions")
        return found if isinstance(found, str) else ""

    async def broadcast(self, message: str) -> Json:
        """Say something to all workspaces of the organisation; `{"status","delivered"}`."""
        path = f"/workspaces/{self.workspace_id}/broadcast"
        return _object(await self.call("POST", path, json={"message": message}))

    async def activity(self, activity_type: str, method: str, summary: str, **fields: Any) -> bool:
        """Log an activity row; whether it was taken. Best effort: it never fails what it tells about."""
        body = {
            "activity_type": activity_type,
            "method": method,
            "summary": summary[:_SUMMARY_LIMIT],
            "source_id": self.workspace_id,
            "status": "ok",
            **fields,
        }
        if isinstance(body.get("error_detail"), str):
            body["error_detail"] = body["error_detail"][:_DETAIL_LIMIT]
        try:
            await self.call("POST", f"/workspaces/{self.workspace_id}/activity", json=body, timeout=5.0)
        except PlatformError as error:
            _log.debug("activity not logged", method=method, status=error.status)
            return False
        return True

    async def send_a2a(self, workspace_id: str, payload: Json, read_seconds: float = 600.0) -> Any:
        """Send an A2A request through the platform's proxy; its JSON answer, which may be a "queued" note."""
        path = f"/workspaces/{workspace_id}/a2a"
        return _json_or_none(await self.call("POST", path, as_peer=True, json=payload, timeout=read_seconds))

    async def secrets(self) -> dict[str, str]:
        """All secrets of this workspace. Raises PlatformError rather than give part of them."""
        values = _object(await self.get(f"/workspaces/{self.workspace_id}/secrets/values"))
        return {key: value for key, value in values.items() if isinstance(value, str)}


def _tell_first_failure(state: RetryCallState) -> None:
    """All attempts take a minute and a half: who reads the log learns of the first failure at once."""
    error = state.outcome.exception() if state.outcome is not None else None
    if state.attempt_number == 1 and isinstance(error, PlatformError):
        _log.warning("not registered with the platform yet, trying again", reason=_why(error))


def _why(error: PlatformError) -> str:
    """The reason in words of our own: what a platform answers to a registration may hold more than that."""
    if error.status is None:
        return error.detail
    return f"HTTP {error.status}{_REMEDIES.get(error.status, '')}"


def _keep(save: Callable[[str], None], secret: Any, what: str) -> None:
    """Save a secret that came back, if any. On a full disk this process has it until there is room."""
    if not isinstance(secret, str) or not secret:
        return
    try:
        save(secret)
    except (OSError, ValueError) as error:
        _log.error(f"the {what} cannot be saved yet; the next heartbeat tries again", reason=str(error))


def _json_or_none(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _object(response: httpx.Response) -> Json:
    body = _json_or_none(response)
    if not isinstance(body, dict):
        raise PlatformError(response.status_code, "the platform did not answer with a JSON object")
    return body


def _objects(response: httpx.Response) -> list[Json]:
    body = _json_or_none(response)
    if not isinstance(body, list):
        raise PlatformError(response.status_code, "the platform did not answer with a JSON list")
    return [item for item in body if isinstance(item, dict)]
