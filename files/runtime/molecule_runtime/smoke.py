"""`MOLECULE_SMOKE_MODE`: everything built and called once, without a port and without the platform.

A smoke run that only imports modules misses what fails at construction (B-17): this one builds both cards
and sends one message through the real application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from molecule_runtime import logs
from molecule_runtime.initial_prompt import self_message

if TYPE_CHECKING:
    from molecule_runtime.boot import Boot

__all__ = ["smoke"]

_log = logs.get_logger(__name__)

_TIMEOUT = 60.0


async def smoke(boot: Boot) -> int:
    """0 if the cards are served and a message becomes a task, whatever the model says to it; else 1."""
    assert boot.app is not None  # noqa: S101 (prepare() comes first)
    if boot.problem:
        _log.error("[FAIL] smoke: the agent is not configured", reason=boot.problem)
        return 1
    transport = httpx.ASGITransport(boot.app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost", timeout=_TIMEOUT
    ) as client:
        for version in ("1.0", "0.3"):
            card = await client.get("/.well-known/agent-card.json", headers={"A2A-Version": version})
            card.raise_for_status()
        request = self_message("smoke", "Say ok.")
        request["params"]["configuration"] = {"blocking": False}
        answer = (await client.post("/", json=request)).json()
    if boot.executor is not None and boot.adapter is not None:
        await boot.executor.stop_all("smoke run")
        await boot.adapter.close()
        await boot.executor.abandon_all()
    result = answer.get("result", {})
    if result.get("kind") != "task":
        _log.error("[FAIL] smoke: the message did not become a task", answer=str(answer)[:500])
        return 1
    _log.info("smoke: cards and one message are fine", task_state=result["status"]["state"])
    return 0
