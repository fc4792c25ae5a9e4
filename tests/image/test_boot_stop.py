"""How a workspace of the image ends: on request, with its turn interrupted and its state saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from a2a.types import TaskState

from support.responses_server import Answer, Call, ResponsesServer, Silence
from support.workspace_container import CONFIG, WorkspaceContainer, docker, send, until

if TYPE_CHECKING:
    from support.fake_platform import FakePlatform

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("options", [[], ["--init"]], ids=["as the first process", "under tini"])
async def test_sigterm_ends_it_within_the_engines_ten_seconds(
    image: str, model: ResponsesServer, platform: FakePlatform, options: list[str]
) -> None:
    """After ten seconds the engine kills, and the exit code is 137."""
    silence = Silence()
    left_behind = "setsid sleep 100 >/dev/null 2>&1 </dev/null & exit 0"
    model.script(Answer.text("Noted."), Call("exec_command", {"cmd": left_behind}), silence)
    async with WorkspaceContainer(
        image, CONFIG.format(base_url=model.base_url), options=options, platform=platform
    ) as workspace:
        assert await workspace.answer("my colour is blue") == "Noted."
        sent = send(await workspace.client(), "hang")
        await model.request(3)

        async def nothing_dead() -> bool:
            return not await workspace.dead()

        await until(nothing_dead, "no dead process is left")
        await docker("stop", "--time=10", workspace.name)
        assert (await sent.ended()).state == TaskState.TASK_STATE_CANCELED
        assert (await workspace.state())["ExitCode"] == 0
        assert "stopped" in (await workspace.logs()).splitlines()[-1]
        assert platform.heartbeats[-1]["active_tasks"] == 0
        await workspace.start()
        model.script(Answer.text("Blue."))
        assert await workspace.answer("which colour?") == "Blue."
        assert model.requests[-1].user_texts[-3:] == ["my colour is blue", "hang", "which colour?"]
