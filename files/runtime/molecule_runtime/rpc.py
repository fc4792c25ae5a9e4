"""`POST /`: JSON-RPC in both dialects over one request handler."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from a2a.compat.v0_3 import conversions
from a2a.compat.v0_3 import types as types_v03
from a2a.compat.v0_3.request_handler import RequestHandler03
from a2a.server.request_handlers.default_request_handler_v2 import DefaultRequestHandlerV2
from a2a.types import Message, Role, Task, TaskState
from a2a.utils.errors import InternalError
from starlette.responses import JSONResponse

from molecule_runtime import a2a_streaming
from molecule_runtime.a2a_errors import SpecAdapter03, SpecDispatcher, check_media_types
from molecule_runtime.a2a_streaming import unhurried
from molecule_runtime.cards import OUTPUT_MODES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable

    from a2a.server.agent_execution import AgentExecutor
    from a2a.server.context import ServerCallContext
    from a2a.server.events import Event
    from a2a.server.tasks import TaskStore
    from a2a.types import AgentCard, SendMessageRequest, SubscribeToTaskRequest
    from sse_starlette.sse import EventSourceResponse
    from starlette.requests import Request

__all__ = ["RequestHandler", "WorkspaceDispatcher", "bare_message"]

PEER_HEADER = "x-workspace-id"


class RequestHandler(DefaultRequestHandlerV2):
    """The SDK's handler, which also refuses what the card says that it does not take."""

    def __init__(self, executor: AgentExecutor, task_store: TaskStore, card: AgentCard) -> None:
        a2a_streaming.install()
        super().__init__(agent_executor=executor, task_store=task_store, agent_card=card)
        self._input_modes = list(card.default_input_modes)

    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Message | Task:
        """Run the message to its end (or until it is accepted, where the client asks for that)."""
        check_media_types(params, self._input_modes, OUTPUT_MODES)
        result: Message | Task = await super().on_message_send(params, context)
        return result

    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        """Run the message and yield each event as it comes."""
        check_media_types(params, self._input_modes, OUTPUT_MODES)
        async with aclosing(unhurried(super().on_message_send_stream(params, context))) as events:
            async for event in events:
                yield event

    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        """Yield the task so far, then each event as it comes."""
        async with aclosing(unhurried(super().on_subscribe_to_task(params, context))) as events:
            async for event in events:
                yield event


class PeerAwareHandler03(RequestHandler03):
    """0.3 methods, answered with a bare Message where the caller is a workspace of the platform.

    Deployed peers read `result.parts[0].text` and nothing else. They send `X-Workspace-ID`; nobody else does.
    """

    async def on_message_send(
        self, request: types_v03.SendMessageRequest, context: ServerCallContext
    ) -> types_v03.Task | types_v03.Message:
        """Answer with the task; to a peer with its text, or with an error where the task failed."""
        if not _is_peer(context):
            return await super().on_message_send(request, context)
        params = conversions.to_core_send_message_request(request)
        params.configuration.return_immediately = False
        result = await self.request_handler.on_message_send(params, context)
        return conversions.to_compat_message(bare_message(result))

    async def on_message_send_stream(
        self, request: types_v03.SendMessageRequest, context: ServerCallContext
    ) -> AsyncIterable[types_v03.SendStreamingMessageSuccessResponse]:
        """Stream the task's events; to a peer, the one message at the end."""
        if not _is_peer(context):
            async for event in super().on_message_send_stream(request, context):
                yield event
            return
        message = await self.on_message_send(request, context)
        yield types_v03.SendStreamingMessageSuccessResponse(id=request.id, result=message)


class UsageAdapter03(SpecAdapter03):
    """Says what a message has used where the platform reads it: `result.usage` of an answer to message/send.

    The platform's proxy counts `{input_tokens, output_tokens}` there, in any kind of result, and reads no
    metadata. Clients of this dialect pass over what they do not know; those of 1.0 would refuse the answer.
    """

    async def handle_request(
        self, request_id: str | int | None, method: str, body: dict[str, Any], request: Request
    ) -> JSONResponse | EventSourceResponse:
        """Answer as the SDK does, then add the usage that the result's metadata tell of."""
        response = await super().handle_request(request_id, method, body, request)
        if method == "message/send" and isinstance(response, JSONResponse):
            return _with_usage(response)
        return response


class WorkspaceDispatcher(SpecDispatcher):
    """The endpoint: the specification's error codes, and peers and the platform answered as they expect."""

    adapter03_class = UsageAdapter03

    def __init__(
        self,
        handler: RequestHandler,
        shutdown_grace_period: float = 0,
        *,
        may_read: Callable[[str | None], bool],
    ) -> None:
        super().__init__(handler, shutdown_grace_period, may_read=may_read)
        self.adapter03.handler = PeerAwareHandler03(handler)


def bare_message(result: Message | Task) -> Message:
    """The answer in `result` as one message. Raises InternalError with the reason for a task that failed."""
    if isinstance(result, Message):
        return result
    said = [part.text for part in result.status.message.parts if part.text]
    if result.status.state not in (TaskState.TASK_STATE_COMPLETED, TaskState.TASK_STATE_INPUT_REQUIRED):
        state = TaskState.Name(result.status.state).removeprefix("TASK_STATE_").lower()
        raise InternalError(
            f"The task was {state}: {' '.join(said) or 'no reason given'}", data={"taskId": result.id}
        )
    text = "\n\n".join(
        joined for artifact in result.artifacts if (joined := "".join(part.text for part in artifact.parts))
    )
    message = Message(message_id=f"{result.id}-answer", role=Role.ROLE_AGENT, context_id=result.context_id)
    message.parts.add(text=text or " ".join(said))
    for artifact in result.artifacts:
        message.parts.extend(part for part in artifact.parts if not part.HasField("text"))
    message.metadata.MergeFrom(result.metadata)
    return message


def _with_usage(response: JSONResponse) -> JSONResponse:
    answer = json.loads(bytes(response.body))
    result = answer.get("result")
    usage = (result.get("metadata") or {}).get("usage") if isinstance(result, dict) else None
    if not isinstance(usage, dict):
        return response
    # Numbers of metadata are floats on the wire, and the platform reads whole ones.
    counts = {key: int(usage.get(key) or 0) for key in ("input_tokens", "output_tokens")}
    return JSONResponse({**answer, "result": {**result, "usage": counts}})


def _is_peer(context: ServerCallContext) -> bool:
    headers: dict[str, str] = context.state.get("headers", {})
    return bool(headers.get(PEER_HEADER, "").strip())
