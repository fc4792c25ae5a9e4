"""What the platform sees of a workspace at work, and which provider it works on, in the image."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from support.codex_workbench import API_KEY
from support.predecessor_toml import FORMS
from support.responses_server import Answer, Call, ResponsesServer, Silence
from support.token_endpoint import jwt
from support.watchdog import DAY, auth_document
from support.workspace_container import CONFIG, WorkspaceContainer, docker, send

if TYPE_CHECKING:
    from support.fake_platform import FakePlatform

pytestmark = pytest.mark.anyio

TOML = "/home/agent/.codex/config.toml"
SENTINEL = "sentinel-of-git"
PATCH = "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: notes.txt\n+hello\n*** End Patch\nEOF\n"
ACCOUNT = {"chatgpt_plan_type": "pro", "chatgpt_account_id": "account-1", "chatgpt_user_id": "user-1"}


async def test_the_platform_sees_each_tool_and_no_secret(
    image: str, model: ResponsesServer, platform: FakePlatform
) -> None:
    async with WorkspaceContainer(
        image,
        CONFIG.format(base_url=model.base_url),
        env={"GITEA_TOKEN": SENTINEL},
        platform=platform,
    ) as workspace:
        await workspace.says("registered with the platform")
        model.script(
            Call("exec_command", {"cmd": f"echo {API_KEY} {SENTINEL}"}),
            Call("exec_command", {"cmd": PATCH}),
            Call("list_peers", namespace="mcp__molecule__"),
            Answer.text("Done."),
        )
        sent = send(await workspace.client(), "do it")
        assert await sent.completed() == "Done."
        await platform.wait_for(lambda: len(platform.activities) >= 3)
        rows = [row for row in platform.activities if row["activity_type"] == "agent_log"]
        assert [row["summary"] for row in rows] == [
            "🛠 commandExecution(echo [redacted] [redacted])",
            "🛠 fileChange(/workspace/notes.txt)",
            "🛠 mcp__molecule__list_peers()",
        ]
        assert {(row["source_id"], row["target_id"]) for row in rows} == {("test", "test")}
        for secret in (API_KEY, SENTINEL):
            assert secret not in str([platform.activities, platform.heartbeats])


async def test_a_long_turn_that_shows_nothing_tells_the_platform_that_it_lives(
    image: str, model: ResponsesServer, platform: FakePlatform
) -> None:
    async with WorkspaceContainer(
        image,
        CONFIG.format(base_url=model.base_url) + "bridge: {activity_seconds: 0.5}\n",
        platform=platform,
    ) as workspace:
        await workspace.says("registered with the platform")
        silence = Silence()
        model.script(silence)
        client = await workspace.client()
        sent = await send(client, "count the stars").working()
        await silence.reached.reached()
        await platform.wait_for(lambda: len(platform.activities) >= 3)
        await platform.wait_for(lambda: platform.heartbeats[-1]["current_task"] == "count the stars")
        assert {row["summary"] for row in platform.activities} == {"Working (0 min): count the stars"}
        assert {row["activity_type"] for row in platform.activities} == {"task_update"}
        assert not sent.is_over
        await docker("stop", "--time=10", workspace.name)
        await sent.ended()


@pytest.mark.parametrize("form", ["the oldest script", "the renderer, then a login"])
async def test_a_subscription_on_a_volume_that_ran_minimax_before(
    image: str, model: ResponsesServer, platform: FakePlatform, form: str
) -> None:
    """B-13: the boot named the subscription, and the messages went to the vendor."""
    claims = {"email": "user@example.com", "https://api.openai.com/auth": ACCOUNT}
    account = auth_document(expires_in=10 * DAY, id_token=jwt(claims))
    own = f'openai_base_url = "{model.base_url}"\n{FORMS[form]}'
    own += "[features]\nenable_request_compression = false\n"
    model.api_key, key = None, model.api_key
    async with WorkspaceContainer(
        image,
        "name: Moved\n",
        env={"CODEX_AUTH_JSON": json.dumps(account), "MINIMAX_API_KEY": "minimax-key", "STANDIN_KEY": ""},
        home_files={".codex/config.toml": own},
        platform=platform,
    ) as workspace:
        story = await workspace.says("registered with the platform")
        assert "provider=openai-subscription" in story
        assert "config_toml.taken_out" in story
        model.script(Answer.text("Hello."))
        assert await workspace.answer("hello") == "Hello."
        assert "provider=openai " in f"{await workspace.says('thread.ready')} "
        assert model.requests[0].headers["authorization"] == f"Bearer {account['tokens']['access_token']}"
        assert model.requests[0].body["model"] == "gpt-5.5"
        assert not {"model", "model_provider", "model_providers"} & set(
            tomllib.loads(await workspace.sh(f"cat {TOML}"))
        )
    model.api_key = key


async def test_the_commands_of_before_need_no_credential(image: str) -> None:
    async with WorkspaceContainer(image, "name: Bare\n", env={"STANDIN_KEY": ""}) as workspace:
        for command, words in (
            ("codex_minimax_config.sh", "no MINIMAX_API_KEY"),
            ("codex_mcp_config.sh", "nothing of a provider"),
            ("render_provider_toml.py", "nothing of a provider"),
        ):
            assert words in await docker("exec", workspace.name, command)
        document = tomllib.loads(await workspace.sh(f"cat {TOML}"))
        assert document["mcp_servers"]["molecule"]["command"] == "/usr/local/bin/python3"
        assert await workspace.sh(f"stat -c '%a %U' {TOML}") == "600 agent"
        assert "model_provider" not in document
        python = f"--env=MOLECULE_MCP_PYTHON={document['mcp_servers']['molecule']['command']}"
        await docker("exec", python, "--env=MINIMAX_API_KEY=k", workspace.name, "codex_minimax_config.sh")
        document = tomllib.loads(await workspace.sh(f"cat {TOML}"))
        assert document["model_provider"] == "minimax"
        wrong = "--env=MOLECULE_MCP_PYTHON=python3"
        refused = await docker("exec", wrong, workspace.name, "codex_mcp_config.sh", check=False)
        assert "must be the absolute path" in refused
