"""A strict stand-in for the Molecule platform: a real HTTP server on loopback, its state in memory.

It answers as the platform does and keeps a list of what no workspace should have done (a call without its
bearer once a token is issued, A2A without `X-Workspace-ID`, counters that make no sense); `check` raises
it. Tokens are kept as hashes only. Switches are methods for tests in the same process, and `POST
/_fake/switch` for others:

    python -m support.fake_platform --port 8080 --workspace my-agent --token-file /configs/.auth_token
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import secrets
import sys
import time
import uuid
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from molecule_runtime.listener import open_listener

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

__all__ = ["Call", "FakePlatform", "Peer"]

Json = dict[str, Any]

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
_ACTIVITY_TYPES = {
    "a2a_send",
    "a2a_receive",
    "task_update",
    "agent_log",
    "skill_promotion",
    "memory_write",
    "error",
}
_BEAT_FIELDS: dict[str, type | tuple[type, ...]] = {
    "workspace_id": str,
    "error_rate": (int, float),
    "sample_error": str,
    "active_tasks": int,
    "current_task": str,
    "uptime_seconds": (int, float),
}
_MAX_PROXY_BODY = 16 << 20
_MAX_UPLOAD = 100 << 20
_SCOPES = {"LOCAL", "TEAM", "GLOBAL"}


class RefusedError(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, body: str | Json, headers: dict[str, str] | None = None) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = {"error": body} if isinstance(body, str) else body
        self.headers = headers


@dataclass
class Peer:
    """One row of the platform's table of workspaces."""

    id: str
    name: str = ""
    role: str | None = None
    tier: int = 2
    status: str = "online"
    url: str = ""
    parent_id: str | None = None
    runtime: str = "codex"
    active_tasks: int = 0
    agent_card: Json | None = None
    token_hash: str = ""
    token_was_issued: bool = False
    inbound_secret: str = ""
    delivery_mode: str = "push"
    monthly_spend: int = 0
    spent_cents: int = 0
    exceeded_periods: tuple[str, ...] = ()

    def row(self) -> Json:
        """What other workspaces may see."""
        names = ("id", "name", "role", "tier", "status", "url", "parent_id", "active_tasks", "agent_card")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Call:
    """One request as it came, without its secrets."""

    route: str
    workspace_id: str
    status: int
    at: float
    authorized: bool
    source: str
    org: str
    body: Any


@dataclass
class _Switches:
    rejections: dict[str, deque[int]] = field(default_factory=lambda: defaultdict(deque))
    drops: Counter[str] = field(default_factory=Counter)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    org_id: str = ""
    refuse_loopback: bool = True
    a2a_reply: str = "forward"
    deliver: bool = True
    may_broadcast: bool = True
    talk_to_user: bool = True
    memory_available: bool = True
    lose_uploads: int = 0
    idle_seconds: float = 1800.0


class FakePlatform:
    """The platform, seen from one workspace. Use as an asynchronous context manager, or `run` it."""

    def __init__(
        self, workspace_id: str = "ws-self", *, parent_id: str | None = "ws-parent", name: str = "Self"
    ) -> None:
        self.workspaces: dict[str, Peer] = {workspace_id: Peer(workspace_id, name=name, parent_id=parent_id)}
        self.self_id = workspace_id
        self.calls: list[Call] = []
        self.heartbeats: list[Json] = []
        self.notifications: list[Json] = []
        self.activities: list[Json] = []
        self.memories: list[Json] = []
        self.delegations: list[Json] = []
        self.uploads: list[Json] = []
        self.registrations: list[Json] = []
        self.requests: list[Json] = []
        self.tokens_used: list[tuple[str, int, int]] = []
        self.broadcasts: list[str] = []
        self.instructions = ""
        self.github_tokens: list[str] = []
        self.secret_values: dict[str, str] = {}
        self.pending_uploads: dict[str, tuple[str, bytes]] = {}
        self.acknowledged: list[str] = []
        self.failures: list[str] = []
        self.switches = _Switches()
        self.url = ""
        self.changed = asyncio.Condition()
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._deliveries: set[asyncio.Task[None]] = set()

    # -- life ----------------------------------------------------------------------------------------------

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; `url` is set afterwards."""
        listener = open_listener(host, port)
        self.url = f"http://{host}:{listener.getsockname()[1]}"
        config = uvicorn.Config(self.app(), lifespan="off", log_config=None, access_log=False)
        config.timeout_graceful_shutdown = 1
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server._serve([listener]))

    async def stop(self) -> None:
        """Stop listening and forget running deliveries."""
        for gate in self.switches.gates.values():
            gate.set()
        for delivery in list(self._deliveries):
            delivery.cancel()
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    def check(self) -> None:
        """Raise AssertionError with everything that no workspace should have done."""
        assert not self.failures, "\n".join(self.failures)

    async def wait_for(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait until `condition()` holds after some call; fails after `seconds`."""
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(condition)

    def calls_to(self, route: str) -> list[Call]:
        """The calls to one route, oldest first."""
        return [call for call in self.calls if call.route == route]

    # -- switches ------------------------------------------------------------------------------------------

    def reject_next(self, route: str, status: int, times: int = 1) -> None:
        """Answer the next `times` calls to `route` with `status`, before anything else is looked at."""
        self.switches.rejections[route].extend([status] * times)

    def drop_next(self, route: str, times: int = 1) -> None:
        """Close the connection of the next `times` calls to `route` without an answer."""
        self.switches.drops[route] += times

    def hold(self, route: str) -> asyncio.Event:
        """Let calls to `route` wait until the returned event is set."""
        return self.switches.gates.setdefault(route, asyncio.Event())

    def add_peer(self, peer: Peer) -> Peer:
        """Add a workspace; a sibling of ours unless its `parent_id` says otherwise."""
        self.workspaces[peer.id] = peer
        return peer

    def issue_token(self, workspace_id: str | None = None) -> str:
        """Give a workspace a new token; the one before is revoked."""
        peer = self.workspaces[workspace_id or self.self_id]
        token = secrets.token_urlsafe(32)
        peer.token_hash = _hash(token)
        peer.token_was_issued = True
        return token

    def rotate_token(self, file: Path | None = None) -> None:
        """Revoke the live token; with `file` issue a new one into it (Docker), without issue none (SaaS)."""
        if file is None:
            self.workspaces[self.self_id].token_hash = ""
            return
        temporary = file.with_name(f"{file.name}.new")
        temporary.write_text(self.issue_token(), "ascii")
        temporary.chmod(0o600)
        temporary.replace(file)

    def finish_delegation(self, delegation_id: str, status: str = "completed", **fields: Any) -> None:
        """End a delegation as if its peer had."""
        row = next(row for row in self.delegations if row["delegation_id"] == delegation_id)
        row.update(status=status, **fields)

    # -- routing -------------------------------------------------------------------------------------------

    def app(self) -> Starlette:
        """The ASGI application."""
        table: list[tuple[str, str, str, Callable[[Request, Peer], Awaitable[Response]]]] = [
            ("POST", "/registry/register", "register", self._register),
            ("POST", "/registry/heartbeat", "heartbeat", self._heartbeat),
            ("POST", "/registry/update-card", "update-card", self._update_card),
            ("GET", "/registry/discover/{target}", "discover", self._discover),
            ("GET", "/registry/{id}/peers", "peers", self._peers),
            ("GET", "/workspaces/{id}", "workspace", self._workspace),
            ("POST", "/workspaces/{id}/delegate", "delegate", self._delegate),
            ("GET", "/workspaces/{id}/delegations", "delegations", self._delegations),
            ("POST", "/workspaces/{id}/memories", "remember", self._remember),
            ("GET", "/workspaces/{id}/memories", "recall", self._recall),
            ("POST", "/workspaces/{id}/notify", "notify", self._notify),
            ("POST", "/workspaces/{id}/chat/uploads", "uploads", self._upload),
            ("GET", "/workspaces/{id}/chat/download", "download", self._download),
            ("GET", "/workspaces/{id}/pending-uploads/{file}/content", "pending", self._pending),
            ("POST", "/workspaces/{id}/pending-uploads/{file}/ack", "ack", self._acknowledge),
            ("POST", "/workspaces/{id}/activity", "activity", self._activity),
            ("GET", "/workspaces/{id}/activity", "history", self._history),
            ("POST", "/workspaces/{id}/requests", "requests", self._raise_request),
            ("POST", "/workspaces/{id}/broadcast", "broadcast", self._broadcast),
            ("GET", "/workspaces/{id}/instructions/resolve", "instructions", self._instructions),
            ("GET", "/workspaces/{id}/github-installation-token", "github", self._github_token),
            ("POST", "/workspaces/{id}/a2a", "a2a", self._a2a),
            ("GET", "/workspaces/{id}/transcript", "transcript", self._transcript),
            ("GET", "/workspaces/{id}/secrets/values", "secrets", self._secrets),
        ]
        routes = [
            Route(path, self._guard(name, handler), methods=[method]) for method, path, name, handler in table
        ]
        routes.append(Route("/_fake/state", self._state, methods=["GET"]))
        routes.append(Route("/_fake/switch", self._switch, methods=["POST"]))
        return Starlette(routes=routes)

    def _guard(
        self, route: str, handler: Callable[[Request, Peer], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            if (gate := self.switches.gates.get(route)) is not None:
                await gate.wait()
            raw = await request.body()
            body = _json(raw)
            workspace_id = self._caller(request, route, body)
            if self.switches.drops[route] > 0:
                self.switches.drops[route] -= 1
                await self._record(request, route, workspace_id, 0, body)
                return _Dropped()
            try:
                response = await self._answer(request, route, workspace_id, handler)
            except RefusedError as refused:
                response = JSONResponse(refused.body, status_code=refused.status, headers=refused.headers)
            await self._record(request, route, workspace_id, response.status_code, body)
            return response

        return endpoint

    async def _answer(
        self,
        request: Request,
        route: str,
        workspace_id: str,
        handler: Callable[[Request, Peer], Awaitable[Response]],
    ) -> Response:
        if self.switches.rejections[route]:
            status = self.switches.rejections[route].popleft()
            raise RefusedError(
                status, "invalid workspace auth token" if status == 401 else f"rejected with {status}"
            )
        if self.switches.org_id and request.headers.get("x-molecule-org-id") != self.switches.org_id:
            self.failures.append(f"{route}: X-Molecule-Org-Id is missing or wrong")
            raise RefusedError(400, "missing tenant routing header")
        peer = self.workspaces.get(workspace_id)
        if peer is None and route == "register" and _ID.fullmatch(workspace_id):
            peer = self.add_peer(Peer(workspace_id))
        if peer is None:
            raise RefusedError(404, "workspace not found")
        if route not in ("register", "workspace"):
            self._require_token(request, route, peer)
        return await handler(request, peer)

    @staticmethod
    def _caller(request: Request, route: str, body: Any) -> str:
        """Who calls: the path, the body or, where the path names the target, `X-Workspace-ID` says so."""
        if route in ("a2a", "discover"):
            return request.headers.get("x-workspace-id", "")
        if "id" in request.path_params:
            return str(request.path_params["id"])
        key = "id" if route == "register" else "workspace_id"
        return str(body.get(key, "")) if isinstance(body, dict) else ""

    async def _record(self, request: Request, route: str, workspace_id: str, status: int, body: Any) -> None:
        peer = self.workspaces.get(workspace_id)
        call = Call(
            route=route,
            workspace_id=workspace_id,
            status=status,
            at=time.monotonic(),
            authorized=peer is not None and _bearer_is(request, peer.token_hash),
            source=request.headers.get("x-workspace-id", ""),
            org=request.headers.get("x-molecule-org-id", ""),
            body=body,
        )
        async with self.changed:
            self.calls.append(call)
            self.changed.notify_all()

    def _require_token(self, request: Request, route: str, peer: Peer) -> None:
        header = request.headers.get("authorization", "")
        if route in ("a2a", "discover") and request.headers.get("x-workspace-id", "") not in self.workspaces:
            self.failures.append(f"{route}: X-Workspace-ID is missing or unknown")
            raise RefusedError(400, "X-Workspace-ID is required")
        if _bearer_is(request, peer.token_hash):
            return
        if peer.token_was_issued and not header:
            self.failures.append(f"{route}: no bearer although a token was issued")
        if header and not re.fullmatch(r"Bearer \S+", header):
            self.failures.append(f"{route}: malformed Authorization header")
        raise RefusedError(401, f"{'invalid' if header else 'missing'} workspace auth token")

    # -- registry ------------------------------------------------------------------------------------------

    async def _register(self, request: Request, peer: Peer) -> Response:
        body = await _object(request)
        mode = body.get("delivery_mode", "push")
        if mode not in ("push", "poll"):
            raise RefusedError(400, "bad delivery_mode")
        if "delivery_mode" not in body:
            self.failures.append("register: delivery_mode is not sent")
        url = body.get("url", "")
        if mode == "push" and not url:
            raise RefusedError(400, "url is required")
        if (
            mode == "push"
            and self.switches.refuse_loopback
            and urlsplit(url).hostname in ("127.0.0.1", "::1")
        ):
            raise RefusedError(400, "url refused: loopback address")
        card = body.get("agent_card")
        if not isinstance(card, dict) or not card.get("name") or card.get("url") != url:
            self.failures.append("register: agent_card has no name, or another url than the body")
            raise RefusedError(400, "bad agent_card")
        answer: Json = {"status": "registered", "delivery_mode": mode}
        if peer.token_hash:
            if not _bearer_is(request, peer.token_hash):
                raise RefusedError(401, "invalid workspace auth token")
        else:
            answer["auth_token"] = self.issue_token(peer.id)
        peer.inbound_secret = peer.inbound_secret or secrets.token_urlsafe(32)
        peer.url, peer.agent_card, peer.delivery_mode, peer.status = url, card, mode, "online"
        self.registrations.append(body)
        return JSONResponse({**answer, "platform_inbound_secret": peer.inbound_secret})

    async def _heartbeat(self, request: Request, peer: Peer) -> Response:
        body = await _object(request)
        for name, kind in _BEAT_FIELDS.items():
            if not isinstance(body.get(name), kind) or isinstance(body.get(name), bool):
                self.failures.append(f"heartbeat: {name} is {body.get(name)!r}")
        active = body.get("active_tasks", 0)
        if active < 0 or body.get("is_busy", active > 0) != (active > 0) or not 0 <= body["error_rate"] <= 1:
            self.failures.append(f"heartbeat: counters make no sense: {body}")
        self._count_spend(body, peer)
        peer.active_tasks = active
        if body.get("runtime_state") == "wedged" or body["error_rate"] >= 0.5:
            peer.status = "degraded"
        elif body["error_rate"] < 0.1 and not body.get("runtime_state"):
            peer.status = "online"
        self.heartbeats.append(body)
        answer = {"status": "ok", "generation": 1, "platform_inbound_secret": peer.inbound_secret}
        return JSONResponse(answer)

    def _count_spend(self, body: Json, peer: Peer) -> None:
        """`monthly_spend` is whole cents of the month so far; a lower one than before begins a new month."""
        spend = body.get("monthly_spend")
        if spend is None:
            return
        if not isinstance(spend, int) or isinstance(spend, bool) or spend < 0:
            self.failures.append(f"heartbeat: monthly_spend is {spend!r}")
            return
        if spend > 0:
            new_month = spend < peer.monthly_spend
            peer.spent_cents += spend if new_month else spend - peer.monthly_spend
            peer.monthly_spend = spend

    def _count_tokens(self, target: Peer, answer: Any) -> None:
        """What the proxy reads of an answer: `result.usage`, else `usage`; two whole numbers."""
        places = [answer.get("result"), answer] if isinstance(answer, dict) else []
        for place in places:
            usage = place.get("usage") if isinstance(place, dict) else None
            if usage is None:
                continue
            counts = [usage.get("input_tokens", 0), usage.get("output_tokens", 0)]
            if any(not isinstance(count, int) or isinstance(count, bool) for count in counts):
                self.failures.append(f"usage of an answer: {usage!r}")
            elif any(counts):
                self.tokens_used.append((target.id, *counts))
            return

    async def _update_card(self, request: Request, peer: Peer) -> Response:
        card = (await _object(request)).get("agent_card")
        if not isinstance(card, dict) or urlsplit(str(card.get("url"))).scheme not in ("http", "https"):
            raise RefusedError(400, "unsafe card url")
        peer.agent_card = card
        return JSONResponse({"status": "updated"})

    async def _discover(self, request: Request, peer: Peer) -> Response:
        target = self.workspaces.get(request.path_params["target"])
        if target is None:
            raise RefusedError(404, "workspace not found")
        if target not in self._reachable(peer):
            raise RefusedError(403, "not allowed to talk to this workspace")
        if not target.url:
            raise RefusedError(503, {"error": "workspace has no URL", "status": target.status})
        return JSONResponse({"id": target.id, "url": target.url, "name": target.name})

    async def _peers(self, request: Request, peer: Peer) -> Response:
        wanted = request.query_params.get("q", "").lower()
        return JSONResponse([other.row() for other in self._reachable(peer) if wanted in other.name.lower()])

    def _reachable(self, peer: Peer) -> list[Peer]:
        return [
            other
            for other in self.workspaces.values()
            if other is not peer
            and (
                other.id == peer.parent_id
                or other.parent_id == peer.id
                or (peer.parent_id is not None and other.parent_id == peer.parent_id)
            )
        ]

    # -- one workspace's own resources ---------------------------------------------------------------------

    async def _workspace(self, _: Request, peer: Peer) -> Response:
        return JSONResponse({**peer.row(), "runtime": peer.runtime})

    async def _delegate(self, request: Request, peer: Peer) -> Response:
        body = await _object(request)
        target, task, key = (body.get(name) for name in ("target_id", "task", "idempotency_key"))
        if not isinstance(target, str) or not isinstance(task, str) or not task:
            raise RefusedError(400, "target_id and task are required")
        if target not in self.workspaces:
            raise RefusedError(400, "unknown target")
        if key != hashlib.sha256(f"{target}:{task}".encode()).hexdigest()[:32]:
            self.failures.append("delegate: idempotency_key does not follow the convention")
        for row in self.delegations:
            if row["_key"] == key and row["status"] != "failed":
                hit = {"delegation_id": row["delegation_id"], "status": row["status"], "target_id": target}
                return JSONResponse({**hit, "idempotent_hit": True})
        row = {
            "delegation_id": str(uuid.uuid4()),
            "source_id": peer.id,
            "target_id": target,
            "direction": "sent",
            "summary": task[:200],
            "status": "queued",
            "created_at": _now(),
            "updated_at": _now(),
            "_ledger": True,
            "_key": key,
        }
        self.delegations.insert(0, row)
        delivery = asyncio.create_task(self._deliver(row, task))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)
        answer = {"delegation_id": row["delegation_id"], "status": "delegated", "target_id": target}
        return JSONResponse(answer, status_code=202)

    async def _deliver(self, row: Json, task: str) -> None:
        target = self.workspaces[row["target_id"]]
        if not target.url or not self.switches.deliver:
            return
        row["status"] = "dispatched"
        message = {
            "kind": "message",
            "messageId": row["delegation_id"],
            "role": "user",
            "parts": [{"kind": "text", "text": task}],
            "metadata": {"delegation_id": row["delegation_id"]},
        }
        answer = await self._forward(target, {"method": "message/send", "params": {"message": message}})
        text = _answer_text(answer)
        row.update(
            {"status": "failed", "error": str(answer.get("error"))}
            if text is None
            else {"status": "completed", "response_preview": text[:300]}
        )

    async def _delegations(self, _: Request, __: Peer) -> Response:
        rows = [{key: value for key, value in row.items() if key != "_key"} for row in self.delegations[:50]]
        return JSONResponse(rows)

    async def _remember(self, request: Request, peer: Peer) -> Response:
        self._require_memory()
        body = await _object(request)
        content, scope = body.get("content"), body.get("scope")
        if not isinstance(content, str) or not content or scope not in _SCOPES:
            raise RefusedError(400, "content and scope (LOCAL, TEAM, GLOBAL) are required")
        if scope == "GLOBAL" and peer.parent_id is not None:
            raise RefusedError(403, "GLOBAL memories are for root workspaces")
        memory = {"id": str(uuid.uuid4()), "content": content, "scope": scope, "created_at": _now()}
        self.memories.append(memory)
        answer = {"id": memory["id"], "scope": scope, "namespace": body.get("namespace", "default")}
        return JSONResponse(answer, status_code=201)

    async def _recall(self, request: Request, _: Peer) -> Response:
        self._require_memory()
        query, scope = request.query_params.get("q", "").lower(), request.query_params.get("scope", "")
        if scope and scope not in _SCOPES:
            raise RefusedError(400, "bad scope")
        found = [m for m in self.memories if query in m["content"].lower() and scope in ("", m["scope"])]
        return JSONResponse(found)

    def _require_memory(self) -> None:
        if not self.switches.memory_available:
            raise RefusedError(503, "memory backend missing")

    async def _notify(self, request: Request, _: Peer) -> Response:
        body = await _object(request)
        if not self.switches.talk_to_user:
            raise RefusedError(
                403, {"error": "talk_to_user_disabled", "hint": "Report to your parent instead."}
            )
        if not body.get("message"):
            raise RefusedError(400, "message is required")
        for index, item in enumerate(body.get("attachments", [])):
            if not item.get("uri") or not item.get("name"):
                raise RefusedError(400, f"attachment[{index}]: uri and name are required")
        self.notifications.append(body)
        return JSONResponse({"status": "sent"})

    async def _upload(self, request: Request, peer: Peer) -> Response:
        if peer.url and peer.inbound_secret:
            return await self._pass_on(
                peer,
                "POST",
                "/internal/chat/uploads/ingest",
                content=await request.body(),
                headers={"Content-Type": request.headers.get("content-type", "")},
            )
        form = await request.form(max_files=64)
        described: list[Json] = []
        try:
            for item in form.getlist("files"):
                if not isinstance(item, UploadFile):
                    raise RefusedError(400, "files must be files")
                content = await item.read()
                if len(content) > _MAX_UPLOAD:
                    raise RefusedError(413, "too large")
                name = item.filename or "file"
                uri = f"workspace:/workspace/.molecule/chat-uploads/{uuid.uuid4().hex}-{name}"
                described.append(
                    {"uri": uri, "name": name, "mimeType": item.content_type, "size": len(content)}
                )
        finally:
            await form.close()
        if not described:
            raise RefusedError(400, "no files")
        del described[len(described) - self.switches.lose_uploads :]
        self.uploads += described
        return JSONResponse({"files": described})

    async def _download(self, request: Request, peer: Peer) -> Response:
        params = {"path": request.query_params.get("path", "")}
        return await self._pass_on(peer, "GET", "/internal/file/read", params=params)

    async def _pending(self, request: Request, _: Peer) -> Response:
        found = self.pending_uploads.get(request.path_params["file"])
        if found is None:
            raise RefusedError(404, "no such file")
        return Response(found[1], media_type=found[0])

    async def _acknowledge(self, request: Request, _: Peer) -> Response:
        self.acknowledged.append(request.path_params["file"])
        return JSONResponse({"status": "acknowledged"})

    async def _activity(self, request: Request, peer: Peer) -> Response:
        body = await _object(request)
        if body.get("activity_type") not in _ACTIVITY_TYPES:
            raise RefusedError(400, "unknown activity_type")
        if body.get("source_id") != peer.id:
            self.failures.append("activity: source_id is not the workspace itself")
            raise RefusedError(403, "source_id must be the caller")
        if len(body.get("summary", "")) > 256 or len(body.get("error_detail") or "") > 4096:
            self.failures.append("activity: summary or error_detail is too long")
        self.activities.append({"created_at": _now(), **body})
        return JSONResponse({"status": "logged"})

    async def _history(self, request: Request, peer: Peer) -> Response:
        """The rows that name `peer_id`, newest first, older than `before_ts`."""
        query = request.query_params
        other, before = query.get("peer_id", ""), query.get("before_ts", "")
        if not other:
            raise RefusedError(400, "peer_id is required")
        if not query.get("limit", "20").isdigit() or not 1 <= int(query.get("limit", "20")) <= 500:
            raise RefusedError(400, "limit must be 1 to 500")
        rows = [
            row
            for row in reversed(self.activities)
            if other in (row.get("source_id"), row.get("target_id"))
            and (not before or row["created_at"] < before)
        ]
        return JSONResponse(rows[: int(query.get("limit", "20"))])

    async def _raise_request(self, request: Request, _: Peer) -> Response:
        body = await _object(request)
        if body.get("kind") not in ("task", "approval") or not body.get("title"):
            raise RefusedError(400, "kind (task, approval) and title are required")
        if body.get("recipient_type") != "user" or not isinstance(body.get("priority", 0), int):
            raise RefusedError(400, "bad recipient_type or priority")
        raised = {**body, "request_id": str(uuid.uuid4()), "status": "pending"}
        self.requests.append(raised)
        answer = {"request_id": raised["request_id"], "status": "pending"}
        return JSONResponse(answer, status_code=201)

    async def answer_request(self, request_id: str, action: str, words: str = "") -> Json:
        """Decide a request as a person would (done, rejected, approved); the workspace hears of it."""
        raised = next(each for each in self.requests if each["request_id"] == request_id)
        raised["status"] = action
        text = (
            f"Your {raised['kind']} request {raised['title']!r} ({request_id}) was {action}. {words}".strip()
        )
        message = {
            "kind": "message",
            "messageId": f"request-{request_id}",
            "role": "user",
            "parts": [{"kind": "text", "text": text}],
        }
        me = self.workspaces[self.self_id]
        return await self._forward(me, {"method": "message/send", "params": {"message": message}})

    async def _broadcast(self, request: Request, _: Peer) -> Response:
        if not self.switches.may_broadcast:
            raise RefusedError(403, "broadcast_disabled")
        message = (await _object(request)).get("message")
        if not isinstance(message, str) or not message:
            raise RefusedError(400, "message is required")
        self.broadcasts.append(message)
        return JSONResponse({"status": "sent", "delivered": len(self.workspaces) - 1})

    async def _instructions(self, _: Request, peer: Peer) -> Response:
        return JSONResponse({"workspace_id": peer.id, "instructions": self.instructions})

    async def _github_token(self, _: Request, __: Peer) -> Response:
        """A token that is another one at each call, since it is renewed every hour."""
        if not self.github_tokens:
            raise RefusedError(404, "no installation for this workspace")
        token = self.github_tokens.pop(0) if len(self.github_tokens) > 1 else self.github_tokens[0]
        return JSONResponse({"token": token, "expires_at": "2099-01-01T00:00:00Z"})

    async def _secrets(self, _: Request, __: Peer) -> Response:
        return JSONResponse(self.secret_values)

    # -- towards workspaces --------------------------------------------------------------------------------

    async def _a2a(self, request: Request, _: Peer) -> Response:
        raw = await request.body()
        if len(raw) > _MAX_PROXY_BODY:
            raise RefusedError(413, "body too large")
        target = self.workspaces.get(request.path_params["id"])
        if target is None:
            raise RefusedError(404, "workspace not found")
        if target.exceeded_periods:
            periods = {"exceeded_periods": list(target.exceeded_periods)}
            raise RefusedError(402, {"error": "workspace budget limit exceeded", **periods})
        if self.switches.a2a_reply == "busy":
            body = {"error": "workspace is busy", "busy": True, "retry_after": 30}
            raise RefusedError(503, body, {"Retry-After": "30"})
        if self.switches.a2a_reply == "queued":
            queued = {"queued": True, "queue_id": "q-1", "queue_depth": 1, "message": "queued"}
            return JSONResponse(queued, status_code=202)
        if self.switches.a2a_reply == "poll":
            return JSONResponse({"status": "queued", "delivery_mode": "poll", "method": "message/send"})
        if not target.url:
            raise RefusedError(502, "workspace unreachable")
        return JSONResponse(await self._forward(target, _normalised(_json(raw))))

    async def _forward(self, target: Peer, payload: Json) -> Json:
        headers = {"Authorization": f"Bearer {target.inbound_secret}"} if target.inbound_secret else {}
        body = {"jsonrpc": "2.0", "id": str(uuid.uuid4()), **payload}
        try:
            async with httpx.AsyncClient(timeout=self.switches.idle_seconds) as client:
                answer: Json = (await client.post(target.url, json=body, headers=headers)).json()
        except httpx.TransportError as error:
            return {"error": f"workspace unreachable: {type(error).__name__}"}
        self._count_tokens(target, answer)
        return answer

    async def _transcript(self, request: Request, peer: Peer) -> Response:
        headers = {"Authorization": request.headers.get("authorization", "")}
        return await self._pass_on(
            peer, "GET", "/transcript", params=dict(request.query_params), headers=headers
        )

    async def _pass_on(self, peer: Peer, method: str, path: str, **options: Any) -> Response:
        if not peer.url or not peer.inbound_secret:
            raise RefusedError(503, "workspace url or secret not ready")
        base = (peer.agent_card or {}).get("url") or peer.url
        headers = {"Authorization": f"Bearer {peer.inbound_secret}", **options.pop("headers", {})}
        try:
            async with httpx.AsyncClient(timeout=10.0) as client:
                answer = await client.request(method, base.rstrip("/") + path, headers=headers, **options)
        except httpx.TransportError as error:
            raise RefusedError(502, f"workspace unreachable: {type(error).__name__}") from error
        kept = {
            key: value
            for key, value in answer.headers.items()
            if key in ("content-type", "content-disposition")
        }
        return Response(answer.content, status_code=answer.status_code, headers=kept)

    # -- for tests in another process ----------------------------------------------------------------------

    async def _state(self, _: Request) -> Response:
        return JSONResponse(
            {
                "workspaces": [{**peer.row(), "runtime": peer.runtime} for peer in self.workspaces.values()],
                "calls": [vars(call) for call in self.calls],
                "heartbeats": self.heartbeats,
                "registrations": self.registrations,
                "notifications": self.notifications,
                "activities": self.activities,
                "memories": self.memories,
                "delegations": self.delegations,
                "uploads": self.uploads,
                "failures": self.failures,
            }
        )

    async def _switch(self, request: Request) -> Response:
        """`{"reject": [route, status, times]}`, `{"drop": [route, times]}`, `{"rotate": true | "/path"}`,
        `{"peer": {...}}`, `{"finish": [id, status]}`, or any field of the switches with its value."""
        for name, value in (await _object(request)).items():
            if name == "reject":
                self.reject_next(*value)
            elif name == "drop":
                self.drop_next(*value)
            elif name == "rotate":
                self.rotate_token(Path(value) if isinstance(value, str) else None)
            elif name == "peer":
                self.add_peer(Peer(**value))
            elif name == "finish":
                self.finish_delegation(*value)
            elif name == "secrets":
                self.secret_values = value
            elif hasattr(self.switches, name):
                setattr(self.switches, name, value)
            else:
                return JSONResponse({"error": f"unknown switch {name}"}, status_code=400)
        return JSONResponse({"status": "switched"})


class _Dropped(Response):
    """No answer at all: the connection is reset."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        # uvicorn offers no way to hang up; `receive` belongs to its request cycle, which has the transport.
        receive.__self__.transport.abort()


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _bearer_is(request: Request, token_hash: str) -> bool:
    header = request.headers.get("authorization", "")
    return (
        bool(token_hash)
        and header.startswith("Bearer ")
        and _hash(header.removeprefix("Bearer ")) == token_hash
    )


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


async def _object(request: Request) -> Json:
    body = _json(await request.body())
    if not isinstance(body, dict):
        raise RefusedError(400, "the body must be a JSON object")
    return body


def _normalised(body: Any) -> Json:
    """What the proxy makes of a request: an envelope, a messageId, a role, parts with `kind`."""
    if not isinstance(body, dict):
        raise RefusedError(400, "the body must be a JSON object")
    request: Json = dict(body) if "method" in body else {"method": "message/send", "params": body}
    message = dict(request.get("params", {}).get("message") or {})
    if "content" in message and "parts" not in message:
        message["parts"] = [{"kind": "text", "text": message.pop("content")}]
    if not message.get("parts"):
        raise RefusedError(400, "message has neither parts nor content")
    message["parts"] = [
        {("kind" if key == "type" else key): value for key, value in part.items()}
        for part in message["parts"]
    ]
    message.setdefault("messageId", str(uuid.uuid4()))
    message.setdefault("role", "user")
    request["params"] = {**request["params"], "message": message}
    return request


def _answer_text(answer: Json) -> str | None:
    result = answer.get("result")
    if not isinstance(result, dict):
        return None
    if result.get("kind") == "task":
        if result["status"]["state"] != "completed":
            return None
        parts = [part for artifact in result.get("artifacts", []) for part in artifact["parts"]]
    else:
        parts = result.get("parts", [])
    return "".join(part.get("text", "") for part in parts)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


async def _main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--workspace", default="ws-self", help="id of the workspace that will register")
    parser.add_argument("--org", default="", help="require this X-Molecule-Org-Id")
    parser.add_argument(
        "--token-file", type=Path, help="issue a token into this file, as the provisioner does"
    )
    options = parser.parse_args()
    platform = FakePlatform(options.workspace)
    platform.switches.org_id = options.org
    if options.token_file:
        platform.rotate_token(options.token_file)
        if os.geteuid() == 0:
            os.chown(options.token_file, 1000, 1000)
    await platform.start(options.host, options.port)
    print(f"fake platform on {platform.url}", file=sys.stderr, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
