"""Where a2a-sdk 1.3.0 answers with another error than the specification's, corrected. Nowhere else.

| the request | the SDK | here | why |
|---|---|---|---|
| 0.3 method, `params` do not fit | -32600 | -32602 | the envelope is valid, its parameters are not |
| 0.3 method with `A2A-Version: 1.0` | -32603 | -32009 | 1.0 codes are hidden, also from who knows them |
| body that is not UTF-8, or nested too deep | -32603 | -32700 | it cannot be parsed |
| body over the limit | (read whole) | -32600, HTTP 413 | memory |
| media type that the card does not declare | (accepted) | -32005 | the SDK's check knows no `*/*` |
| no output mode that we produce is accepted | (ignored) | -32005 | 1.0 section 3.3.2 |
| NaN, half a surrogate pair, too large or deep | -32603, HTTP 500 | -32602, -32600 | the client's error |
| a million values or parts, a URI of megabytes | (worked on) | -32602, -32600 | memory, time, logs |
| a file's bytes as a data: URL or URL-safe | (damaged) | (decoded), else -32602 | `bodies.py` |
| any -32603 | the exception's own text | our words | it may name a secret or a path |
"""

from __future__ import annotations

import json
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

from molecule_runtime import bodies, logs
from molecule_runtime.access import unauthorized
from molecule_runtime.bodies import MAX_BODY_BYTES
from molecule_runtime.executor_helpers import sanitize_agent_error
from molecule_runtime.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from a2a.server.request_handlers import RequestHandler
    from a2a.types import SendMessageRequest
    from pydantic import BaseModel
    from sse_starlette.sse import EventSourceResponse

__all__ = ["MAX_BODY_BYTES", "SpecAdapter03", "SpecDispatcher", "check_media_types"]

_log = logs.get_logger(__name__)

VERSION_NOT_SUPPORTED = -32009
_SHOWN = 200
_MOST_ERRORS = 5
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
                {
                    "field": shortened(".".join(map(str, item["loc"])), _SHOWN),
                    "message": shortened(item["msg"], _SHOWN),
                }
                for item in invalid.errors(include_url=False, include_input=False)[:_MOST_ERRORS]
            ]
            more = invalid.error_count() - len(errors)
            error = InvalidParamsError(data={"errors": errors} | ({"more": more} if more else {}))
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
            body = await bodies.read(request, MAX_BODY_BYTES)
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            too_large = InvalidRequestError(f"The body is larger than {MAX_BODY_BYTES} bytes")
            response = self._generate_error_response(None, too_large)
            response.status_code = 413
            return response
        try:
            call = json.loads(body)
        except (ValueError, RecursionError) as error:
            return self._generate_error_response(
                None, JSONParseError(message=f"The body is not JSON: {error}")
            )
        if fault := bodies.first_fault(call) or bodies.decode_files(call):
            return self._generate_error_response(bodies.identifier(call), _client_error(*fault))
        # Who knows the id of a task may ask for it; all tasks together are everybody's conversations.
        tells_of_others = isinstance(call, dict) and call.get("method") in _TELLS_OF_OTHERS
        if tells_of_others and not self._may_read(request.headers.get("authorization")):
            return unauthorized()
        return await super().handle_requests(_Parsed(request, call))

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
                f"Media type {shortened(part.media_type, _SHOWN)} is not supported; "
                f"supported: {', '.join(input_modes)}"
            )
    accepted = [mode.partition(";")[0] for mode in params.configuration.accepted_output_modes]
    if accepted and not any(_matches(mode, accepted) for mode in output_modes):
        raise ContentTypeNotSupportedError(
            f"None of {shortened(', '.join(accepted), _SHOWN)} can be produced; "
            f"supported: {', '.join(output_modes)}"
        )


def _matches(media_type: str, patterns: Iterable[str]) -> bool:
    """Whether one of `patterns` covers `media_type`: itself, its family (`image/*`, `text`), or anything."""
    kind = media_type.partition(";")[0].strip().lower()
    family = kind.partition("/")[0]
    covering = {kind, family, f"{family}/*", "*/*", "*"}
    return any(pattern.strip().lower() in covering for pattern in patterns)


class _Parsed(Request):
    """A request whose body was read, parsed and looked through."""

    def __init__(self, request: Request, call: Any) -> None:
        super().__init__(request.scope)
        self._call = call

    async def json(self) -> Any:
        """The value, which is not parsed again."""
        return self._call


def _client_error(place: str, kind: str) -> A2AError:
    """-32602 for what is wrong with the parameters, -32600 for the rest of a request."""
    message = f"{place or 'the request'}: {kind}"
    return InvalidParamsError(message) if place.startswith("params") else InvalidRequestError(message)


def _redacted(error: Any) -> Any:
    """`error` as a client may see it: our own words for what nobody foresaw, and little of the client's."""
    unforeseen = isinstance(error, JSONRPCError) and error.code == -32603
    if unforeseen or (isinstance(error, Exception) and not isinstance(error, A2AError)):
        text = (error.message or "") if isinstance(error, JSONRPCError) else str(error)
        _log.error("a request failed", reason=sanitize_agent_error(text), kind=type(error).__name__)
        return InternalError("Internal error: the log of the workspace says more")
    if isinstance(error, InternalError):
        return InternalError(sanitize_agent_error(error.message))
    if isinstance(error, A2AError):
        error.message, error.data = shortened(str(error.message), 500), _short(error.data)
    return error


def _short(data: Any) -> Any:
    """What the SDK says to an error, its texts cut."""
    if isinstance(data, str):
        return shortened(data, _SHOWN)
    if isinstance(data, dict):
        return {shortened(str(key), _SHOWN): _short(value) for key, value in data.items()}
    return data
