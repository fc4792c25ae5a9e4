"""What an image must not carry: anything of the build that made it."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host


@pytest.fixture(scope="module")
def config(image: str) -> dict[str, Any]:
    """The image's configuration, as the engine has it."""
    out = subprocess.run(
        ["docker", "image", "inspect", image], check=True, capture_output=True, text=True
    ).stdout
    found: dict[str, Any] = json.loads(out)[0]["Config"]
    return found


def test_the_configuration_is_the_one_of_the_seed(config: dict[str, Any]) -> None:
    assert config["Entrypoint"] == ["/usr/local/bin/start.sh"]
    assert config["WorkingDir"] == "/app"
    assert not config["Cmd"]
    assert not config["User"]
    assert config["ExposedPorts"] == {"8000/tcp": {}}
    env = dict(entry.split("=", 1) for entry in config["Env"])
    assert env["ADAPTER_MODULE"] == "adapter"
    assert env["PYTHONPATH"] == "/app"
    assert env["GIT_ASKPASS"] == "/usr/local/bin/molecule-askpass"


def test_the_environment_holds_nothing_of_the_build(config: dict[str, Any]) -> None:
    names = {entry.split("=", 1)[0] for entry in config["Env"]}
    of_the_base = {"PATH", "LANG", "GPG_KEY", "PYTHON_VERSION", "PYTHON_SHA256"}
    assert names - of_the_base == {"ADAPTER_MODULE", "PYTHONPATH", "GIT_ASKPASS"}


def test_the_labels_say_what_the_image_is_and_stands_on(config: dict[str, Any]) -> None:
    labels = config["Labels"]
    for label in ("version", "revision", "base.name", "base.digest", "source", "licenses"):
        assert f"org.opencontainers.image.{label}" in labels
    assert labels["codex-workspace.base.kind"] in ("registry", "stand-in")
    for layer in ("packages", "nodejs", "agent", "t4", "codex", "runtime", "payload", "smoke"):
        assert re.fullmatch(r"[0-9a-f]{64}", labels[f"codex-workspace.layer.{layer}"])


@pytest.mark.parametrize(
    "directory",
    [
        *("/tmp", "/var/tmp", "/mnt", "/var/lib/apt/lists", "/var/cache/apt"),
        *(f"/root/{name}" for name in (".ansible", ".cache", ".codex", ".config", ".npm")),
        *(f"/home/agent/{name}" for name in (".ansible", ".cache", ".codex", ".config", ".npm")),
    ],
)
def test_nothing_is_left_in(host: Host, directory: str) -> None:
    kept = "-not -name lock -not -name partial -not -name archives"
    assert host.run(f"find {directory} -mindepth 1 {kept} 2>/dev/null").stdout == ""


def test_no_log_is_left(host: Host) -> None:
    assert host.check_output("find /var/log -type f -size +0") == ""


def test_no_bytecode_is_left_but_that_of_packages_the_standard_library_and_the_application(
    host: Host,
) -> None:
    left = "-not -path '*-packages/*' -not -path '*/lib/python3.11/*' -not -path '/app/*'"
    assert host.check_output(f"find / -xdev -name __pycache__ {left}") == ""


def test_the_machine_id_is_empty(host: Host) -> None:
    assert host.check_output("cat /etc/machine-id 2>/dev/null; true") == ""


def test_no_extra_authority_is_trusted(host: Host) -> None:
    assert host.check_output("find /usr/local/share/ca-certificates -type f") == ""
    assert host.check_output("find / -xdev -name 'ca.pem'") == ""


@pytest.mark.parametrize(
    "file", ["/etc/pip.conf", "/root/.npmrc", "/usr/etc/npmrc", "/etc/npmrc", "/root/.config/pip/pip.conf"]
)
def test_no_client_configuration_of_the_build_is_left(host: Host, file: str) -> None:
    assert not host.file(file).exists


def test_no_file_outside_the_agents_home_is_writable_by_the_agent(host: Host) -> None:
    found = host.check_output(
        "find / -xdev -user agent -not -path '/home/agent*' -not -path '/proc/*' 2>/dev/null; true"
    )
    assert found == ""


def test_the_history_shows_the_layers_and_no_command(image: str) -> None:
    command = ["docker", "history", "--no-trunc", "--format", "{{json .}}", image]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    history = [json.loads(line) for line in out.splitlines()]
    ours = [entry for entry in history if entry["Comment"].startswith("codex-workspace")]
    names = [
        entry["Comment"].removeprefix("codex-workspace ").removeprefix("layer ") for entry in reversed(ours)
    ]
    assert names == [
        "packages",
        "nodejs",
        "agent",
        "t4",
        "codex",
        "runtime",
        "payload",
        "smoke",
        "configuration",
    ]
    # The time after which a build container ends by itself is all that ran in one.
    assert {entry["CreatedBy"] for entry in ours} == {"7200"}
