"""Which workspace without a platform asks for a bearer, where it is kept, and what is said of it."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from inbound_bearer import given_or_made

if TYPE_CHECKING:
    from pathlib import Path

    from support.boot import Machine

TOKEN = "0123456789abcdef-of-the-operator"
ASKS = "POST / asks for"
ALL_CAPABILITIES = 0x1FFFFFFFFFF
OF_DOCKER = 0xA80425FB
"""What docker leaves to a container's root by default."""


def asked(machine: Machine, **env: str) -> str:
    """Boots; returns the token that the runtime is given. Fails where it is in sight."""
    boot = machine.run(**env)
    assert boot.code == 0, boot.log
    token = str(machine.seen()["given"].get("CODEX_WORKSPACE_A2A_TOKEN", ""))
    assert bool(token) == (ASKS in boot.log), boot.log
    assert not token or token not in boot.log
    assert "CODEX_WORKSPACE_A2A_TOKEN" not in machine.seen()["environment"]
    return token


def test_a_container_that_is_root_of_nothing_else_asks_for_none(machine: Machine) -> None:
    machine.may(OF_DOCKER)
    assert asked(machine) == ""
    assert not (machine.configs / ".a2a_token").exists()


@pytest.mark.parametrize("power", ["TIER", "socket", "privileged", "switch"])
def test_who_becomes_root_of_the_machine_makes_a_token_once_and_keeps_it(
    machine: Machine, power: str
) -> None:
    env = {"TIER": {"TIER": "4"}, "switch": {"MOLECULE_A2A_REQUIRE_AUTH": "Yes"}}.get(power, {})
    if power == "socket":
        machine.socket.touch()
    if power == "privileged":
        machine.may(ALL_CAPABILITIES)
    made = asked(machine, **env)
    kept = machine.configs / ".a2a_token"
    assert len(made) > 40
    assert kept.read_text() == made
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert f"the token is in {kept}" in machine.run(**env).log
    assert asked(machine, **env) == made


def test_a_service_of_the_machine_asks(machine: Machine) -> None:
    """systemd says so to the process that it starts, and to no child of it."""
    systemd = 'export SYSTEMD_EXEC_PID=$$; exec "$0"'
    process = machine.start(env={"SYSTEMD_EXEC_PID": "1"})
    assert ASKS not in process.communicate(timeout=60)[1]
    started = machine.shell(systemd)
    assert "POST / asks for a bearer (this is a service of the machine)" in started.log


def test_a_token_that_was_given_counts_wherever_it_is_and_nothing_is_kept(machine: Machine) -> None:
    assert asked(machine, CODEX_WORKSPACE_A2A_TOKEN=f" {TOKEN}\r\n") == TOKEN
    assert asked(machine, CODEX_WORKSPACE_A2A_TOKEN=TOKEN, TIER="4") == TOKEN
    assert asked(machine, CODEX_WORKSPACE_A2A_TOKEN=TOKEN, PLATFORM_URL="http://platform:8080") == TOKEN
    assert not (machine.configs / ".a2a_token").exists()


def test_a_token_in_the_file_is_the_operators_to_choose(machine: Machine) -> None:
    (machine.configs / ".a2a_token").write_text(f"{TOKEN}\n")
    assert asked(machine, TIER="4") == TOKEN


@pytest.mark.parametrize("url", ["http://platform:8080", ""])
def test_with_a_platform_its_own_switch_decides_also_at_t4(machine: Machine, url: str) -> None:
    machine.socket.touch()
    machine.may(ALL_CAPABILITIES)
    assert asked(machine, TIER="4", PLATFORM_URL=url) == ""
    assert asked(machine, TIER="4", PLATFORM_URL=url, MOLECULE_A2A_REQUIRE_AUTH="1") == ""


@pytest.mark.parametrize("off", ["0", "false", "No", "OFF"])
def test_the_switch_turns_it_off(machine: Machine, off: str) -> None:
    machine.socket.touch()
    assert asked(machine, TIER="4", MOLECULE_A2A_REQUIRE_AUTH=off) == ""


@pytest.mark.parametrize("token", ["short", "0123456789 abcdef", "0123456789abcdé", "0123456789abc\tdef"])
def test_a_token_that_cannot_be_one_is_refused_and_not_shown(machine: Machine, token: str) -> None:
    boot = machine.run(CODEX_WORKSPACE_A2A_TOKEN=token)
    assert boot.code == 78
    assert "at least 16 printable ASCII characters" in boot.log
    assert token not in boot.log


def test_a_token_that_can_be_kept_nowhere_is_refused_with_the_remedy(machine: Machine) -> None:
    (machine.configs / ".a2a_token").mkdir()
    boot = machine.run(TIER="4")
    assert boot.code == 78
    assert "give CODEX_WORKSPACE_A2A_TOKEN, or set MOLECULE_A2A_REQUIRE_AUTH=0" in boot.log


def test_it_is_kept_where_the_runtime_keeps_its_secrets(machine: Machine, tmp_path: Path) -> None:
    made = asked(machine, TIER="4", CONFIGS_DIR=str(tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere/.a2a_token").read_text() == made
    env = {"HOME": str(tmp_path), "PLATFORM_URL": "off", "TIER": "4"}
    token, line = given_or_made(env, tmp_path / "not there", tmp_path / "no socket")
    assert (tmp_path / ".molecule-workspace/.a2a_token").read_text() == token
    assert ".molecule-workspace/.a2a_token" in line


def test_a_command_is_run_without_one(machine: Machine) -> None:
    boot = machine.run("true", TIER="4")
    assert boot.code == 0
    assert ASKS not in boot.log
