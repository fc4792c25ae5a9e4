"""What is asked of the engine, and what is made of its answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from ansible.errors import AnsibleError

from support.plugins import load, path_with, put_command

if TYPE_CHECKING:
    from pathlib import Path

commit = load("plugins/action/docker_image_commit.py")
lookup = load("plugins/lookup/docker_image.py")

GIVEN: dict[str, Any] = {
    "entrypoint": None,
    "command": None,
    "env": {},
    "labels": {},
    "workdir": None,
    "healthcheck": None,
    "exposed_ports": [],
}

# --- docker_image_commit ----------------------------------------------------------------------------------


def test_what_is_not_given_is_not_sent_and_so_inherited() -> None:
    assert commit.changes(GIVEN) == []


def test_a_command_comes_after_the_entry_point_that_would_reset_it() -> None:
    instructions = commit.changes({**GIVEN, "entrypoint": ["/start.sh"], "command": ["serve"]})
    assert instructions == ['ENTRYPOINT ["/start.sh"]', 'CMD ["serve"]']


def test_an_empty_command_is_sent_since_it_is_not_an_absent_one() -> None:
    assert commit.changes({**GIVEN, "command": []}) == ["CMD []"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_value_that_would_end_its_instruction_is_refused(end: str) -> None:
    with pytest.raises(ValueError, match="holds a newline"):
        commit.changes({**GIVEN, "labels": {"a": f"b{end}ENTRYPOINT evil"}})


@pytest.mark.parametrize(
    ("own", "of_image", "added"),
    [
        (["PATH=/bin", "A=1"], ["A=1", "PATH=/bin"], []),
        (None, None, []),
        ([], None, []),
        (["PATH=/bin", "http_proxy=http://u:p@proxy"], ["PATH=/bin"], ["http_proxy"]),
        (["PATH=/other", "NO_PROXY"], ["PATH=/bin"], ["NO_PROXY", "PATH"]),
        (["A=1=2"], None, ["A"]),
    ],
)
def test_variables_that_a_container_has_beside_its_image_are_told_by_name_alone(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    own: list[str] | None,
    of_image: list[str] | None,
    added: list[str],
) -> None:
    script = f"""case "$1 $4" in
    "container the one") echo 'sha256:1 {json.dumps(own)}';;
    "image sha256:1") echo '{json.dumps(of_image)}';;
    *) exit 1;; esac"""
    fake_docker(monkeypatch, tmp_path, script)
    assert commit.added_variables("the one") == added


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


@pytest.mark.parametrize("code", [0, 1])
def test_what_the_client_warns_of_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    images = [{"Id": "sha256:1"}]
    gone = "echo 'Error: No such image: gone' >&2;" if code else ""
    warning = "echo 'WARNING: Error loading config file: /root/.docker/config.json: EOF' >&2"
    fake_docker(monkeypatch, tmp_path, f"{warning}; echo '{json.dumps(images)}'; {gone} exit {code}")
    assert lookup.LookupModule().run(["one", "gone"] if code else ["one"]) == images


def test_a_failure_behind_a_warning_is_still_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_docker(
        monkeypatch, tmp_path, "echo 'WARNING: x' >&2; echo '[]'; echo 'permission denied' >&2; exit 1"
    )
    with pytest.raises(AnsibleError, match="permission denied"):
        lookup.LookupModule().run(["one"])


@pytest.mark.parametrize("said", ["no JSON", "{"])
def test_an_answer_that_is_no_json_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str
) -> None:
    fake_docker(monkeypatch, tmp_path, f"echo '{said}'")
    with pytest.raises(AnsibleError, match="gave no JSON"):
        lookup.LookupModule().run(["one"])


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
