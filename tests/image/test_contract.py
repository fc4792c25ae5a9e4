"""What a workspace promises, whether it is a container of the image, of the role alone, or a host.

Runs on any host that testinfra reaches: ``pytest tests/image/test_contract.py --hosts=docker://root@NAME``,
and ``--hosts=ssh://NAME --sudo --target=host`` for one that is no image.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

    from image.conftest import Target

CODEX = "0.130.0"
SEED_PACKAGES = ["curl", "ca-certificates", "git", "gosu", "xz-utils", "sudo", "util-linux"]


@pytest.mark.parametrize("name", SEED_PACKAGES)
def test_every_package_of_the_seed_is_installed(host: Host, name: str) -> None:
    assert host.package(name).is_installed


@pytest.mark.parametrize(
    "command", ["curl", "git", "gosu", "xz", "sudo", "nsenter", "docker", "node", "npm", "npx", "codex"]
)
def test_every_command_is_on_the_agents_path(host: Host, command: str) -> None:
    assert host.run("gosu agent bash -c 'command -v %s'", command).rc == 0


def test_codex_is_exactly_the_pinned_version(host: Host) -> None:
    codex = host.run("gosu agent env HOME=/home/agent codex --version")
    assert (codex.rc, codex.stdout.strip()) == (0, f"codex-cli {CODEX}")


def test_codex_is_where_the_seed_says(host: Host) -> None:
    assert host.file("/usr/lib/node_modules/@openai/codex").is_directory
    assert host.file("/usr/bin/codex").is_symlink


def test_the_agent_runs_codex_and_cannot_read_it(host: Host) -> None:
    """Or the model's commands could read the vendor's key in the environment of codex."""
    (binary,) = host.check_output(
        "find /usr/lib/node_modules/@openai -type f -path '*/vendor/*/codex/codex'"
    ).splitlines()
    assert (host.file(binary).mode, host.file(binary).user) == (0o711, "root")


def test_node_is_version_20(host: Host) -> None:
    assert host.check_output("node --version").startswith("v20.")
    assert re.match(r"\d+\.\d+\.\d+$", host.check_output("npm --version"))


def test_the_agent_has_its_uid_a_home_and_bash(host: Host, target: Target) -> None:
    agent = host.user("agent")
    assert (agent.uid, agent.home, agent.shell) == (target.uid, "/home/agent", "/bin/bash")
    home = host.file("/home/agent")
    assert (home.user, home.group) == ("agent", "agent")


def test_the_agent_is_in_the_docker_group(host: Host) -> None:
    assert "docker" in host.user("agent").groups


def test_the_docker_client_runs_as_the_agent(host: Host) -> None:
    assert re.match(r"Docker version \d+", host.check_output("gosu agent docker --version"))


def test_an_engine_comes_with_the_docker_client_only_where_one_is_wanted(host: Host, target: Target) -> None:
    for engine in ("dockerd", "containerd", "runc"):
        assert host.exists(engine) == target.engine, engine
    if target.engine:
        assert host.check_output("gosu agent docker version --format '{{.Server.Os}}'") == "linux"


def test_the_agent_becomes_root_without_a_password(host: Host) -> None:
    assert host.check_output("gosu agent sudo -n id -u") == "0"


def test_the_sudoers_drop_in_is_valid_and_closed(host: Host) -> None:
    drop_in = host.file("/etc/sudoers.d/agent-t4")
    assert (drop_in.mode, drop_in.user, drop_in.group) == (0o440, "root", "root")
    assert drop_in.content_string == "agent ALL=(ALL) NOPASSWD:ALL\n"
    assert host.run("visudo -c").rc == 0


def test_python_is_new_enough_where_it_is_promised(host: Host, target: Target) -> None:
    assert re.match(f"Python {target.version}", host.check_output(f"{target.python} --version"))


def test_every_script_of_the_workspace_runs_that_python(host: Host, target: Target) -> None:
    """The watchdog once named a Python of /opt/molecule-venv, which an image does not have."""
    prefix = "import sys; print(sys.prefix)"
    wanted = host.check_output(f"{target.python} -c %s", prefix)
    for environment in ("", "env -i PATH=/usr/bin:/bin"):
        found = host.check_output(f"gosu agent {environment} /usr/local/bin/workspace-python -c %s", prefix)
        assert found == wanted


def test_pip_may_install(host: Host, target: Target) -> None:
    install = f"{target.pip} install --dry-run --no-index --no-deps pip"
    probe = host.run(f"gosu agent env HOME=/nonexistent {install}")
    assert "externally-managed" not in probe.stderr
    assert probe.rc == 0


@pytest.mark.parametrize(
    "module", ["a2a", "mcp", "httpx", "pydantic", "starlette", "structlog", "tenacity", "tomlkit", "uvicorn"]
)
def test_the_requirements_can_be_imported_by_the_agent(host: Host, target: Target, module: str) -> None:
    assert host.run(f"gosu agent {target.python} -c 'import %s'", module).rc == 0


@pytest.mark.parametrize("module", ["a2a", "asyncio", "entrypoint"])
def test_all_that_a_start_imports_is_compiled_since_the_agent_cannot_write_bytecode(
    host: Host, target: Target, module: str
) -> None:
    code = f"import sys; sys.path.append('/app'); import {module}; print({module}.__file__)"
    directory = str(Path(host.check_output(f"{target.python} -B -c %s", code)).parent)
    sources = host.check_output("find %s -name '*.py' | wc -l", directory)
    assert int(sources) > 0
    assert host.check_output("find %s -name '*.pyc' | wc -l", directory) == sources


def test_installed_packages_agree_with_each_other(host: Host, target: Target) -> None:
    check = host.run(f"{target.pip} check")
    assert check.rc == 0, check.stdout


@pytest.mark.parametrize(
    "name", ["start.sh", "codex_auth_refresh.sh", "molecule-askpass", "molecule-git-credential"]
)
def test_every_entry_point_is_executable_by_all_and_writable_by_root_alone(host: Host, name: str) -> None:
    entry = host.file(f"/usr/local/bin/{name}")
    assert (entry.mode, entry.user) == (0o755, "root")


def test_the_application_is_in_app(host: Host) -> None:
    for name in ("__init__.py", "requirements.txt", "codex_auth_refresh.py"):
        assert host.file(f"/app/{name}").is_file, name


def test_the_watchdog_skips_where_there_is_no_auth_json(host: Host) -> None:
    watchdog = host.run(
        "env CODEX_HOME=/tmp/.codex-smoke-no-auth /usr/local/bin/codex_auth_refresh.sh --once"
    )
    assert watchdog.rc == 1
    assert "skip:no_auth_json" in watchdog.stderr


def test_the_watchdog_finds_python_when_path_has_none(host: Host) -> None:
    """B-26: it once named a Python that no image had, and never ran."""
    bare = "env -i PATH=/usr/bin:/bin HOME=/nonexistent CODEX_HOME=/nonexistent"
    watchdog = host.run(f"{bare} /usr/local/bin/codex_auth_refresh.sh --once")
    assert watchdog.rc == 1, watchdog.stderr


def test_askpass_answers_from_the_environment(host: Host) -> None:
    ask = "env GIT_HTTP_USERNAME=someone GIT_HTTP_PASSWORD=something /usr/local/bin/molecule-askpass %s"
    assert host.check_output(ask, "Username for x: ") == "someone"
    assert host.check_output(ask, "Password for x: ") == "something"
    assert host.check_output("/usr/local/bin/molecule-askpass %s", "Password for x: ") == ""


def test_apt_and_dpkg_are_whole(host: Host) -> None:
    assert host.check_output("dpkg --audit") == ""
    assert host.run("apt-get check").rc == 0
