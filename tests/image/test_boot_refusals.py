"""What the image does with a setting that cannot be used: one clear line, and nothing damaged."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest

from support.codex_workbench import API_KEY
from support.responses_server import Answer, Call, ResponsesServer
from support.watchdog import auth_document
from support.workspace_container import CONFIG, WorkspaceContainer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.fake_platform import FakePlatform

pytestmark = pytest.mark.anyio

BOTH = {"CODEX_AUTH_JSON": json.dumps(auth_document(expires_in=86_400)), "OPENAI_API_KEY": API_KEY}
UNKNOWN = "name: Refusals\ncolour: blue\n"
AUTH = "/home/agent/.codex/auth.json"
CONFIG_TOML = "/home/agent/.codex/config.toml"


@pytest.fixture(scope="module")
async def workspace(image: str) -> AsyncIterator[WorkspaceContainer]:
    """One that starts again and again, each time with another mistake."""
    async with WorkspaceContainer(image, UNKNOWN, env={**BOTH, "STANDIN_KEY": ""}) as running:
        yield running


async def restarted(workspace: WorkspaceContainer, config: str = UNKNOWN, loader: str = "true\n") -> None:
    """Start it again with this config.yaml, and with a loader of secrets that may override its variables."""
    await workspace.put("/configs", {"config.yaml": config, "secrets.d/load.sh": loader}, owner=0)
    await workspace.restart()


async def reason(workspace: WorkspaceContainer) -> str:
    """Why it answers 503: the same words wherever it is asked, and in its log."""
    ready = await workspace.http.get("/readyz")
    message = {"role": "user", "messageId": "m", "parts": [{"kind": "text", "text": "hello"}]}
    body = {"jsonrpc": "2.0", "id": 7, "method": "message/send", "params": {"message": message}}
    response = await workspace.http.post("/", json=body)
    assert (ready.status_code, response.status_code, response.json()["id"]) == (503, 503, 7)
    text: str = ready.json()["reason"]
    assert response.json()["error"]["data"] == text
    assert text in await workspace.logs()
    return text


async def test_of_two_credentials_the_subscription_counts_and_an_unknown_key_is_said(
    workspace: WorkspaceContainer,
) -> None:
    """B-13: the key that is not used is named, and no provider's block is in config.toml."""
    story = await workspace.logs()
    assert "credentials: CODEX_AUTH_JSON, OPENAI_API_KEY" in story
    assert "credential=CODEX_AUTH_JSON model=gpt-5.5 provider=openai-subscription" in story
    (unused,) = [line for line in story.splitlines() if "credential.unused" in line]
    assert "variable=OPENAI_API_KEY" in unused
    (warning,) = [line for line in story.splitlines() if "colour" in line]
    assert "[WARN]" in warning
    assert (await workspace.http.get("/readyz")).json() == {"ready": True}
    assert "model_provider" not in await workspace.sh(f"cat {CONFIG_TOML}")
    assert API_KEY not in await workspace.sh(f"cat {AUTH}")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("model: [\n", "/configs/config.yaml: line 2, column 1 is not YAML"),
        ("model: openai\n", "model is 'openai', which is the name of a provider"),
        ("runtime_config: {provider: nobody}\n", "runtime_config.provider is 'nobody', which is not in the"),
    ],
    ids=["no YAML", "provider as model", "provider"],
)
async def test_a_config_yaml_that_cannot_be_used_is_served_as_the_reason_and_left_as_it_is(
    workspace: WorkspaceContainer, wrong: str, words: str
) -> None:
    """B-11, among them."""
    await restarted(workspace, wrong)
    assert words in await reason(workspace)
    assert await workspace.sh("cat /configs/config.yaml") == wrong.strip()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{no", "CODEX_AUTH_JSON is not JSON (line 1, column 2)"),
        ('{"tokens": {"access_token": "a-secret"}}', "CODEX_AUTH_JSON lacks tokens.refresh_token"),
        ('{"auth_mode": "apikey", "OPENAI_API_KEY": "a-secret"}', "is for auth_mode 'apikey'"),
    ],
    ids=["no JSON", "no tokens", "another mode"],
)
async def test_a_subscription_that_cannot_be_used_is_served_as_the_reason_and_auth_json_is_kept(
    workspace: WorkspaceContainer, given: str, words: str
) -> None:
    before = await workspace.sh(f"cat {AUTH}")
    await restarted(workspace, loader=f"export CODEX_AUTH_JSON={shlex.quote(given)}\n")
    assert words in await reason(workspace)
    assert await workspace.sh(f"cat {AUTH}") == before
    assert "a-secret" not in await workspace.logs()


async def test_a_config_toml_that_is_not_toml_is_refused_with_the_line_and_left_as_it_is(
    workspace: WorkspaceContainer,
) -> None:
    """codex itself would go on with its defaults, and with its sandbox."""
    wrong = 'model = "gpt-5.4"\n\n[mcp_servers.mine]\ncommand = "mine'
    await workspace.sh(f"printf %s {shlex.quote(wrong)} > {CONFIG_TOML}", user="agent")
    await restarted(workspace)
    assert f"{CONFIG_TOML}:4:" in await reason(workspace)
    assert await workspace.sh(f"cat {CONFIG_TOML}") == wrong
    await workspace.sh(f"rm {CONFIG_TOML}")


async def test_a_loader_of_secrets_that_fails_stops_the_boot(workspace: WorkspaceContainer) -> None:
    await workspace.put("/configs", {"secrets.d/load.sh": "export A=1\ncat /nowhere/secret\n"}, owner=0)
    with pytest.raises(AssertionError, match=r"/configs/secrets.d/load.sh failed \(exit code 1"):
        await workspace.restart()
    assert (await workspace.state())["ExitCode"] == 78


async def test_configs_that_cannot_be_written_leave_the_token_in_the_home(
    image: str, model: ResponsesServer, platform: FakePlatform
) -> None:
    """B-1: the runtime and the MCP child look in the same place."""
    async with WorkspaceContainer(
        image,
        CONFIG.format(base_url=model.base_url),
        mounts=("/configs:ro", "/home/agent", "/workspace"),
        platform=platform,
    ) as workspace:
        story = await workspace.says("registered with the platform")
        assert "/configs: " in story
        assert "stay with their owner" in story
        assert await workspace.sh("stat -c %a /home/agent/.molecule-workspace/.auth_token") == "600"
        model.script(Call("list_peers", namespace="mcp__molecule__"), Answer.text("Bee."))
        assert await workspace.answer("who is there?") == "Bee."
        assert "Bee (ID: ws-b" in str(model.requests[1].tool_outputs)


async def test_a_token_for_which_the_disk_has_no_room_is_used_and_the_old_file_is_whole(
    image: str, model: ResponsesServer, platform: FakePlatform
) -> None:
    token = platform.issue_token()
    # One page, which the token of the platform fills.
    full = "/full"
    async with WorkspaceContainer(
        image,
        CONFIG.format(base_url=model.base_url),
        env={"CONFIGS_DIR": full},
        files={"secrets.d/load.sh": f"[ -e {full}/.auth_token ] || printf %s {token} > {full}/.auth_token\n"},
        options=[f"--tmpfs={full}:size=4k,uid=1000,gid=1000"],
        platform=platform,
    ) as workspace:
        story = await workspace.says("registered with the platform")
        assert "the platform's secret cannot be saved" in story
        platform.rotate_token()
        model.script(Answer.text("Hello."), Answer.text("Hello again."))
        assert await workspace.answer("hello") == "Hello."
        story = await workspace.says("the workspace token cannot be saved")
        assert "No space left on device" in story
        platform.calls.clear()
        assert await workspace.answer("hello again") == "Hello again."
        await platform.wait_for(lambda: any(call.authorized for call in platform.calls_to("heartbeat")))
        assert await workspace.sh(f"cat {full}/.auth_token") == token
