"""The gate fails on each workspace that is broken, says where, and leaves the host as it was."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import uuid
from typing import TYPE_CHECKING

import pytest

from conformance.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.conftest import Gate, Outcome

MODEL = "A command of the model becomes root on the host"
BECOMES_ROOT = "The agent becomes root on the host"
SEES = "What it sees there is the host"
MARKER = "A file written through /host is on the host, and goes again"
SOCKET = "The docker socket is open to the agent without sudo"
SUDOERS = "The sudoers files are valid"
TOKEN = "The runtime finds a token that is the agent's alone"
CHILD = "The MCP child finds the same token"

SETTINGS = str(ROOT / "inventory/build.yml")
# An entry point without a part as root: the token stays root's, and the group of the socket is nobody's.
NO_ROOT_PHASE = r"RUN printf '#!/bin/sh\nexec gosu agent molecule-runtime\n' >/usr/local/bin/start.sh"
BROKEN = {
    "no-sudo": ("RUN rm /usr/bin/sudo", {MODEL, BECOMES_ROOT, SEES, MARKER}),
    "token-of-root": (NO_ROOT_PHASE, {TOKEN, CHILD, SOCKET}),
    "no-docker-client": ("RUN rm /usr/bin/docker", {SOCKET}),
    "broken-sudoers": ("RUN echo 'agent ALL=(ALL' >/etc/sudoers.d/broken", {SUDOERS}),
}


@pytest.fixture(scope="module")
def tag() -> str:
    """The repository of this run's images on the host."""
    return f"codex-workspace-conformance-test-{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="module")
def broken(gate: Gate, tag: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run of the gate on all broken images at once, each of them a host of its own by name.

    What another run has left is on the host meanwhile, and afterwards the host is as before.
    """
    for name, (instruction, _) in BROKEN.items():
        gate.ssh(f"docker build --quiet --tag {tag}:{name} -", f"FROM {gate.image}\n{instruction}\n")
    leftover = "codex-workspace-conformance-000000000000"
    gate.ssh(
        f"docker create --name {leftover} {gate.image}; mkdir /var/tmp/{leftover}; touch /tmp/{leftover}"
    )
    hosts = {
        name: {"ansible_host": gate.address, "codex_workspace_conformance_image": f"{tag}:{name}"}
        for name in BROKEN
    }
    inventory = tmp_path_factory.mktemp("inventory") / "hosts.yml"
    inventory.write_text(json.dumps({"molecule": {"children": {"t4_hosts": {"hosts": hosts}}}}))
    before = gate.state()
    outcome = gate.run(inventories=[*gate.inventories[:-1], str(inventory)])
    assert gate.state() == before
    assert leftover in before
    gate.ssh(f"docker rm {leftover}; rm -r /var/tmp/{leftover} /tmp/{leftover}")
    gate.ssh(f"docker image rm --no-prune {' '.join(f'{tag}:{name}' for name in BROKEN)}")
    return outcome


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_image_fails_at_what_it_breaks_and_nowhere_else(broken: Outcome, name: str) -> None:
    failed = BROKEN[name][1]
    assert broken.failed[name] == failed, broken.output
    assert broken.assertions[name] > len(failed)


@pytest.mark.parametrize("name", BROKEN)
def test_the_error_names_the_assertions_that_do_not_hold(broken: Outcome, name: str) -> None:
    assert broken.code != 0
    message = next(line for line in broken.output.splitlines() if f"{name} is no T4 workspace" in line)
    every = {assertion for _, failed in BROKEN.values() for assertion in failed}
    assert {assertion for assertion in every if assertion in message} == BROKEN[name][1]


def test_an_image_that_is_no_workspace_is_brought_fails_everywhere_and_leaves_the_host_again(
    gate: Gate, tag: str
) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    docker = ["docker", "import", "--change", 'CMD ["/empty"]', "-", f"{tag}:empty"]
    subprocess.run(docker, input=archive.getvalue(), check=True, stdout=subprocess.DEVNULL)
    before = gate.state()
    try:
        outcome = gate.run(image=f"{tag}:empty")
    finally:
        subprocess.run(["docker", "image", "rm", f"{tag}:empty"], check=True, stdout=subprocess.DEVNULL)
    assert outcome.code != 0
    assert len(outcome.failed[gate.host]) == outcome.assertions[gate.host], outcome.output
    assert gate.state() == before


def test_the_socket_belongs_to_a_group_that_the_image_does_not_have(gate: Gate) -> None:
    of_the_image = gate.ssh(f"docker run --rm --entrypoint cat {gate.image} /etc/group")
    assert f":{gate.ssh('stat -c %g /var/run/docker.sock')}:" not in of_the_image


def test_an_image_that_is_nowhere_is_refused(gate: Gate) -> None:
    refused(gate.run(image="no-such-image:1"), "There is no image no-such-image:1")


def test_a_host_without_an_engine_is_refused(gate: Gate) -> None:
    gate.ssh("systemctl stop docker.socket docker.service")
    try:
        refused(gate.run(image=gate.image), f"No Docker engine answers on {gate.host}")
    finally:
        gate.ssh("systemctl start docker.socket docker.service")


def test_a_host_that_is_no_workspace_itself_is_refused_where_a_service_is_asked_for(gate: Gate) -> None:
    refused(gate.run(target="service"), f"{gate.host} has no codex-workspace.service")


def test_this_very_machine_is_refused(gate: Gate, tmp_path: Path) -> None:
    here = tmp_path / "hosts.yml"
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    here.write_text(json.dumps({"t4_hosts": {"hosts": {"here": local}}}))
    refused(gate.run(inventories=[SETTINGS, str(here)]), "here is this very machine")


def test_an_inventory_without_a_t4_host_is_refused(gate: Gate) -> None:
    refused(gate.run(inventories=[SETTINGS]), "has no host in the group t4_hosts")


def test_an_inventory_without_the_settings_is_refused(gate: Gate, tmp_path: Path) -> None:
    elsewhere = tmp_path / "hosts.yml"
    elsewhere.write_text("t4_hosts: {hosts: {elsewhere: {}}}")
    refused(gate.run(inventories=[str(elsewhere)]), "is not beside the settings in inventory/group_vars")


def test_check_mode_is_refused(gate: Gate) -> None:
    refused(gate.run("--check"), "Run it without --check")


def refused(outcome: Outcome, words: str) -> None:
    """It ended with one error, before it did anything on the host."""
    assert outcome.code != 0
    assert outcome.failed == {}
    assert outcome.output.count("[ERROR]") == 1, outcome.output
    assert words in outcome.output
    assert "TASK [Container |" not in outcome.output
