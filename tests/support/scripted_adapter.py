"""An adapter whose turns do what the message says, for tests of the runtime. It needs no model and no child.

The text of a message is its script, word by word: `say:TEXT` streams one delta, `many:N` streams N of 4,000
bytes, `spend:IN,OUT` tells of tokens at the end, `gate:NAME` waits until the test opens the gate,
`fail:REASON` fails, `raise:REASON` raises, `file` attaches one; `bare:TEXT` alone answers with a bare
message, `forget` alone returns without an ending. `_` stands for a space.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import structlog
from a2a.helpers import new_text_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.tasks import TaskUpdater
from a2a.types import Part, Task, TaskState

from molecule_runtime.adapters.base import AdapterConfig, AdapterHealth, BaseAdapter
from molecule_runtime.executor_helpers import extract_file_parts, extract_message_text

if TYPE_CHECKING:
    from a2a.server.events import EventQueue

__all__ = ["Adapter", "ScriptedExecutor"]


class ScriptedExecutor(AgentExecutor):
    """Runs scripts. `gates` are opened by the test; `reached` is set when a turn waits at one."""

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.reached: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.seen: list[str] = []
        self.files: list[str] = []
        self.cancelled: list[str] = []

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        text = extract_message_text(context.message)
        self.seen.append(text)
        self.files += [file.name or file.uri for file in extract_file_parts(context.message)]
        if text.startswith("bare:"):
            await event_queue.enqueue_event(new_text_message(_spaces(text.removeprefix("bare:"))))
            return
        if text == "forget":
            return
        task = Task(id=context.task_id or "", context_id=context.context_id or "")
        task.status.state = TaskState.TASK_STATE_SUBMITTED
        await event_queue.enqueue_event(task)
        turn = _Turn(TaskUpdater(event_queue, task.id, task.context_id), self)
        await turn.updater.start_work()
        for word in text.split():
            await turn.step(word)
        if not turn.ended:
            await turn.updater.update_status(TaskState.TASK_STATE_COMPLETED, metadata=turn.metadata)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        self.cancelled.append(context.task_id or "")


class _Turn:
    def __init__(self, updater: TaskUpdater, executor: ScriptedExecutor) -> None:
        self.updater = updater
        self.ended = False
        self.metadata: dict[str, Any] | None = None
        self._executor = executor
        self._artifact = str(uuid.uuid4())
        self._begun = False

    async def step(self, word: str) -> None:
        name, _, value = word.partition(":")
        if name == "say":
            await self._add(Part(text=_spaces(value)))
        elif name == "many":
            for _ in range(int(value)):
                await self._add(Part(text="x" * 4000))
        elif name == "file":
            uri = "workspace:/workspace/made.txt"
            await self._add(Part(url=uri, filename="made.txt", media_type="text/plain"))
        elif name == "gate":
            self._executor.reached[value].set()
            await self._executor.gates[value].wait()
        elif name == "spend":
            spent, made = map(int, value.split(","))
            self.metadata = {"usage": {"input_tokens": spent, "output_tokens": made, "model": "gpt-5.5"}}
        elif name == "fail":
            self.ended = True
            words = new_text_message(_spaces(value))
            await self.updater.update_status(TaskState.TASK_STATE_FAILED, words, metadata=self.metadata)
        elif name == "raise":
            raise RuntimeError(_spaces(value))
        else:
            await self._add(Part(text=f"{word} "))

    async def _add(self, part: Part) -> None:
        await self.updater.add_artifact([part], artifact_id=self._artifact, append=self._begun)
        self._begun = True


class Adapter(BaseAdapter):
    """The adapter. `runtime_config` makes its setup fail (`fail_setup`) or hang (`slow_setup`)."""

    latest: Adapter | None = None

    def __init__(self) -> None:
        self.executor = ScriptedExecutor()
        self.config: AdapterConfig | None = None
        self.current_health = AdapterHealth(ready=True)
        self.restored: dict[str, Any] = {}
        Adapter.latest = self

    @staticmethod
    def name() -> str:
        return "scripted"

    @staticmethod
    def display_name() -> str:
        return "Scripted"

    @staticmethod
    def description() -> str:
        return "Does what it is told."

    async def setup(self, config: AdapterConfig) -> None:
        self.config = config
        if config.runtime_config.get("slow_setup"):
            structlog.get_logger().info("setup has begun")
            await asyncio.Event().wait()
        if reason := config.runtime_config.get("fail_setup"):
            raise RuntimeError(str(reason))

    async def create_executor(self, config: AdapterConfig) -> AgentExecutor:
        self._executor = self.executor
        return self.executor

    def health(self) -> AdapterHealth:
        return self.current_health

    async def transcript_lines(self, since: int = 0, limit: int = 100) -> dict[str, Any]:
        lines = [{"text": text} for text in self.executor.seen]
        page = lines[since : since + limit]
        return {
            "runtime": "scripted",
            "supported": True,
            "lines": page,
            "cursor": since + len(page),
            "more": since + len(page) < len(lines),
            "source": None,
        }

    async def pre_stop_state(self) -> dict[str, Any]:
        return {"turns": len(self.executor.seen)}

    async def restore_state(self, snapshot: dict[str, Any]) -> None:
        self.restored = snapshot

    async def close(self) -> None:
        structlog.get_logger().info("closed")


def _spaces(text: str) -> str:
    return text.replace("_", " ")
