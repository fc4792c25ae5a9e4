"""A boot of the image on a platform, in each set-up that it is meant for."""

from __future__ import annotations

import tomllib
import uuid
from typing import TYPE_CHECKING

import pytest

from support.codex_workbench import API_KEY
from support.responses_server import Answer, Call, ResponsesServer
from support.secret_search import find_secrets
from support.workspace_container import CONFIG, WorkspaceContainer, docker, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.fake_platform import FakePlatform

pytestmark = pytest.mark.anyio

LONGEST_STORY = 14
"""A boot is told in about a dozen lines."""

NO_KEY = {"STANDIN_KEY": ""}
MINIMAX = """\
model: codex-minimax-m2.7
providers:
  - name: minimax-token-plan
    auth_mode: openai_compat_responses
    auth_env: [MINIMAX_API_KEY]
    model_prefixes: [codex-minimax-]
    base_url: {base_url}
    model_provider_slug: minimax
    model_id_override: codex-MiniMax-M2.7
"""
SOCKET_GID = 54321
# An engine that says one word. Its socket is in a volume, and the workspace is given the socket alone.
ENGINE = f"""
import os, socket
server = socket.socket(socket.AF_UNIX)
server.bind("/host/docker.sock")
os.chown("/host/docker.sock", 0, {SOCKET_GID})
os.chmod("/host/docker.sock", 0o660)
server.listen()
while True:
    with server.accept()[0] as connection:
        connection.sendall(b"engine")
"""


async def proven(
    workspace: WorkspaceContainer, platform: FakePlatform, model: ResponsesServer, *facts: str
) -> str:
    """It registers, tells the story of its boot with these facts in it, and answers; returns the story."""
    story = await workspace.says("registered with the platform")
    assert len(story.splitlines()) <= LONGEST_STORY, story
    for fact in ("workspace test, platform http://", "codex-cli 0.130.0", *facts):
        assert fact in story
    (registration,) = platform.registrations
    assert registration["agent_card"]["configuration_status"] == "ready"
    model.script(Answer.text("Hello."))
    assert await workspace.answer("hello") == "Hello."
    return story


async def leaks_nothing(workspace: WorkspaceContainer, configs: str = "/configs", **belong: str) -> None:
    """The key is found in the files of `belong` only, the platform's two secrets in their own files.

    WORKSPACE_ID, which is no secret, shows that environments are looked at.
    """
    token, inbound = f"{configs}/.auth_token", f"{configs}/.platform_inbound_secret"
    secrets = {
        "key": API_KEY,
        "token": await workspace.sh(f"cat {token}"),
        "inbound": await workspace.sh(f"cat {inbound}"),
        "no secret": "WORKSPACE_ID=test",
    }
    found = await find_secrets(workspace, secrets)
    assert "environ of the first process" in found.pop("no secret")
    assert found == {"key": set(belong.values()), "token": {token}, "inbound": {inbound}}


async def test_an_api_key(image: str, model: ResponsesServer, platform: FakePlatform) -> None:
    async with WorkspaceContainer(
        image,
        "name: On a key\n",
        env={"OPENAI_API_KEY": API_KEY, **NO_KEY},
        home_files={".codex/config.toml": f'openai_base_url = "{model.base_url}"\n'},
        platform=platform,
    ) as workspace:
        await proven(
            workspace, platform, model, "credentials: OPENAI_API_KEY", "model=gpt-5.5 provider=openai-api"
        )
        assert model.requests[0].headers["authorization"] == f"Bearer {API_KEY}"
        assert await workspace.sh("stat -c '%a %U' /home/agent/.codex/auth.json") == "600 agent"
        assert not [line for _, line in await workspace.processes() if "codex_auth_refresh" in line]
        await leaks_nothing(workspace, login="/home/agent/.codex/auth.json")


async def test_a_vendor_with_its_own_key(image: str, model: ResponsesServer, platform: FakePlatform) -> None:
    async with WorkspaceContainer(
        image,
        MINIMAX.format(base_url=model.base_url),
        env={"MINIMAX_API_KEY": API_KEY, **NO_KEY},
        platform=platform,
    ) as workspace:
        await proven(
            workspace, platform, model, "credentials: MINIMAX_API_KEY", "provider=minimax-token-plan"
        )
        assert model.requests[0].headers["authorization"] == f"Bearer {API_KEY}"
        assert model.requests[0].body["model"] == "codex-MiniMax-M2.7"
        config = tomllib.loads(await workspace.sh("cat /home/agent/.codex/config.toml"))
        assert config["model_provider"] == "minimax"
        assert config["model_providers"]["minimax"]["wire_api"] == "responses"
        await leaks_nothing(workspace)


async def test_no_credential(image: str, model: ResponsesServer, platform: FakePlatform) -> None:
    """It registers all the same, and serves the reason and the remedy."""
    async with WorkspaceContainer(
        image, CONFIG.format(base_url=model.base_url), env=NO_KEY, platform=platform
    ) as workspace:
        story = await workspace.says("registered with the platform")
        assert len(story.splitlines()) <= LONGEST_STORY, story
        assert "credentials: none" in story
        assert "no credential for provider standin: set STANDIN_KEY" in story
        card = platform.registrations[0]["agent_card"]
        assert card["configuration_status"] == "not_configured"
        assert "set STANDIN_KEY" in card["configuration_error"]
        message = {"role": "user", "messageId": "m", "parts": [{"kind": "text", "text": "hello"}]}
        body = {"jsonrpc": "2.0", "id": 7, "method": "message/send", "params": {"message": message}}
        response = await workspace.http.post("/", json=body)
        assert (response.status_code, response.json()["id"]) == (503, 7)
        assert response.json()["error"]["code"] == -32603
        assert "set STANDIN_KEY" in response.json()["error"]["data"]
        ready = await workspace.http.get("/readyz")
        assert (ready.status_code, "set STANDIN_KEY" in ready.json()["reason"]) == (503, True)


async def test_configs_that_belong_to_root_with_the_token_that_the_platform_has_put_there(
    image: str, model: ResponsesServer, platform: FakePlatform
) -> None:
    token = platform.issue_token()
    async with WorkspaceContainer(
        image, CONFIG.format(base_url=model.base_url), files={".auth_token": token}, platform=platform
    ) as workspace:
        await proven(workspace, platform, model, "credentials: STANDIN_KEY")
        assert [call.authorized for call in platform.calls_to("register")] == [True]
        owners = await workspace.sh("stat -c '%a %u:%g' /configs/.auth_token /configs/config.yaml")
        assert owners.splitlines() == ["600 1000:1000", "644 1000:1000"]
        assert await workspace.sh("cat /configs/.auth_token", user="agent") == token
        await leaks_nothing(workspace)


async def test_a_read_only_root_with_configs_alone(
    image: str, model: ResponsesServer, platform: FakePlatform
) -> None:
    """Tier T1: no home and no /workspace that could be written, and a small /tmp that executes nothing."""
    async with WorkspaceContainer(
        image,
        CONFIG.format(base_url=model.base_url),
        mounts=["/configs"],
        options=["--read-only", "--tmpfs=/tmp:rw,noexec,nosuid,size=64m"],
        platform=platform,
    ) as workspace:
        await proven(workspace, platform, model, "so CODEX_HOME is /configs/.codex")
        model.script(
            Call("exec_command", {"cmd": "pwd; echo $CODEX_HOME; touch /tmp/written && ls /tmp"}),
            Answer.text("Done."),
        )
        assert await workspace.answer("where are you?") == "Done."
        (output,) = model.requests[-1].tool_outputs.values()
        assert "/home/agent\n/configs/.codex\n" in str(output)
        await leaks_nothing(workspace)


async def test_a_user_who_is_not_root(image: str, model: ResponsesServer, platform: FakePlatform) -> None:
    async with WorkspaceContainer(
        image,
        CONFIG.format(base_url=model.base_url),
        options=["--user=1000:1000"],
        owner=1000,
        platform=platform,
    ) as workspace:
        await proven(workspace, platform, model, "not root: ")
        assert {uid for uid, _ in await workspace.processes()} == {1000}
        await leaks_nothing(workspace, "/home/agent/.molecule-workspace")


@pytest.fixture
async def docker_socket(image: str) -> AsyncIterator[str]:
    """The path on the engine's machine of a socket that a group unknown to the image may use."""
    name = f"codex-workspace-test-{uuid.uuid4().hex[:10]}"
    command = ("--entrypoint=python3", image, "-c", ENGINE)
    await docker("run", "--detach", f"--name={name}", f"--volume={name}:/host", *command)
    try:
        directory = (await docker("volume", "inspect", "--format={{.Mountpoint}}", name)).strip()

        async def listening() -> bool:
            found = await docker("exec", name, "sh", "-c", "stat -c '%a %g' /host/docker.sock; true")
            return found.strip() == f"660 {SOCKET_GID}"

        await until(listening, "the socket is there")
        yield f"{directory}/docker.sock"
    finally:
        await docker("rm", "--force", name)
        await docker("volume", "rm", "--force", name)


async def test_a_docker_socket_of_a_group_that_the_image_does_not_know(
    image: str, model: ResponsesServer, platform: FakePlatform, docker_socket: str
) -> None:
    """B-23: the agent and its commands use it without sudo, and so do those who come in by `docker exec`."""
    async with WorkspaceContainer(
        image,
        CONFIG.format(base_url=model.base_url),
        options=[f"--volume={docker_socket}:/var/run/docker.sock"],
        platform=platform,
    ) as workspace:
        await proven(workspace, platform, model, "/var/run/docker.sock: open to the agent, who joined")
        groups = await workspace.sh("grep Groups /proc/1/status", user="agent")
        assert str(SOCKET_GID) in groups.split()
        assert str(SOCKET_GID) in await workspace.sh("id -G", user="agent")
        connect = "s = socket.socket(socket.AF_UNIX); s.connect('/var/run/docker.sock'); print(s.recv(9))"
        command = f'id -u; python3 -c "import socket; {connect}"'
        model.script(Call("exec_command", {"cmd": command}), Answer.text("Done."))
        assert await workspace.answer("ask the engine") == "Done."
        (output,) = model.requests[-1].tool_outputs.values()
        assert "1000\nb'engine'" in str(output)
