"""A budget stops the agent of the image, says so, and holds over a restart; what was used is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.responses_server import Answer, Call, ResponsesServer, Usage
from support.workspace_container import CONFIG, WorkspaceContainer, gateway, send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

MORE = "prices:\n  gpt-5.5: {input: 1000, output: 1000}\nbudgets:\n  daily: {tokens: 100000}\n"


@pytest.fixture
async def model() -> AsyncIterator[ResponsesServer]:
    usage = Usage(input=60, output=40)
    async with ResponsesServer(host=await gateway(), usage=lambda _number: usage) as server:
        yield server
        server.check()


async def test_a_daily_budget_stops_a_turn_says_so_and_survives_a_restart(
    image: str, model: ResponsesServer
) -> None:
    model.script(Answer.text("Hello."))
    config = CONFIG.format(base_url=model.base_url) + MORE
    env = {"CODEX_WORKSPACE_BUDGET_DAILY_TOKENS": "250"}
    async with WorkspaceContainer(image, config, env=env) as workspace:
        assert await workspace.answer("hello") == "Hello."
        model.responder = lambda _request: Call("exec_command", {"cmd": "true"})
        working = send(await workspace.client(), "work without end")
        reason = await working.failed()
        assert working.failure == "budget"
        assert "The daily budget is 250 tokens, and 300 tokens are spent" in reason
        assert "opens again at" in reason
        asked = len(model.requests)
        await workspace.restart()
        again = send(await workspace.client("0.3"), "and now?")
        assert "300 tokens are spent" in await again.failed()
        assert again.failure == "budget"
        assert len(model.requests) == asked
        ready = (await workspace.http.get("/readyz")).json()
        assert ready["ready"] is True
        assert "daily budget" in ready["detail"]
        metrics = (await workspace.http.get("/metrics")).text
        assert 'molecule_budget_remaining{period="daily",unit="tokens"} 0.0' in metrics
        assert "molecule_monthly_spend_cents 30.0" in metrics
        assert "molecule_budget_closed 1.0" in metrics


async def test_a_damaged_ledger_stops_nothing_and_is_told(image: str, model: ResponsesServer) -> None:
    model.script(Answer.text("Hello."), Answer.text("Still here."))
    config = CONFIG.format(base_url=model.base_url) + MORE
    async with WorkspaceContainer(image, config) as workspace:
        assert await workspace.answer("hello") == "Hello."
        await workspace.restart()
        await workspace.sh("head -c 4096 /dev/urandom > /configs/.codex_usage.jsonl")
        await workspace.restart()
        assert await workspace.answer("and now?") == "Still here."
        assert "ledger was damaged" in (await workspace.http.get("/readyz")).json()["detail"]
        assert "molecule_usage_ledger_damaged 1.0" in (await workspace.http.get("/metrics")).text
