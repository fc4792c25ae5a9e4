"""Whatever is set up on the controller, a build does its work, or says in one sentence why it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from support.image_build import ERROR, LAYERS, Builder, docker, inspect
from support.plugins import ROOT, path_with, put_command

if TYPE_CHECKING:
    from pathlib import Path

    from support.image_build import Build

NOWHERE = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}


def refusal(
    *arguments: str, cwd: Path = ROOT, playbook: str = "build.yml", env: dict[str, str] | None = None
) -> str:
    """The one error of a build that was refused before an engine was looked for."""
    done = subprocess.run(
        ["ansible-playbook", playbook, *arguments],
        cwd=cwd,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", **NOWHERE, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2, done.stdout
    (error,) = ERROR.findall(done.stdout + done.stderr)
    assert "engine answers" not in error
    return " ".join(error.split())


# --- the configuration of Ansible -------------------------------------------------------------------------


def test_another_working_directory_is_refused_with_what_to_set(tmp_path: Path) -> None:
    error = refusal(cwd=tmp_path, playbook=str(ROOT / "build.yml"))
    assert "Ansible reads no configuration file" in error
    assert f"Set ANSIBLE_CONFIG={ROOT}/ansible.cfg" in error


def test_a_configuration_of_the_users_own_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "own.cfg").write_text("[defaults]\nnocows = true\n")
    error = refusal(env={"ANSIBLE_CONFIG": str(tmp_path / "own.cfg")})
    assert f"Ansible reads {tmp_path}/own.cfg" in error
    assert f"Set ANSIBLE_CONFIG={ROOT}/ansible.cfg" in error


def test_a_checkout_that_everybody_may_write_to_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    for entry in ROOT.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    tmp_path.chmod(0o777)
    error = refusal(cwd=tmp_path)
    assert "a directory that everybody may write to (chmod o-w " in error
    assert "Set ANSIBLE_CONFIG=" in error


def test_make_names_the_configuration_itself() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "build", "engine"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stdout.splitlines() if "ansible-playbook" in line]
    assert len(lines) == 2
    assert [line for line in lines if f"ANSIBLE_CONFIG={ROOT}/ansible.cfg ansible-playbook" not in line] == []


# --- a part of a build ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-i", "inventory/hosts.example.yml"], ["Nothing was done", "hosts.example.yml", "Leave out -i"]),
        (["-i", "localhost,"], ["Nothing was done", "Leave out -i"]),
        (
            ["-i", "inventory", "-i", "inventory/hosts.example.yml", "--limit", "agent-1"],
            ["Nothing was built", "--limit agent-1", "Leave that option out"],
        ),
        (["--limit", "image"], ["Nothing was built", "--limit image", "Leave that option out"]),
        (["--tags", "codex"], ["Nothing was built", "tags (codex)", "Leave that option out"]),
        (["--skip-tags", "base"], ["Nothing was built", "tags (base)", "Leave that option out"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("-") else None,
)
def test_a_part_of_a_build_is_refused_since_nothing_would_be_done(
    arguments: list[str], words: list[str]
) -> None:
    error = refusal(*arguments)
    assert [word for word in words if word not in error] == []


def test_a_limit_to_nobody_is_a_failure() -> None:
    done = subprocess.run(
        ["ansible-playbook", "build.yml", "--limit", "nobody"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no hosts to target" in done.stderr + done.stdout


# --- the user's environment -------------------------------------------------------------------------------

OF_HOSTS = {
    "ansible_become": True,
    "ansible_become_user": "operator",
    "ansible_user": "operator",
    "ansible_connection": "ssh",
    "ansible_port": 2222,
    "ansible_python_interpreter": "/opt/python/bin/python3",
    "ansible_ssh_private_key_file": "/nonexistent/key",
    "ansible_remote_tmp": "/nonexistent/tmp",
    "ansible_shell_executable": "/bin/zsh",
}


def test_settings_of_hosts_warnings_of_the_client_and_a_strict_umask_change_nothing(
    builder: Builder, good: Build, tmp_path: Path
) -> None:
    """A user's inventory for all hosts, a docker client with a file that it cannot read, and umask 077."""
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"vars": OF_HOSTS}, "t4_hosts": {"hosts": {"agent-1": {}}}}))
    client = tmp_path / "client"
    client.mkdir()
    (client / "config.json").write_text("{")
    env = {
        "ANSIBLE_INVENTORY": f"{ROOT}/inventory,{inventory}",
        "ANSIBLE_BECOME": "1",
        "ANSIBLE_REMOTE_USER": "operator",
        "DOCKER_CONFIG": str(client),
        "COLUMNS": "40",
    }
    strict = ("sh", "-c", 'umask 077; exec "$@"', "sh")
    build = builder.run(builder.payload("awkward"), env=env, prefix=strict)
    assert build.process.returncode == 0, build.end
    assert build.layers == {**dict.fromkeys(LAYERS, "reused"), "payload": "built", "smoke": "built"}
    files = ["run", "--rm", "--entrypoint", "stat", f"{build.image}:latest", "--format", "%a"]
    modes = docker(*files, "/app", "/app/adapter.py", "/usr/local/bin/start.sh").split()
    assert modes == ["755", "644", "755"]
    config, before = (inspect(f"{image}:latest")["Config"] for image in (build.image, good.image))
    assert config["Env"] == before["Env"]


def test_a_build_that_ends_before_its_first_container_says_why_and_no_more(
    builder: Builder, tmp_path: Path
) -> None:
    genuine = shutil.which("docker")
    put_command(
        tmp_path / "bin",
        "docker",
        f'case "$1 $2" in "volume create") echo "no space for volumes" >&2; exit 1;; esac\n'
        f'exec {genuine} "$@"',
    )
    build = builder.run({"codex_workspace_cache_enabled": False}, env=path_with(tmp_path / "bin"))
    assert "no space for volumes" in build.refusal(after_start=True)
    assert "requires at least" not in build.output


# --- values however they are written ----------------------------------------------------------------------


def test_a_value_as_text_uses_the_layers_of_the_same_value_as_a_number_or_a_boolean(
    builder: Builder, good: Build
) -> None:
    text = {"codex_workspace_agent_uid": "1000", "codex_workspace_t4_enabled": "yes"}
    build = builder.run({**text, "codex_workspace_nodejs_major": "20", "codex_workspace_image_version": 1.5})
    assert build.process.returncode == 0, build.end
    assert build.layers == dict.fromkeys(LAYERS, "reused")
    assert inspect(f"{build.image}:1.5")["Config"]["Labels"]["org.opencontainers.image.version"] == "1.5"
