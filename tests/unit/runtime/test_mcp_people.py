"""Tools that reach a person, all workspaces, or the workspace's own goal, by the official client."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime import goals
from molecule_runtime.cards import registered_card
from molecule_runtime.config import WorkspaceConfig
from molecule_runtime.goals import GoalError, Goals, Tasks
from support.fake_platform import FakePlatform, Peer
from support.mcp_agent import agent_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.mcp_agent import Agent
    from unit.runtime.conftest import LiveWorkspace

pytestmark = pytest.mark.anyio


@pytest.fixture
async def agent(platform: FakePlatform, configs: Path) -> AsyncIterator[Agent]:
    async with agent_process(
        platform, configs, MODEL="gpt-5.5", MODEL_PROVIDER="openai-api", TIER="4"
    ) as running:
        yield running


async def test_a_request_is_put_before_a_person_and_the_decision_reaches_the_workspace(
    agent: Agent, live: LiveWorkspace
) -> None:
    given = {
        "kind": "task",
        "title": "Buy a domain",
        "detail": "key sk-abcdefghijklmnopqrstuvwx",
        "priority": 2,
    }
    raised = json.loads(await agent.call("create_request", **given))
    approval = json.loads(await agent.call("create_approval", action="Deploy", reason="It is ready"))
    assert (raised["status"], approval["status"]) == ("pending", "pending")
    task, asked = agent.platform.requests
    assert task["recipient_type"] == "user"
    assert task["detail"] == "key [redacted]"
    assert (asked["kind"], asked["title"], asked["detail"]) == ("approval", "Deploy", "It is ready")
    assert "priority" not in asked
    agent.platform.workspaces["ws-self"].url = live.url
    answer = await agent.platform.answer_request(approval["request_id"], "approved")
    assert "result" in answer


async def test_what_was_said_with_a_peer_is_read_oldest_first_and_page_by_page(agent: Agent) -> None:
    for number in range(3):
        agent.platform.activities.append(
            {
                "source_id": "ws-self",
                "target_id": "ws-b",
                "summary": str(number),
                "created_at": f"2026-01-0{number + 1}",
            }
        )
    found = json.loads(await agent.call("chat_history", peer_id="ws-b", limit=2))
    assert [row["summary"] for row in found["messages"]] == ["1", "2"]
    older = json.loads(await agent.call("chat_history", peer_id="ws-b", before_ts="2026-01-02"))
    assert [row["summary"] for row in older["messages"]] == ["0"]
    assert "before_ts" in await agent.error("chat_history", peer_id="ws-b", before_ts="yesterday")
    assert "limit" in await agent.error("chat_history", peer_id="ws-b", limit=501)


async def test_the_identity_is_told_without_asking_anybody(agent: Agent) -> None:
    told = json.loads(await agent.call("get_runtime_identity"))
    assert (told["model"], told["model_provider"], told["tier"]) == ("gpt-5.5", "openai-api", "4")
    assert told["workspace_id"] == "ws-self"
    assert agent.platform.calls == []


async def test_a_changed_card_is_registered_so_from_then_on(agent: Agent, configs: Path) -> None:
    me = agent.platform.workspaces["ws-self"]
    me.agent_card = {"name": "Self", "url": "http://localhost:8000", "version": "1.0.0"}
    answer = json.loads(await agent.call("update_agent_card", card={"description": "Reviews code"}))
    assert answer == {"success": True, "status": "updated"}
    assert me.agent_card == {
        "name": "Self",
        "url": "http://localhost:8000",
        "version": "1.0.0",
        "description": "Reviews code",
    }
    assert registered_card(WorkspaceConfig(name="Self"), "http://h:8000")["description"] == "Reviews code"
    for bad in ({}, {"url": "http://evil.example"}, {"name": "x", "capabilities": {}}):
        assert "give one or more of name, description" in await agent.error("update_agent_card", card=bad)
    agent.platform.reject_next("update-card", 400)
    refused = json.loads(await agent.error("update_agent_card", card={"name": "x"}))
    assert (refused["success"], refused["status_code"]) == (False, 400)
    (configs / ".agent_card.json").write_text("{")
    assert registered_card(WorkspaceConfig(name="Self"), "http://h:8000")["name"] == "Self"


async def test_a_broadcast_reaches_all_or_says_that_it_is_not_allowed(agent: Agent) -> None:
    agent.platform.add_peer(Peer("ws-b", "Bee", parent_id="ws-parent"))
    assert json.loads(await agent.call("broadcast_message", message="hi")) == {
        "status": "sent",
        "delivered": 1,
    }
    assert agent.platform.broadcasts == ["hi"]
    agent.platform.switches.may_broadcast = False
    assert "broadcast_disabled" in await agent.error("broadcast_message", message="hi")


async def test_a_goal_and_tasks_outlive_the_conversation(
    agent: Agent, platform: FakePlatform, configs: Path
) -> None:
    assert json.loads(await agent.call("goal_get"))["goal"] is None
    assert json.loads(await agent.call("goal_set", goal="Keep the suite green"))["cadence_seconds"] == 3600
    assert "cadence_seconds" in await agent.error("goal_set", goal="x", cadence_seconds=299)
    first = json.loads(await agent.call("task_add", title="Fix the flake", next_action="run it 50 times"))[
        "id"
    ]
    second = json.loads(await agent.call("task_add", title="Write the page"))["id"]
    await agent.call("task_update", task_id=first, status="current")
    await agent.call("task_update", task_id=second, status="current", next_action="outline")
    async with agent_process(platform, configs) as later:
        assert json.loads(await later.call("goal_get"))["goal"]["goal"] == "Keep the suite green"
        listed = json.loads(await later.call("task_list"))["tasks"]
        assert [(task["id"], task["status"], task["next_action"]) for task in listed] == [
            (second, "current", "outline"),
            (first, "paused", "run it 50 times"),
        ]
        await later.call("task_complete", task_id=second)
        assert [task["id"] for task in json.loads(await later.call("task_list"))["tasks"]] == [first]
        assert "there is no task nope" in await later.error("task_update", task_id="nope", status="done")
        assert "status" in await later.error("task_update", task_id=first, status="finished")
        await later.call("goal_clear")
        assert json.loads(await later.call("goal_get"))["goal"] is None


async def test_a_role_without_the_right_asks_no_person_and_tells_no_workspace(
    platform: FakePlatform, configs: Path
) -> None:
    (configs / "config.yaml").write_text("rbac: {roles: [read-only]}\n")
    async with agent_process(platform, configs) as agent:
        refused: list[tuple[str, dict[str, Any], str]] = [
            ("create_request", {"kind": "task", "title": "x"}, "approve"),
            ("create_approval", {"action": "x"}, "approve"),
            ("broadcast_message", {"message": "x"}, "delegate"),
            ("update_agent_card", {"card": {"name": "x"}}, "delegate"),
        ]
        for tool, arguments, right in refused:
            assert f"do not allow {right}" in await agent.error(tool, **arguments)
    assert platform.calls == []


def test_files_that_a_person_broke_are_an_error_with_a_remedy_and_stay(tmp_path: Path) -> None:
    (tmp_path / "goal.yaml").write_text("goal: [")
    (tmp_path / "tasks.json").write_text("{")
    with pytest.raises(GoalError, match="set the goal anew"):
        Goals(tmp_path).get()
    with pytest.raises(GoalError, match="move it away"):
        Tasks(tmp_path).add("x")
    assert (tmp_path / "tasks.json").read_text() == "{"
    (tmp_path / "goal.yaml").write_text("just text")
    assert Goals(tmp_path).get() is None
    (tmp_path / "tasks.json").write_text('[{"id": "a", "status": "odd"}, 3, {"id": "b", "status": "queued"}]')
    assert [task["id"] for task in Tasks(tmp_path).listed()] == ["b"]


async def test_servers_that_write_at_once_lose_no_task(tmp_path: Path) -> None:
    await asyncio.gather(*(asyncio.to_thread(Tasks(tmp_path).add, f"task {number}") for number in range(20)))
    assert len(Tasks(tmp_path).listed(limit=100)) == 20


def test_of_ended_tasks_only_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goals, "_KEPT_ENDED", 2)
    tasks = Tasks(tmp_path)
    for number in range(4):
        tasks.update(tasks.add(str(number))["id"], "done")
    assert [task["title"] for task in tasks.listed("done")] == ["2", "3"]


def test_without_a_place_to_write_the_error_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GoalError, match="cannot be written"):
        Goals(tmp_path / "file" / "x").set("goal")
