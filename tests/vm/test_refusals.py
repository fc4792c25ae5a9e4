"""Hosts and settings that the role refuses, each with one clear error and before anything is changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.workspace_container import docker

if TYPE_CHECKING:
    from support.vm_host import VmHost

pytestmark = pytest.mark.anyio


async def test_settings_that_cannot_be_are_refused_without_a_word_to_the_host(vm: VmHost) -> None:
    variables = {
        "codex_workspace_purge": True,
        "codex_workspace_python": "/usr/bin/python3",
        "codex_workspace_scratch": "srv",
        "codex_workspace_service_environment": {
            "WORKSPACE_ID": "a.b",
            "A-B": "",
            "TWO": "1\n2",
            "BELL": "\x07",
            "PLATFORM_URL": True,
            "VERSION": 1.1,
            "ORG_ID": 7,
            "NOTHING": None,
            "BOTH": "x",
        },
        "codex_workspace_service_credentials": {"BOTH": "y", "PIN": 83, "WORD": True},
    }
    refused = await vm.provision("-e", json.dumps(variables), code=2)
    for message in (
        "codex_workspace_purge takes the workspace's data away",
        'codex_workspace_python is "/usr/bin/python3". On a host it is /opt/molecule-venv/bin/python3',
        'codex_workspace_service_environment.WORKSPACE_ID is "a.b".',
        '"A-B" in codex_workspace_service_environment or',
        "which no environment file can hold. Move it to codex_workspace_service_credentials",
        "The value of BELL in codex_workspace_service_environment has control characters",
        "PLATFORM_URL (true), VERSION (1.1), ORG_ID (7), NOTHING (null) is no text",
        "In codex_workspace_service_credentials the value of PIN, WORD is no text",
        "BOTH is in codex_workspace_service_environment and in codex_workspace_service_credentials",
        'codex_workspace_scratch is "srv". Give the absolute path',
    ):
        assert message in refused.said
    assert "Target |" not in refused.output


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"codex_workspace_agent_user": "somebody", "codex_workspace_agent_uid": 1200},
            "uid 1200 belongs to the user admin, and the role renames nobody. Set codex_workspace_agent_uid",
        ),
        ({"codex_workspace_agent_uid": 1999}, "the user agent exists with uid 1500, not 1999."),
        (
            {"codex_workspace_minimum_free_mb": 99999999, "codex_workspace_cache_enabled": False},
            "MB free on /, and 99999999 MB are needed",
        ),
        ({"codex_workspace_servce_environment": {}}, "Unknown variable codex_workspace_servce_environment"),
        ({"ansible_become": False}, "the role runs there as uid 1200, and needs root. Set become: true"),
    ],
)
async def test_bad_input_gets_one_clear_error(vm: VmHost, variables: dict[str, Any], message: str) -> None:
    before = await vm.sh("cat /var/lib/codex-workspace/running")
    refused = await vm.provision("-e", json.dumps(variables), code=2)
    assert message in refused.said
    assert refused.output.count("[ERROR]: ") == 1
    assert refused.changed == 0
    assert await vm.sh("cat /var/lib/codex-workspace/running") == before


async def test_sudo_that_asks_for_a_password_is_said(vm: VmHost) -> None:
    rule = "/etc/sudoers.d/admin"
    await vm.sh(f"cp {rule} /root/rule && systemd-run --quiet --on-active=60 cp /root/rule {rule}")
    await vm.sh(f"echo 'admin ALL=(ALL) ALL' >{rule}")
    try:
        refused = await vm.provision(code=2)
    finally:
        await docker("exec", vm.address, "cp", "/root/rule", rule)
    assert "sudo asks for a password" in refused.said
    assert "--ask-become-pass" in refused.said


@pytest.mark.parametrize(
    ("setup", "undo", "message"),
    [
        (
            "echo exit >/usr/local/bin/codex",
            "rm /usr/local/bin/codex",
            "/usr/local/bin/codex would run instead of /usr/bin/codex, which the role installs.",
        ),
        (
            "mount -t tmpfs -o noexec,mode=1777 tmpfs /var/tmp",
            "umount /var/tmp",
            "codex_workspace_scratch is /var/tmp/codex-workspace, on a file system that is mounted noexec",
        ),
        (
            "mkdir /var/tmp/codex-workspace && chown admin /var/tmp/codex-workspace",
            "rmdir /var/tmp/codex-workspace",
            "which belongs to the user admin, who could change what root runs from there.",
        ),
        (
            "mount -t tmpfs tmpfs /opt -o size=64m && mkdir -p /opt/molecule-venv",
            "umount /opt",
            "has 64 MB free on /opt, and 512 MB are needed.",
        ),
        (
            "mount --bind /etc /etc && mount -o remount,bind,ro /etc",
            "umount --lazy /etc",
            "/etc is on a file system that is mounted read-only.",
        ),
    ],
)
async def test_a_machine_that_does_not_take_an_installation_is_left_as_it_is(
    vm: VmHost, setup: str, undo: str, message: str
) -> None:
    before = await vm.sh("cat /var/lib/codex-workspace/running")
    await vm.sh(setup)
    try:
        refused = await vm.provision("-e", "codex_workspace_cache_enabled=false", code=2)
    finally:
        await vm.sh(undo)
    assert message in refused.said
    assert refused.output.count("[ERROR]: ") == 1
    assert refused.changed == 0
    assert (
        await vm.sh("cat /var/lib/codex-workspace/running; test ! -d /var/lib/codex-workspace/previous")
        == before
    )


async def test_a_sudo_that_asks_in_german_is_said_as_well(vm: VmHost) -> None:
    wrapper = "echo 'sudo: Ein Passwort ist notwendig' >&2; exit 1"
    await vm.sh(
        "cat >/usr/local/bin/no-sudo && chmod 755 /usr/local/bin/no-sudo", stdin=f"#!/bin/sh\n{wrapper}\n"
    )
    refused = await vm.provision("-e", "ansible_become_exe=/usr/local/bin/no-sudo", code=2)
    await vm.sh("rm /usr/local/bin/no-sudo")
    assert "no command runs there as root: " in refused.said
    assert "Ein Passwort ist notwendig" in refused.said
    assert "--ask-become-pass" in refused.said


@pytest.mark.parametrize(
    ("release", "message"),
    [
        (
            "ID=fedora\\nVERSION_ID=41\\nVERSION_CODENAME=",
            "is fedora 41. Allowed are Debian 12 and 13 and Ubuntu 22.04 and 24.04",
        ),
        ("ID=debian\\nVERSION_ID=11\\nVERSION_CODENAME=bullseye", "is debian 11. Allowed are"),
    ],
)
async def test_another_distribution_is_refused(vm: VmHost, release: str, message: str) -> None:
    await vm.sh(f"printf '{release}\\n' >/run/os-release && mount --bind /run/os-release /usr/lib/os-release")
    try:
        refused = await vm.provision(code=2)
    finally:
        await vm.sh("umount /usr/lib/os-release")
    assert message in refused.said


async def test_a_mirror_that_does_not_answer_is_named(vm: VmHost) -> None:
    source = "/etc/apt/sources.list.d/nowhere.list"
    await vm.sh(f"echo 'deb [trusted=yes] http://mirror.invalid/debian x main' >{source}")
    try:
        refused = await vm.provision(
            "-e", '{"codex_workspace_packages": ["sudo", "git", "gosu", "curl", "jq"]}', code=2
        )
    finally:
        await vm.sh(f"rm {source}")
    assert "apt could not read its sources: " in refused.said
    assert "http://mirror.invalid/debian" in refused.said
    assert "What was there before was put back, and runs." in refused.said
