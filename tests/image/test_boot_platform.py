"""One workspace on a platform: its first words, tools, tokens that change, a restart, and its secrets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.codex_workbench import API_KEY
from support.fake_platform import FakePlatform, Peer
from support.git_remote import GitRemote
from support.responses_server import Answer, Call, ResponsesServer
from support.secret_search import find_secrets
from support.workspace_container import CONFIG, WorkspaceContainer, gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

# What a provisioner may give beside the key that is in use. git's own are meant for the agent's commands.
SECRETS = {
    "OPENAI_API_KEY": "sk-of-another-provider",
    "MINIMAX_API_KEY": "minimax-of-another-provider",
    "MOLECULE_LLM_USAGE_TOKEN": "usage-token-of-the-platform",
    "MOLECULE_BOOT_TOKEN": "boot-token-of-the-platform",
    "MOLECULE_CONFIG_BOOT_TOKEN": "config-token-of-the-platform",
    "ADMIN_TOKEN": "admin-token-of-the-platform",
    "MOLECULE_ADMIN_TOKEN": "another-admin-token",
    "CP_UPSTREAM_SECRET": "secret-of-the-control-plane",
    "PLATFORM_INBOUND_SECRET": "given-inbound-secret",
}
GIT = {"GIT_HTTP_USERNAME": "someone", "GIT_HTTP_PASSWORD": "the-password-of-git"}
INITIAL = "Introduce yourself."
MORE = f"initial_prompt: {INITIAL}\nobservability: {{heartbeat_interval_seconds: 5}}\n"
STATE_TOKEN = "/configs/.auth_token"
"""Where the workspace keeps its token."""


@pytest.fixture(scope="module")
async def platform() -> AsyncIterator[FakePlatform]:
    running = FakePlatform("test")
    running.switches.org_id = "org-1"
    running.add_peer(Peer("ws-b", "Bee", role="tester", parent_id="ws-parent"))
    await running.start(await gateway())
    yield running
    await running.stop()
    running.check()


@pytest.fixture(scope="module")
async def workspace(
    image: str, standin: ResponsesServer, platform: FakePlatform
) -> AsyncIterator[WorkspaceContainer]:
    """One workspace for all tests here. Its first words are answered before the first test."""
    standin.script(Answer.text("I am here."))
    async with WorkspaceContainer(
        image,
        CONFIG.format(base_url=standin.base_url) + MORE,
        env={**SECRETS, **GIT, "MOLECULE_ORG_ID": "org-1"},
        files={"system-prompt.md": "You are terse."},
        platform=platform,
    ) as running:
        await running.says("initial prompt delivered")
        yield running


async def run(workspace: WorkspaceContainer, model: ResponsesServer, command: str) -> str:
    """What a shell command of the model prints."""
    model.script(Call("exec_command", {"cmd": command, "max_output_tokens": 20_000}), Answer.text("Done."))
    assert await workspace.answer("run it") == "Done."
    return output_of(model)


def output_of(model: ResponsesServer) -> str:
    """The output of the newest call of a tool."""
    (*_, output) = model.requests[-1].tool_outputs.values()
    return output if isinstance(output, str) else json.dumps(output)


def tool(name: str, **arguments: Any) -> Call:
    return Call(name, arguments, namespace="mcp__molecule__")


async def test_the_initial_prompt_is_sent_once_through_the_platform(
    workspace: WorkspaceContainer, standin: ResponsesServer, platform: FakePlatform
) -> None:
    """B-43: in an image that says nothing of its readiness but opens its port."""
    (sent,) = platform.calls_to("a2a")
    assert (sent.status, sent.authorized, sent.source) == (200, True, "test")
    assert sent.body["params"]["message"]["messageId"].startswith("initial-")
    assert standin.requests[0].last_user_text == INITIAL
    assert await workspace.sh("cat /configs/.initial_prompt_done") == "attempted"


async def test_the_system_prompt_of_the_workspace_reaches_the_model(
    workspace: WorkspaceContainer, model: ResponsesServer
) -> None:
    """B-30: an adapter that does not fill it in gives codex empty instructions."""
    model.script(Answer.text("Hello."))
    assert await workspace.answer("hello") == "Hello."
    assert any("You are terse." in text for role, text in model.requests[0].texts if role == "developer")


async def test_a_turn_is_counted_up_and_down_again(
    workspace: WorkspaceContainer, model: ResponsesServer, platform: FakePlatform
) -> None:
    platform.heartbeats.clear()
    model.script(Answer.text("Hello."))
    assert await workspace.answer("hello") == "Hello."
    await platform.wait_for(lambda: [beat["active_tasks"] for beat in platform.heartbeats][-2:] == [1, 0])


async def test_codexs_own_mcp_child_brings_the_peers_into_the_turn(
    workspace: WorkspaceContainer, model: ResponsesServer, platform: FakePlatform
) -> None:
    """B-1, B-2: it finds the interpreter, the runtime, the directory and the token."""
    model.script(tool("list_peers"), Answer.text("Bee is there."))
    assert await workspace.answer("who is there?") == "Bee is there."
    assert "Bee (ID: ws-b, status: online, role: tester)" in output_of(model)
    (asked,) = platform.calls_to("peers")
    assert (asked.authorized, asked.org) == (True, "org-1")


async def test_the_agent_delegates_remembers_and_tells_the_user(
    workspace: WorkspaceContainer, model: ResponsesServer, platform: FakePlatform
) -> None:
    await workspace.sh("echo figures > /workspace/report.txt", user="agent")
    model.script(
        (
            tool("delegate_task_async", workspace_id="ws-b", task="count"),
            tool("commit_memory", content="blue is the colour"),
            tool("send_message_to_user", message="See.", attachments=["/workspace/report.txt"]),
            tool("get_workspace_info"),
        ),
        tool("recall_memory", query="blue"),
        Answer.text("All done."),
    )
    assert await workspace.answer("do all that") == "All done."
    assert [row["target_id"] for row in platform.delegations] == ["ws-b"]
    assert "blue is the colour" in output_of(model)
    (told,) = platform.notifications
    assert (told["message"], told["attachments"][0]["name"]) == ("See.", "report.txt")
    stored = told["attachments"][0]["uri"].removeprefix("workspace:")
    assert await workspace.sh(f"cat {stored}") == "figures"


async def test_a_token_that_is_revoked_and_written_anew_breaks_no_call(
    workspace: WorkspaceContainer, model: ResponsesServer, platform: FakePlatform
) -> None:
    """B-45, as the platform restarts a workspace in Docker."""
    token = platform.issue_token()
    await workspace.put("/configs", {".auth_token": token}, owner=1000)
    model.script(tool("list_peers"), Answer.text("Still there."))
    assert await workspace.answer("and now?") == "Still there."
    assert "Bee (ID: ws-b" in output_of(model)
    await platform.wait_for(lambda: platform.calls_to("heartbeat")[-1].authorized)
    assert await workspace.sh(f"cat {STATE_TOKEN}") == token


async def test_a_token_that_is_only_revoked_is_renewed_by_the_workspace(
    workspace: WorkspaceContainer, model: ResponsesServer, platform: FakePlatform
) -> None:
    """As the platform does it in the cloud: the next registration without a bearer mints one."""
    before = await workspace.sh(f"cat {STATE_TOKEN}")
    platform.rotate_token()
    platform.calls.clear()
    model.script(Answer.text("Hello."), tool("list_peers"), Answer.text("Still there."))
    assert await workspace.answer("hello") == "Hello."
    await platform.wait_for(lambda: any(c.authorized for c in platform.calls_to("heartbeat")))
    assert await workspace.answer("and now?") == "Still there."
    assert "Bee (ID: ws-b" in output_of(model)
    assert await workspace.sh(f"cat {STATE_TOKEN}") != before
    assert await workspace.sh(f"stat -c '%a %U' {STATE_TOKEN}") == "600 agent"


async def test_no_command_of_the_model_sees_a_credential(
    workspace: WorkspaceContainer, model: ResponsesServer
) -> None:
    """Neither in its own environment, nor in that of another process, nor behind a descriptor."""
    seen = await run(
        workspace,
        model,
        "env; cat /proc/[0-9]*/environ | tr '\\0' '\\n' | sort -u;"
        " for file in /proc/[0-9]*/fd/*; do case $(readlink $file) in /memfd:*) cat $file;; esac; done; true",
    )
    assert "WORKSPACE_ID=test" in seen
    assert "GIT_HTTP_PASSWORD=" in seen
    assert not [name for name, secret in {**SECRETS, "STANDIN_KEY": API_KEY}.items() if secret in seen]


async def test_git_logs_in_to_a_private_remote_without_being_told(
    workspace: WorkspaceContainer, model: ResponsesServer, tmp_path: Path
) -> None:
    """B-10: askpass answers a real challenge, for a push too, and nothing is left on disk."""
    with GitRemote(tmp_path, await gateway(), *GIT.values()) as remote:
        said = await run(
            workspace,
            model,
            f"set -e; git clone --quiet {remote.url} /workspace/clone 2>&1; cd /workspace/clone;"
            " echo pushed > file.txt; git add file.txt;"
            " git -c user.name=agent -c user.email=agent@localhost commit --quiet -m first;"
            " git push --quiet origin HEAD:main 2>&1; cat .git/config; rm -r /workspace/clone",
        )
        assert remote.show("file.txt") == "pushed\n"
    assert 401 in remote.statuses
    assert set(remote.statuses) == {200, 401}
    assert GIT["GIT_HTTP_PASSWORD"] not in said


async def test_each_secret_is_where_it_belongs_and_nowhere_else(
    workspace: WorkspaceContainer, platform: FakePlatform
) -> None:
    own = {
        "token": await workspace.sh(f"cat {STATE_TOKEN}"),
        "inbound": await workspace.sh("cat /configs/.platform_inbound_secret"),
    }
    found = await find_secrets(workspace, {**SECRETS, **GIT, **own, "key": API_KEY})
    assert found.pop("token") == {STATE_TOKEN}
    assert found.pop("inbound") == {"/configs/.platform_inbound_secret"}
    assert "environ of the first process" in found.pop("GIT_HTTP_PASSWORD")
    found.pop("GIT_HTTP_USERNAME")
    assert {name: places for name, places in found.items() if places} == {}


async def test_a_token_that_only_root_can_read_is_said_and_the_next_one_is_taken_up(
    workspace: WorkspaceContainer, model: ResponsesServer, platform: FakePlatform
) -> None:
    """B-45: a platform that writes as root after the entry point gave everything to the agent."""
    await workspace.put("/configs", {".auth_token": platform.issue_token()}, owner=0)
    model.script(tool("list_peers"), Answer.text("Nobody?"))
    assert await workspace.answer("who is there?") == "Nobody?"
    assert "does not accept this workspace's token (401)" in output_of(model)
    await workspace.says("/configs/.auth_token cannot be read by uid 1000: it must belong to that user")
    token = platform.issue_token()
    await workspace.put("/configs", {".auth_token": token}, owner=1000)
    model.script(tool("list_peers"), Answer.text("There."))
    assert await workspace.answer("and now?") == "There."
    assert "Bee (ID: ws-b" in output_of(model)


async def test_another_container_on_the_same_volumes_is_the_same_workspace(
    workspace: WorkspaceContainer, model: ResponsesServer, platform: FakePlatform
) -> None:
    token = await workspace.sh(f"cat {STATE_TOKEN}")
    model.script(Answer.text("Noted."), Answer.text("Blue."))
    assert await workspace.answer("my colour is blue") == "Noted."
    platform.calls.clear()
    platform.registrations.clear()
    await workspace.recreate()
    story = await workspace.says("registered with the platform")
    assert "now belong" not in story
    assert await workspace.answer("which colour?") == "Blue."
    assert model.requests[1].user_texts[-2:] == ["my colour is blue", "which colour?"]
    assert [call.authorized for call in platform.calls_to("register")] == [True]
    assert platform.calls_to("a2a") == []
    assert await workspace.sh(f"cat {STATE_TOKEN}") == token
