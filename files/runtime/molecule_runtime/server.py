"""The HTTP application of the workspace."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from molecule_runtime import bodies, metrics, platform_auth
from molecule_runtime.access import Access, AccessGate
from molecule_runtime.cards import CardRoutes
from molecule_runtime.routes_internal import AuthStatus, InternalRoutes
from molecule_runtime.rpc import RequestHandler, WorkspaceDispatcher
from molecule_runtime.task_store import BoundedTaskStore
from molecule_runtime.transcript import TranscriptEndpoint

if TYPE_CHECKING:
    from a2a.types import AgentCard
    from starlette.requests import Request

    from molecule_runtime.adapters.base import BaseAdapter
    from molecule_runtime.turns import TurnExecutor

__all__ = ["Workspace", "build_app"]

_INTERNAL_ERROR = -32603
STREAM_GRACE_SECONDS = 3.0


@dataclass(slots=True)
class Workspace:
    """What the routes serve. Without `executor`, messages are answered 503 with `problem`.

    `prompt` is what the agent was told, as people may read it.
    """

    card: AgentCard
    card_url_is_fixed: bool = False
    adapter: BaseAdapter | None = None
    executor: TurnExecutor | None = None
    problem: str = ""
    prompt: str = ""
    has_platform: bool = False
    stopping: bool = False
    internal: InternalRoutes = field(default_factory=InternalRoutes)
    access: Access = field(default_factory=Access)
    handler: RequestHandler | None = None


def build_app(workspace: Workspace) -> Starlette:
    """All routes. Cards and probes answer in every state; `POST /` only works with an executor."""
    if workspace.executor is not None:
        workspace.handler = RequestHandler(workspace.executor, BoundedTaskStore(), workspace.card)
        endpoint = WorkspaceDispatcher(
            workspace.handler, STREAM_GRACE_SECONDS, may_read=workspace.access.may_read
        ).handle_requests
    else:
        endpoint = _NotConfigured(workspace).__call__
    probes = _Probes(workspace)
    return Starlette(
        routes=[
            Route("/", endpoint, methods=["POST"]),
            *CardRoutes(workspace.card, url_is_fixed=workspace.card_url_is_fixed).routes(),
            *workspace.internal.routes(),
            AuthStatus(workspace.access.required).route(),
            Route("/internal/prompt", _PromptEndpoint(workspace).__call__, methods=["GET"]),
            Route("/transcript", TranscriptEndpoint(workspace.adapter).__call__, methods=["GET"]),
            Route("/healthz", probes.healthz, methods=["GET"]),
            Route("/readyz", probes.readyz, methods=["GET"]),
            Route("/metrics", metrics.serve, methods=["GET"]),
        ],
        middleware=_middleware(workspace.access),
    )


def _middleware(access: Access) -> list[Middleware]:
    gate = Middleware(AccessGate, access)
    if not access.origins:
        return [gate]
    pages = Middleware(
        CORSMiddleware,
        allow_origins=sorted(access.origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "A2A-Version", "A2A-Extensions"],
    )
    return [pages, gate]


class _NotConfigured:
    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def __call__(self, request: Request) -> Response:
        """503 with the reason, as a JSON-RPC error to the request that was sent."""
        try:
            body = await bodies.read(request)
            identifier = bodies.identifier(json.loads(body or b""))
        except ClientDisconnect:
            return Response(status_code=400)
        except (ValueError, RecursionError):
            identifier = None
        error = {"code": _INTERNAL_ERROR, "message": "agent not configured", "data": self._workspace.problem}
        return JSONResponse({"jsonrpc": "2.0", "id": identifier, "error": error}, status_code=503)


class _PromptEndpoint:
    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def __call__(self, request: Request) -> Response:
        """What the agent was told at its start, secrets taken out, to the holder of the inbound secret."""
        if not platform_auth.inbound_authorized(request.headers.get("authorization")):
            return JSONResponse({"error": "missing or invalid platform secret"}, status_code=401)
        return PlainTextResponse(self._workspace.prompt, media_type="text/markdown")


class _Probes:
    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def healthz(self, _: Request) -> Response:
        """The process answers."""
        return JSONResponse({"status": "alive"})

    async def readyz(self, _: Request) -> Response:
        """200 if a message sent now would be answered, else 503 with the reason.

        `detail` says what an operator should know all the same, such as a budget that is used up.
        """
        workspace = self._workspace
        if workspace.stopping:
            return self._unready("stopping")
        if workspace.executor is None or workspace.adapter is None:
            return self._unready(workspace.problem or "agent not configured")
        if workspace.has_platform and (reason := platform_auth.problem()):
            return self._unready(reason)
        health = workspace.adapter.health()
        if not health.ready:
            return self._unready(health.detail)
        return JSONResponse({"ready": True, **({"detail": health.detail} if health.detail else {})})

    @staticmethod
    def _unready(reason: str) -> Response:
        return JSONResponse({"ready": False, "reason": reason}, status_code=503)
