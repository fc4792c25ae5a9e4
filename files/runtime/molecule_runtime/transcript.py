"""`GET /transcript`: what the agent wrote down, to the holder of the workspace's own token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from molecule_runtime import platform_auth
from molecule_runtime.executor_helpers import sanitize_agent_error

if TYPE_CHECKING:
    from starlette.requests import Request

    from molecule_runtime.adapters.base import BaseAdapter

__all__ = ["TranscriptEndpoint"]

_MAX_LIMIT = 1000


class TranscriptEndpoint:
    """Serves the adapter's transcript. Without a known token nobody may read it."""

    def __init__(self, adapter: BaseAdapter | None) -> None:
        self._adapter = adapter

    async def __call__(self, request: Request) -> Response:
        """200 with the lines; 400 for a number that is none, 401, 503 when the adapter cannot read them."""
        header = request.headers.get("authorization")
        authorized = platform_auth.bearer_matches(header, platform_auth.get_token())
        if not authorized and not platform_auth.bearer_matches(header, platform_auth.refresh_cache()):
            return JSONResponse({"error": "missing or invalid workspace token"}, status_code=401)
        try:
            since = int(request.query_params.get("since", "0"))
            limit = int(request.query_params.get("limit", "100"))
        except ValueError:
            return JSONResponse({"error": "since and limit must be whole numbers"}, status_code=400)
        if since < 0 or limit < 1:
            return JSONResponse({"error": "since must be at least 0, limit at least 1"}, status_code=400)
        if self._adapter is None:
            return JSONResponse({"error": "agent not configured"}, status_code=503)
        try:
            lines = await self._adapter.transcript_lines(since, min(limit, _MAX_LIMIT))
        except Exception as error:  # noqa: BLE001 (an adapter may raise anything; the caller gets its text)
            return JSONResponse({"error": sanitize_agent_error(error)}, status_code=503)
        return JSONResponse(lines)
