"""Between the SDK and the executor: what is counted, what is kept, what is let go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from a2a.server.context import ServerCallContext
from a2a.types import Artifact, ListTasksRequest, Part, Task, TaskState
from prometheus_client import REGISTRY

from molecule_runtime import metrics
from molecule_runtime.adapters.base import AdapterHealth
from molecule_runtime.heartbeat import Heartbeat
from molecule_runtime.platform import PlatformClient
from molecule_runtime.task_store import BoundedTaskStore
from molecule_runtime.turns import TurnExecutor
from unit.runtime.conftest import credential

if TYPE_CHECKING:
    from unit.runtime.conftest import LiveWorkspace

pytestmark = pytest.mark.anyio

CONTEXT = ServerCallContext()


def task(identifier: str, state: TaskState, text: str = "x") -> Task:
    made = Task(id=identifier, context_id="c", artifacts=[Artifact(artifact_id="a", parts=[Part(text=text)])])
    made.status.state = state
    made.status.timestamp.GetCurrentTime()
    return made


async def test_finished_tasks_are_dropped_oldest_first_and_running_ones_never() -> None:
    store = BoundedTaskStore(max_finished=2)
    await store.save(task("running", TaskState.TASK_STATE_WORKING), CONTEXT)
    for number in range(5):
        await store.save(task(f"t{number}", TaskState.TASK_STATE_COMPLETED), CONTEXT)
    kept = {found.id for found in (await store.list(ListTasksRequest(), CONTEXT)).tasks}
    assert kept == {"running", "t3", "t4"}


async def test_large_answers_are_bounded_by_their_bytes_and_the_newest_stays() -> None:
    store = BoundedTaskStore(max_bytes=1000)
    await store.save(task("small", TaskState.TASK_STATE_COMPLETED), CONTEXT)
    await store.save(task("huge", TaskState.TASK_STATE_COMPLETED, "x" * 5000), CONTEXT)
    assert await store.get("small", CONTEXT) is None
    assert await store.get("huge", CONTEXT) is not None
    await store.save(task("next", TaskState.TASK_STATE_COMPLETED), CONTEXT)
    assert await store.get("huge", CONTEXT) is None


async def test_a_task_that_was_read_is_a_copy() -> None:
    store = BoundedTaskStore()
    await store.save(task("t", TaskState.TASK_STATE_WORKING), CONTEXT)
    read = await store.get("t", CONTEXT)
    assert read is not None
    read.artifacts[0].parts[0].text = "changed"
    (listed,) = (await store.list(ListTasksRequest(), CONTEXT)).tasks
    listed.ClearField("artifacts")
    again = await store.get("t", CONTEXT)
    assert again is not None
    assert again.artifacts[0].parts[0].text == "x"


async def test_neighbouring_texts_are_joined_and_other_parts_are_left_alone() -> None:
    made = task("t", TaskState.TASK_STATE_COMPLETED, "a")
    made.artifacts[0].parts.extend([Part(text="b"), Part(url="u"), Part(text="c")])
    made.artifacts[0].parts.extend([Part(text="d", media_type="x/y"), Part(text="e"), Part(text="f")])
    await BoundedTaskStore().save(made, CONTEXT)
    assert [part.text or part.url for part in made.artifacts[0].parts] == ["ab", "u", "c", "d", "ef"]


async def test_the_pieces_of_a_running_answer_are_joined_now_and_then() -> None:
    made = task("t", TaskState.TASK_STATE_WORKING, "")
    store = BoundedTaskStore()
    for _ in range(1000):
        made.artifacts[0].parts.append(Part(text="x"))
        await store.save(made, CONTEXT)
        assert len(made.artifacts[0].parts) <= 256
    assert "".join(part.text for part in made.artifacts[0].parts) == "x" * 1000


async def test_a_deleted_task_is_gone() -> None:
    store = BoundedTaskStore()
    await store.save(task("t", TaskState.TASK_STATE_COMPLETED), CONTEXT)
    await store.delete("t", CONTEXT)
    assert await store.get("t", CONTEXT) is None


async def test_every_turn_is_counted_up_and_down_however_it_ends(live: LiveWorkspace) -> None:
    client = PlatformClient("http://127.0.0.1:9", "ws-self")
    heartbeat = Heartbeat(client)
    assert live.workspace.handler is not None
    live.workspace.handler.agent_executor = TurnExecutor(live.executor, heartbeat)
    live.workspace.handler._active_task_registry._agent_executor = live.workspace.handler.agent_executor
    before = {outcome: _turns(outcome) for outcome in ("completed", "failed", "canceled")}

    await live.send("say:x")
    await live.send("fail:quota")
    await live.send("raise:bug")
    running = asyncio.create_task(live.send("gate:never"))
    await live.executor.reached["never"].wait()
    assert heartbeat.active_tasks == 1
    assert REGISTRY.get_sample_value("molecule_turns_running") == 1
    working = {"status": "TASK_STATE_WORKING"}
    (active,) = (await live.rpc("ListTasks", working, A2A_Version="1.0", **credential()))["result"]["tasks"]
    await live.rpc("tasks/cancel", {"id": active["id"]})
    await running

    assert heartbeat.active_tasks == 0
    assert REGISTRY.get_sample_value("molecule_turns_running") == 0
    assert {outcome: _turns(outcome) - count for outcome, count in before.items()} == {
        "completed": 1,
        "failed": 2,
        "canceled": 1,
    }
    assert heartbeat.body()["error_rate"] == 0.5
    await client.aclose()


async def test_metrics_tell_numbers_and_no_word_of_a_conversation(live: LiveWorkspace) -> None:
    metrics.register_ages(lambda: 0.0)
    metrics.child_restarted()
    metrics.set_queue_depth(3)
    await live.send("say:confidential")
    text = (await live.http.get("/metrics")).text
    metrics.register_ages(lambda: None)
    metrics.set_queue_depth(0)
    for name in (
        'molecule_turns_total{outcome="completed"}',
        "molecule_turn_seconds_bucket",
        "molecule_turn_first_output_seconds_count",
        "molecule_turns_queued 3.0",
        "molecule_child_restarts_total",
        "molecule_credential_age_seconds",
    ):
        assert name in text
    assert "confidential" not in text


async def test_readiness_follows_the_adapters_health(live: LiveWorkspace) -> None:
    assert (await live.http.get("/readyz")).status_code == 200
    live.adapter.current_health = AdapterHealth(ready=False, detail="codex is starting")
    unready = await live.http.get("/readyz")
    assert (unready.status_code, unready.json()["reason"]) == (503, "codex is starting")
    live.workspace.stopping = True
    assert (await live.http.get("/readyz")).json()["reason"] == "stopping"
    assert (await live.http.get("/healthz")).json() == {"status": "alive"}


def _turns(outcome: str) -> float:
    return REGISTRY.get_sample_value("molecule_turns_total", {"outcome": outcome}) or 0.0
