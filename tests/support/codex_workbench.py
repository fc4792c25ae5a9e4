"""The executor over the real codex binary and the model stand-in, spoken to through the SDK's own handler."""

from __future__ import annotations

import asyncio
import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from a2a.server.context import ServerCallContext
from a2a.server.request_handlers import DefaultRequestHandlerV2
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatusUpdateEvent,
)
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]  # ships no types

from attachments import Attachments
from budgets import Budgets
from codex import Codex, CodexSettings
from codex_binary import find_codex
from executor import CodexExecutor
from metering import Meter
from prices import PriceTable
from thread_store import ThreadStore
from usage_ledger import UsageLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from conversation import Limits

__all__ = ["API_KEY", "PATIENCE", "Sent", "Workbench", "codex_binary"]

API_KEY = "test-key"
_TESTS = Path(__file__).parents[1]
PATIENCE = 60.0
"""Seconds after which a test gives up waiting; nothing is expected to take that long."""

_TERMINAL = {
    TaskState.TASK_STATE_COMPLETED,
    TaskState.TASK_STATE_FAILED,
    TaskState.TASK_STATE_CANCELED,
    TaskState.TASK_STATE_REJECTED,
}
_CONFIG = """\
model_provider = "standin"
sandbox_mode = "danger-full-access"
approval_policy = "never"
cli_auth_credentials_store = "file"

[model_providers.standin]
name = "standin"
base_url = "{base_url}"
env_key = "STANDIN_KEY"
wire_api = "responses"
requires_openai_auth = false
request_max_retries = {retries}
stream_max_retries = {retries}
stream_idle_timeout_ms = 30000

[features]
apps = false
plugins = false
shell_snapshot = false

[analytics]
enabled = false
"""


def codex_binary() -> Path:
    """The pinned binary, from CODEX_BIN or PATH. Raises CodexNotFoundError: a test without it fails."""
    return find_codex(os.environ.get("CODEX_BIN", "codex"))


@dataclass
class Sent:
    """One message that was sent, as its stream tells it."""

    task_id: str = ""
    states: list[TaskState] = field(default_factory=list)
    chunks: list[tuple[str, bool]] = field(default_factory=list)
    text: str = ""
    reason: str = ""
    failure: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _reader: asyncio.Task[None] | None = None

    @property
    def state(self) -> TaskState:
        """The newest state."""
        return self.states[-1]

    @property
    def is_over(self) -> bool:
        """Whether the task has ended."""
        return bool(self.states) and self.state in _TERMINAL

    async def until(self, condition: Callable[[Sent], bool]) -> Self:
        """Wait for `condition`, or for the end of the stream, whichever comes first, and assert it."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(
                lambda: condition(self) or (self._reader is not None and self._reader.done())
            )
        assert condition(self), f"never came true: {self}"
        return self

    async def ended(self) -> Self:
        """Wait for the task's end."""
        return await self.until(lambda sent: sent.is_over)

    async def completed(self) -> str:
        """Wait for the end, assert that it is a success, and return the answer."""
        await self.ended()
        assert self.state == TaskState.TASK_STATE_COMPLETED, f"{TaskState.Name(self.state)}: {self.reason}"
        return self.text

    async def failed(self) -> str:
        """Wait for the end, assert that it is a failure, and return the reason in words."""
        await self.ended()
        assert self.state == TaskState.TASK_STATE_FAILED, f"{TaskState.Name(self.state)}: {self.text[:200]}"
        return self.reason

    async def working(self) -> Self:
        """Wait until the agent has taken the message up."""
        return await self.until(lambda sent: TaskState.TASK_STATE_WORKING in sent.states)

    def take(self, event: Any) -> None:
        """Apply one event of the stream, as a client does."""
        if isinstance(event, Task):
            self.task_id = event.id
            self.states.append(event.status.state)
        elif isinstance(event, TaskStatusUpdateEvent):
            self.states.append(event.status.state)
            self.reason = "".join(part.text for part in event.status.message.parts)
            fields = event.status.message.metadata.fields
            self.failure = fields["reason"].string_value if "reason" in fields else ""
            self.usage = MessageToDict(event.metadata).get("usage", {})
        elif isinstance(event, TaskArtifactUpdateEvent):
            piece = "".join(part.text for part in event.artifact.parts)
            self.chunks.append((piece, event.append))
            self.text = self.text + piece if event.append else piece


class Workbench:
    """`async with` it. `home` survives: a second workbench on the same directory is a restarted workspace."""

    def __init__(
        self,
        directory: Path,
        base_url: str,
        *,
        limits: Limits | None = None,
        threads: Literal["shared", "per_context"] = "shared",
        sandbox: str = "danger-full-access",
        retries: int = 0,
        instructions: str | None = None,
        command: Sequence[str] | None = None,
        config: str = "",
        max_line: int = 32 * 1024 * 1024,
        api_key: str | None = None,
        preamble: Callable[[], str] = lambda: "",
        python_path: bool = False,
        env: Mapping[str, str] | None = None,
        model_provider: str | None = None,
        endpoint: Mapping[tuple[str, ...], object] | None = None,
        prices: PriceTable | None = None,
        budgets: Budgets | None = None,
        on_item: Callable[[dict[str, Any]], None] = lambda _item: None,
    ) -> None:
        self.home = directory / "home"
        self.codex_home = self.home / ".codex"
        self.workspace = directory / "workspace"
        self.threads_file = directory / "threads.json"
        for path in (self.codex_home, self.workspace):
            path.mkdir(parents=True, exist_ok=True)
        if base_url:
            text = _CONFIG.format(base_url=base_url, retries=retries)
            (self.codex_home / "config.toml").write_text(text + config)
        self._children: asyncio.Queue[int] = asyncio.Queue()
        self.usage_file = directory / "usage.jsonl"
        self.ledger = UsageLedger(self.usage_file)
        self.ledger.load()
        self.meter = Meter(self.ledger, prices or PriceTable(), budgets or Budgets(), model="gpt-5.5")
        self.codex = Codex(
            CodexSettings(
                command=command or [str(codex_binary()), "app-server"],
                cwd=self.workspace,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(self.home),
                    "CODEX_HOME": str(self.codex_home),
                    "STANDIN_KEY": API_KEY,
                    **({"PYTHONPATH": str(_TESTS)} if python_path else {}),
                    **(env or {}),
                },
                model="gpt-5.5",
                model_provider=model_provider,
                endpoint=endpoint or {},
                sandbox=sandbox,
                developer_instructions=instructions,
                api_key=api_key,
                max_line=max_line,
            ),
            ThreadStore(self.threads_file),
            meter=self.meter,
            on_start=self._child_started,
            on_item=on_item,
        )
        self.executor = CodexExecutor(
            self.codex,
            Attachments(self.workspace),
            limits=limits,
            threads=threads,
            preamble=preamble,
            closed=self.meter.closed,
        )
        self.meter.when_closed(self.executor.budget_closed)
        card = AgentCard(
            name="test",
            description="test",
            version="1",
            capabilities=AgentCapabilities(streaming=True),
            default_input_modes=["text/plain"],
            default_output_modes=["text/plain"],
            supported_interfaces=[AgentInterface(url="http://localhost", protocol_binding="JSONRPC")],
        )
        self._handler = DefaultRequestHandlerV2(self.executor, InMemoryTaskStore(), card)
        self._readers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self.codex.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.executor.close()
        await self.ledger.close()
        await asyncio.gather(*self._readers, return_exceptions=True)
        await self._handler.aclose()

    def _child_started(self, number: int) -> None:
        self._children.put_nowait(number)

    async def child(self, number: int) -> None:
        """Wait until codex has been started `number` times."""
        async with asyncio.timeout(PATIENCE):
            while await self._children.get() < number:
                pass

    def send(self, text: str = "", *, parts: Sequence[Part] = (), context: str = "") -> Sent:
        """Send a message without waiting for anything."""
        message = Message(
            message_id=str(uuid.uuid4()),
            role=Role.ROLE_USER,
            parts=[*([Part(text=text)] if text else []), *parts],
            context_id=context,
        )
        sent = Sent()
        sent._reader = asyncio.create_task(self._read(sent, message))
        self._readers.append(sent._reader)
        return sent

    async def cancel(self, sent: Sent) -> Task:
        """`tasks/cancel`."""
        task = await self._handler.on_cancel_task(CancelTaskRequest(id=sent.task_id), ServerCallContext())
        assert isinstance(task, Task)
        return task

    async def stored(self, sent: Sent) -> Task:
        """`tasks/get`."""
        task = await self._handler.on_get_task(GetTaskRequest(id=sent.task_id), ServerCallContext())
        assert isinstance(task, Task)
        return task

    async def _read(self, sent: Sent, message: Message) -> None:
        request = SendMessageRequest(message=message)
        try:
            async for event in self._handler.on_message_send_stream(request, ServerCallContext()):
                async with sent._changed:
                    sent.take(event)
                    sent._changed.notify_all()
        finally:
            asyncio.get_running_loop().call_soon(asyncio.ensure_future, _wake(sent))


async def _wake(sent: Sent) -> None:
    async with sent._changed:
        sent._changed.notify_all()
