"""An image is committed with the configuration that was asked for, to the letter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.image_build import docker, inspect, play

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AWKWARD = """ two  words, "quoted" 'twice', $HOME ${HOME} \\$HOME \\ # and = """


@pytest.fixture
def container(base: str) -> Iterator[str]:
    """A container that never ran, whose own command must not be inherited."""
    name = docker("create", "--entrypoint", "sleep", base, "7200")
    yield name
    docker("rm", name)


@pytest.fixture
def image(tmp_path: Path, container: str) -> Iterator[str]:
    commit = {
        "docker_image_commit": {
            "container": container,
            "message": "a test",
            "entrypoint": ["/bin/echo", AWKWARD],
            "workdir": "/app",
            "env": {"AWKWARD": AWKWARD, "PYTHON_VERSION": "laid over"},
            "labels": {"awkward": AWKWARD},
            "exposed_ports": ["8000/tcp"],
        },
        "register": "committed",
    }
    write = {"path": str(tmp_path), "files": {"id": "{{ committed.image_id }}"}, "directories": []}
    code, output = play(tmp_path, [commit, {"scratch_files": write}])
    assert code == 0, output
    image = (tmp_path / "id").read_text()
    yield image
    docker("image", "rm", "--no-prune", image)


def test_every_value_arrives_as_it_was_given_and_nothing_is_inherited_by_accident(
    image: str, base: str
) -> None:
    config, before = inspect(image)["Config"], inspect(base)["Config"]
    assert config["Entrypoint"] == ["/bin/echo", AWKWARD]
    assert not config["Cmd"]
    assert config["WorkingDir"] == "/app"
    assert config["ExposedPorts"] == {"8000/tcp": {}}
    assert config["Labels"] == {**before["Labels"], "awkward": AWKWARD}
    env = dict(line.split("=", 1) for line in config["Env"])
    inherited = dict(line.split("=", 1) for line in before["Env"])
    assert env == {**inherited, "AWKWARD": AWKWARD, "PYTHON_VERSION": "laid over"}


def test_a_container_that_is_not_there_is_named(tmp_path: Path, base: str) -> None:
    code, output = play(tmp_path, [{"docker_image_commit": {"container": "codex-workspace-test-absent"}}])
    assert code == 2
    assert "codex-workspace-test-absent" in output
