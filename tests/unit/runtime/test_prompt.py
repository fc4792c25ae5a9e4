"""The prompt: which parts, in which order, and what happens when the platform does not answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from molecule_runtime.config import WorkspaceConfig
from molecule_runtime.mcp_tools import TOOLS
from molecule_runtime.platform import PlatformClient
from molecule_runtime.plugins import Plugin, Plugins
from molecule_runtime.prompt import Prompt, build_prompt, read_notes
from support.fake_platform import FakePlatform, Peer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

CONFIG = WorkspaceConfig(name="Bee", role="reviewer", description="Reviews code.")
PLUGINS = Plugins((Plugin("p", Path("/p"), rules=("Rule one.",), fragments=("Guideline one.",)),))


@pytest.fixture
async def client(platform: FakePlatform, configs: Path) -> AsyncIterator[PlatformClient]:
    platform.rotate_token(configs / ".auth_token")
    made = PlatformClient(platform.url, "ws-self")
    yield made
    await made.aclose()


async def test_the_parts_come_in_the_platforms_order(client: PlatformClient, platform: FakePlatform) -> None:
    platform.instructions = "Write tests first."
    platform.add_peer(Peer("ws-b", "Ant", role="builder", parent_id="ws-parent"))
    built = await build_prompt(
        CONFIG,
        own=["You are careful.\n"],
        notes={"MEMORY.md": "The suite takes 30 minutes.", "AGENTS.md": "You are careful."},
        plugins=PLUGINS,
        client=client,
        tools=TOOLS,
    )
    headings = [heading for heading, _ in built.parts]
    assert headings == [
        "Your workspace",
        "Instructions of the platform",
        "",
        "MEMORY.md",
        "Platform Rules",
        "Platform Guidelines",
        "Tools of the workspace",
        "Memory",
        "Peers",
        "When a delegation fails",
    ]
    assert "You are 'Bee', reviewer, the agent of workspace ws-self" in built.text
    assert "# Instructions of the platform\n\nWrite tests first." in built.text
    assert "- Ant (ws-b): builder" in built.text
    for tool in TOOLS:
        assert f"- {tool.name}: {tool.description}" in built.text


async def test_tools_that_are_not_there_are_not_in_the_manual(client: PlatformClient) -> None:
    tools = [tool for tool in TOOLS if tool.name == "list_peers"]
    built = await build_prompt(CONFIG, own=[], notes={}, plugins=Plugins(), client=client, tools=tools)
    assert [heading for heading, _ in built.parts] == ["Your workspace", "Tools of the workspace"]
    assert "commit_memory" not in built.text


async def test_a_platform_that_does_not_answer_leaves_its_parts_out(
    client: PlatformClient, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_runtime.prompt._ASK_SECONDS", 0.05)
    gate = platform.hold("instructions")
    platform.reject_next("peers", 500, 3)
    built = await build_prompt(CONFIG, own=["Own."], notes={}, plugins=Plugins(), client=client, tools=TOOLS)
    gate.set()
    assert "Own." in built.text
    assert not {"Peers", "Instructions of the platform"} & {heading for heading, _ in built.parts}


async def test_nothing_is_asked_before_there_is_a_token(platform: FakePlatform, configs: Path) -> None:
    """Its call would register the workspace before its port is open."""
    client = PlatformClient(platform.url, "ws-self", registration=lambda: {"id": "ws-self"})
    await build_prompt(CONFIG, own=[], notes={}, plugins=Plugins(), client=client, tools=TOOLS)
    assert platform.calls == []
    await client.aclose()


async def test_without_a_platform_it_is_the_deployers_text_the_notes_and_the_plugins() -> None:
    bare = await build_prompt(CONFIG, own=[], notes={}, plugins=Plugins(), client=None, tools=TOOLS)
    assert bare.text == ""
    built = await build_prompt(
        CONFIG, own=["Own."], notes={"USER.md": "Likes brevity."}, plugins=PLUGINS, client=None, tools=TOOLS
    )
    assert built.text == (
        "Own.\n\n# USER.md\n\nLikes brevity.\n\n# Platform Rules\n\nRule one.\n\n"
        "# Platform Guidelines\n\nGuideline one."
    )


def test_notes_come_from_the_first_place_that_has_any_and_are_not_read_twice(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory, names in ((first, []), (second, ["AGENTS.md", "MEMORY.md", "OTHER.md"])):
        directory.mkdir()
        for name in names:
            (directory / name).write_text(name)
    read = lambda path: path.read_text()  # noqa: E731
    assert read_notes([first, second], ["AGENTS.md"], read) == {"MEMORY.md": "MEMORY.md"}
    assert read_notes([tmp_path / "absent"], [], read) == {}


def test_what_people_read_of_it_holds_no_secret() -> None:
    prompt = Prompt((("", "Use token=abcdef123456 and sk-abcdefghijklmnopqrstuvwx."),))
    assert "abcdef" not in prompt.shown
    assert "sk-" in prompt.text
