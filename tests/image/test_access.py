"""Who may give orders to a workspace of the image: bearers at T4 and under the platform, and no page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.fake_platform import FakePlatform
from support.responses_server import Answer
from support.workspace_container import CONFIG, WorkspaceContainer, gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.responses_server import ResponsesServer

pytestmark = pytest.mark.anyio

CARD = "/.well-known/agent-card.json"


@pytest.fixture
async def platform() -> AsyncIterator[FakePlatform]:
    running = FakePlatform("test")
    await running.start(await gateway())
    yield running
    await running.stop()
    running.check()


def call() -> dict[str, Any]:
    message = {"messageId": "m1", "role": "user", "parts": [{"kind": "text", "text": "hello"}]}
    return {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": message}}


async def status(workspace: WorkspaceContainer, token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return (await workspace.http.post("/", json=call(), headers=headers)).status_code


async def test_a_workspace_that_sees_the_machine_and_has_no_platform_makes_its_own_bearer(
    image: str, model: ResponsesServer
) -> None:
    """Who reaches the port of such a workspace is root of the machine."""
    config = CONFIG.format(base_url=model.base_url)
    async with WorkspaceContainer(image, config, options=["--volume=/tmp:/host"]) as workspace:
        assert "POST / asks for a bearer (/host is the machine's file system)" in await workspace.logs()
        assert await workspace.sh("stat -c '%U %a' /configs/.a2a_token") == "agent 600"
        token = await workspace.sh("cat /configs/.a2a_token")
        assert [await status(workspace), await status(workspace, "wrong")] == [401, 401]
        assert not model.requests
        assert (await workspace.http.get(CARD)).json()["securitySchemes"]
        model.script(Answer.text("Hello."))
        assert await status(workspace, token) == 200
        await workspace.restart()
        model.script(Answer.text("Hello again."))
        assert await status(workspace, token) == 200
        assert token not in await workspace.logs()
        # What its commands see; whoever means to find the file is the agent, and so may read it.
        assert token not in await workspace.sh("cat /proc/1/environ | tr '\\0' '\\n'; env", user="agent")


async def test_a_token_that_is_given_is_asked_for_and_a_switch_turns_all_of_it_off(
    image: str, model: ResponsesServer
) -> None:
    config = CONFIG.format(base_url=model.base_url)
    token = "a-token-of-the-operator"
    given = {"CODEX_WORKSPACE_A2A_TOKEN": token}
    async with WorkspaceContainer(image, config, env=given) as workspace:
        assert await status(workspace) == 401
        model.script(Answer.text("Hello."))
        assert await status(workspace, token) == 200
        assert await workspace.sh("test ! -e /configs/.a2a_token && echo none") == "none"
        assert token not in await workspace.logs()
    off = {**given, "MOLECULE_A2A_REQUIRE_AUTH": "0", "TIER": "4"}
    async with WorkspaceContainer(image, config, env=off) as workspace:
        model.script(Answer.text("Hello."))
        assert await status(workspace) == 200
        assert "securitySchemes" not in (await workspace.http.get(CARD)).json()


async def test_under_a_platform_that_asks_strangers_are_refused_and_its_own_flow_goes_on(
    image: str, model: ResponsesServer, platform: FakePlatform
) -> None:
    model.script(Answer.text("I am here."))
    async with WorkspaceContainer(
        image,
        CONFIG.format(base_url=model.base_url) + "initial_prompt: Introduce yourself.\n",
        env={"MOLECULE_A2A_REQUIRE_AUTH": "true"},
        platform=platform,
    ) as workspace:
        await workspace.says("initial prompt delivered")
        secret = platform.workspaces["test"].inbound_secret
        assert [await status(workspace), await status(workspace, "wrong")] == [401, 401]
        model.script(Answer.text("Hello."))
        assert await status(workspace, secret) == 200
        headers = {"Authorization": f"Bearer {secret}"}
        told = (await workspace.http.get("/internal/a2a-auth-status", headers=headers)).json()
        assert (told["require_auth"], told["ready_to_enforce"]) == (True, True)
        assert (await workspace.http.get("/internal/a2a-auth-status")).status_code == 401


async def test_a_platform_that_does_not_ask_reaches_a_t4_workspace_without_a_bearer(
    image: str, model: ResponsesServer, platform: FakePlatform
) -> None:
    """It sends none to a workspace of its own engine, unless told to."""
    config = CONFIG.format(base_url=model.base_url)
    async with WorkspaceContainer(
        image, config, options=["--volume=/tmp:/host"], env={"TIER": "4"}, platform=platform
    ) as workspace:
        model.script(Answer.text("Hello."))
        assert await status(workspace) == 200
