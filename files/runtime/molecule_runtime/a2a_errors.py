"""Where a2a-sdk 1.3.0 answers with another error than the specification's, corrected. Nowhere else.

| the request | the SDK | here | why |
|---|---|---|---|
| 0.3 method, `params` do not fit | -32600 | -32602 | the envelope is valid, its parameters are not |
| 0.3 method with `A2A-Version: 1.0` | -32603 | -32009 | 1.0 codes are hidden, also from who knows them |
| body that is not UTF-8, or nested too deep | -32603 | -32700 | it cannot be parsed |
| body over the limit | (read whole) | -32600, HTTP 413 | memory |
| media type that the card does not declare | (accepted) | -32005 | the SDK's check knows no `*/*` |
| no output mode that we produce is accepted | (ignored) | -32005 | 1.0 section 3.3.2 |
| any -32603 | the exception's own text | redacted | it may name a secret or a path |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import a2a.server.routes  # noqa: F401 (first: imported on its own, the next module imports itself in a circle)
from a2a.compat.v0_3.jsonrpc_adapter import JSONRPC03Adapter
from a2a.server.jsonrpc_models import JSONParseError, JSONRPCError
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from a2a.utils.errors import (
    A2AError,
    ContentTypeNotSupportedError,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    VersionNotSupportedError,
)
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from molecule_runtime.access import unauthorized
from molecule_runtime.executor_helpers import sanitize_agent_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from a2a.server.request_handlers import RequestHandler
    from a2a.types import SendMessageRequest
    from pydantic import BaseModel
    from sse_starlette.sse import EventSourceResponse
    from starlette.types import Message, Receive

__all__ = ["MAX_BODY_BYTES", "SpecAdapter03", "SpecDispatcher", "check_media_types"]

MAX_BODY_BYTES = 32 << 20
"""Inline files count: the platform's proxy forwards at most 16 MB, base64 adds a third."""

VERSION_NOT_SUPPORTED = -32009
_TELLS_OF_OTHERS = ("ListTasks", "tasks/list")


class SpecAdapter03(JSONRPC03Adapter):
    """The SDK's 0.3 adapter with the codes of the 0.3 specification."""

    async def handle_request(
        self, request_id: str | int | None, method: str, body: dict[str, Any], request: Request
    ) -> JSONResponse | EventSourceResponse:
        """Refuse parameters that do not fit, naming the fields and not their values; then as the SDK does."""
        try:
            model = cast("type[BaseModel]", self.METHOD_TO_MODEL[method])
            model.model_validate(body)
        except ValidationError as invalid:
            errors = [
                {"field": ".".join(map(str, item["loc"])), "message": item["msg"]}
                for item in invalid.errors(include_url=False, include_input=False)
            ]
            error = InvalidParamsError(data={"errors": errors})
            return self._generate_error_response(request_id, error)
        return await super().handle_request(request_id, method, body, request)

    def _generate_error_response(
        self, request_id: str | int | None, error: Exception | JSONRPCError
    ) -> JSONResponse:
        if isinstance(error, VersionNotSupportedError):
            error = JSONRPCError(code=VERSION_NOT_SUPPORTED, message=error.message)
        return super()._generate_error_response(request_id, _redacted(error))


class SpecDispatcher(JsonRpcDispatcher):
    """The SDK's dispatcher for both dialects with the codes of the specification."""

    adapter03_class = SpecAdapter03

    def __init__(
        self,
        request_handler: RequestHandler,
        shutdown_grace_period: float = 0,
        *,
        may_read: Callable[[str | None], bool],
    ) -> None:
        super().__init__(
            request_handler, enable_v0_3_compat=True, shutdown_grace_period=shutdown_grace_period
        )
        self.adapter03 = self.adapter03_class(
            request_handler,
            context_builder=self._context_builder,
            shutdown_grace_period=shutdown_grace_period,
        )
        self._v03_adapter = self.adapter03
        self._may_read = may_read

    async def handle_requests(self, request: Request) -> Response:
        """Parse the body here, where each way to fail is known, then let the SDK dispatch it."""
        try:
            body = await _read_body(request)
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            too_large = InvalidRequestError(f"The body is larger than {MAX_BODY_BYTES} bytes")
            response = self._generate_error_response(None, too_large)
            response.status_code = 413
            return response
        request = Request(request.scope, _replay(body))
        try:
            call = await request.json()
        except (ValueError, RecursionError) as error:
            return self._generate_error_response(
                None, JSONParseError(message=f"The body is not JSON: {error}")
            )
        # Who knows the id of a task may ask for it; all tasks together are everybody's conversations.
        tells_of_others = isinstance(call, dict) and call.get("method") in _TELLS_OF_OTHERS
        if tells_of_others and not self._may_read(request.headers.get("authorization")):
            return unauthorized()
        return await super().handle_requests(request)

    def _generate_error_response(
        self, request_id: str | int | None, error: Exception | JSONRPCError | A2AError
    ) -> JSONResponse:
        return super()._generate_error_response(request_id, _redacted(error))


def check_media_types(
    params: SendMessageRequest, input_modes: Sequence[str], output_modes: Sequence[str]
) -> None:
    """Raise ContentTypeNotSupportedError for a part, or an output, that the card does not declare."""
    for part in params.message.parts:
        if part.media_type and not _matches(part.media_type, input_modes):
            raise ContentTypeNotSupportedError(
                f"Media type {part.media_type} is not supported; supported: {', '.join(input_modes)}"
            )
    accepted = params.configuration.accepted_output_modes
    if accepted and not any(_matches(mode, accepted) for mode in output_modes):
        raise ContentTypeNotSupportedError(
            f"None of {', '.join(accepted)} can be produced; supported: {', '.join(output_modes)}"
        )


def _matches(media_type: str, patterns: Iterable[str]) -> bool:
    """Whether one of `patterns` covers `media_type`: itself, its family (`image/*`, `text`), or anything."""
    kind = media_type.partition(";")[0].strip().lower()
    family = kind.partition("/")[0]
    covering = {kind, family, f"{family}/*", "*/*", "*"}
    return any(pattern.strip().lower() in covering for pattern in patterns)


async def _read_body(request: Request) -> bytes | None:
    """The body; None if it is over the limit. Request.body() has none."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _replay(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _redacted(error: Any) -> Any:
    if isinstance(error, InternalError):
        return InternalError(sanitize_agent_error(error.message))
    if isinstance(error, JSONRPCError) and error.code == -32603:
        return error.model_copy(update={"message": sanitize_agent_error(error.message or "Internal error")})
    if isinstance(error, Exception) and not isinstance(error, A2AError):
        return InternalError(sanitize_agent_error(error))
    return error
