"""MCP servers and skills of plugins: they come, change and go, and what people wrote by hand stays."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from molecule_runtime.plugins import McpServerSpec
from plugin_parts import install_skills, write_servers

if TYPE_CHECKING:
    from pathlib import Path

BY_HAND = """model = "gpt-5.5"

[mcp_servers.mine] # of a person
command = "mine"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(BY_HAND)
    (tmp_path / "config.toml").chmod(0o600)
    return tmp_path


def servers(home: Path) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((home / "config.toml").read_text())["mcp_servers"]
    return found


def test_servers_come_change_and_go_and_those_by_hand_stay(home: Path) -> None:
    local = McpServerSpec("local", command="/bin/x", args=("--a",), env={"K": "v"})
    write_servers(home, [local, McpServerSpec("remote", url="https://mcp.example")])
    assert servers(home) == {
        "mine": {"command": "mine"},
        "local": {"command": "/bin/x", "args": ["--a"], "env": {"K": "v"}},
        "remote": {"url": "https://mcp.example"},
    }
    once = (home / "config.toml").read_text()
    write_servers(home, [local, McpServerSpec("remote", url="https://mcp.example")])
    assert (home / "config.toml").read_text() == once
    write_servers(home, [McpServerSpec("local", command="/bin/y")])
    assert servers(home)["local"] == {"command": "/bin/y", "args": []}
    write_servers(home, [])
    assert tomllib.loads((home / "config.toml").read_text()) == tomllib.loads(BY_HAND)
    assert (home / "config.toml").stat().st_mode & 0o777 == 0o600


def test_a_server_of_a_persons_name_is_not_replaced_and_that_is_said(home: Path) -> None:
    with capture_logs() as lines:
        write_servers(home, [McpServerSpec("mine", command="/bin/other")])
    assert servers(home) == {"mine": {"command": "mine"}}
    assert [(line["event"], line["server"]) for line in lines] == [("plugin.server_not_used", "mine")]


def test_skills_come_change_and_go_and_those_by_hand_stay(tmp_path: Path) -> None:
    home, source = tmp_path / "home", tmp_path / "plugin/triage"
    (home / "skills/own").mkdir(parents=True)
    (home / "skills/own/SKILL.md").write_text("own")
    source.mkdir(parents=True)
    (source / "SKILL.md").write_text("one")
    install_skills(home, {"triage": source, "own": source})
    assert (home / "skills/triage/SKILL.md").read_text() == "one"
    assert (home / "skills/own/SKILL.md").read_text() == "own"
    (source / "SKILL.md").write_text("two")
    install_skills(home, {"triage": source})
    assert (home / "skills/triage/SKILL.md").read_text() == "two"
    install_skills(home, {})
    assert [path.name for path in (home / "skills").iterdir()] == ["own"]


def test_half_of_a_skill_is_none(tmp_path: Path) -> None:
    source = tmp_path / "plugin/triage"
    source.mkdir(parents=True)
    (source / "SKILL.md").write_text("x")
    (source / "loose").symlink_to(tmp_path / "absent")
    with capture_logs() as lines:
        install_skills(tmp_path / "home", {"triage": source})
    assert not (tmp_path / "home/skills/triage").exists()
    assert lines[0]["event"] == "plugin.skill_not_used"
