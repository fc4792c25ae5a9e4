"""What a release of a distribution changes: who brings Python, and whether a docker client comes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.local_target import Target
from support.plugins import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SYSTEM = ("/usr/bin/python3", ["python3", "python3-venv"])
OF_ITS_OWN = ("/usr/bin/python3.11", ["python3", "python3.11", "python3.11-venv"])


def decisions(
    directory: Path, distribution: str, release: str, kind: str, *, engine: bool = False
) -> dict[str, Any]:
    names = ("host_python", "python_packages", "docker_client", "engine_left_out")
    found = {name: "{{ _codex_workspace_" + name + " }}" for name in names}
    (result,) = Target(directory).run(
        {
            "ansible.builtin.set_fact": found,
            "vars": {
                "codex_workspace_target": kind,
                "codex_workspace_engine_enabled": engine,
                "_codex_workspace_target": {"distribution": distribution, "release": release},
            },
        },
        vars_files=[str(ROOT / "roles/codex_workspace/vars/main.yml")],
    )
    facts: dict[str, Any] = result["ansible_facts"]
    return facts


@pytest.mark.parametrize(
    ("distribution", "release", "python", "client"),
    [
        ("debian", "12", SYSTEM, False),
        ("debian", "13", SYSTEM, True),
        ("ubuntu", "22.04", OF_ITS_OWN, False),
        ("ubuntu", "24.04", SYSTEM, False),
    ],
)
def test_a_host_has_a_new_enough_python_and_a_client_where_one_comes_without_an_engine(
    tmp_path: Path, distribution: str, release: str, python: tuple[str, list[str]], client: bool
) -> None:
    found = decisions(tmp_path, distribution, release, "host")
    assert (found["host_python"], found["python_packages"]) == python
    assert (found["docker_client"], found["engine_left_out"]) == (client, False)
    assert decisions(tmp_path, distribution, release, "host", engine=True)["docker_client"] is True


@pytest.mark.parametrize(("release", "left_out"), [("12", True), ("13", False)])
def test_an_image_always_has_a_client_and_never_an_engine(
    tmp_path: Path, release: str, left_out: bool
) -> None:
    found = decisions(tmp_path, "debian", release, "image")
    assert (found["docker_client"], found["engine_left_out"]) == (True, left_out)
