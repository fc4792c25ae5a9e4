"""What is asked of the engine, and what is made of its answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from ansible.errors import AnsibleError

from support.plugins import load, path_with, put_command, run_module

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "plugins/modules/docker_image_commit.py"
commit = load(COMMIT)
lookup = load("plugins/lookup/docker_image.py")

GIVEN: dict[str, object] = {
    "entrypoint": None,
    "command": None,
    "env": {},
    "labels": {},
    "workdir": None,
    "exposed_ports": [],
}

# --- docker_image_commit ----------------------------------------------------------------------------------


def test_what_is_not_given_is_not_sent_and_so_inherited() -> None:
    assert commit.container_config(GIVEN) == {"Env": [], "Labels": {}, "ExposedPorts": {}}


def test_the_configuration_is_sent_as_it_is_with_nothing_to_quote_or_expand() -> None:
    config = commit.container_config(
        {
            "entrypoint": ["/bin/sh", "-c", 'echo "$HOME"'],
            "command": [],
            "env": {"B": "two words", "A": "$A=1"},
            "labels": {"number": 1},
            "workdir": "/app",
            "exposed_ports": ["8000/tcp"],
        }
    )
    assert config == {
        "Entrypoint": ["/bin/sh", "-c", 'echo "$HOME"'],
        "Cmd": [],
        "Env": ["A=$A=1", "B=two words"],
        "Labels": {"number": "1"},
        "WorkingDir": "/app",
        "ExposedPorts": {"8000/tcp": {}},
    }


def test_an_engine_that_does_not_answer_is_said_with_what_to_do(tmp_path: Path) -> None:
    report = run_module(COMMIT, {"container": "any"}, {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert report["failed"]
    assert "No Docker engine answered" in report["msg"]
    assert "DOCKER_HOST" in report["msg"]


# --- docker_image -----------------------------------------------------------------------------------------


def fake_docker(monkeypatch: pytest.MonkeyPatch, root: Path, script: str) -> None:
    put_command(root, "docker", f'echo "$*" >>{root}/journal\n{script}')
    monkeypatch.setenv("PATH", path_with(root)["PATH"])


def test_images_that_exist_are_returned_and_others_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images = [{"Id": "sha256:1"}, {"Id": "sha256:2"}]
    script = f"echo '{json.dumps(images)}'; echo 'Error: No such image: gone' >&2; exit 1"
    fake_docker(monkeypatch, tmp_path, script)
    assert lookup.LookupModule().run(["one", "gone", "two"]) == images
    assert (tmp_path / "journal").read_text() == "image inspect one gone two\n"


def test_the_answer_of_an_engine_that_has_none_of_them_is_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_docker(monkeypatch, tmp_path, "echo '[]'; echo 'Error response: No such image: gone' >&2; exit 1")
    assert lookup.LookupModule().run(["gone"]) == []


def test_no_question_is_asked_where_no_image_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_docker(monkeypatch, tmp_path, "exit 1")
    assert lookup.LookupModule().run([]) == []
    assert not (tmp_path / "journal").exists()


def test_an_engine_that_is_not_there_is_not_taken_for_one_without_images(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_docker(monkeypatch, tmp_path, "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    with pytest.raises(AnsibleError, match="Cannot connect to the Docker daemon"):
        lookup.LookupModule().run(["one"])
