"""A layer's key changes with what goes into the layer, and with nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from support.plugins import ROOT, load, path_with, put_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

layers = load("plugins/action/image_layers.py")

# --- digest_of_tree ---------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/a.py").write_text("one")
    (tmp_path / "tree/b.sh").write_text("two")
    return tmp_path / "tree"


def change_content(tree: Path) -> None:
    (tree / "b.sh").write_text("tw0")


def make_executable(tree: Path) -> None:
    (tree / "b.sh").chmod(0o755)


def rename(tree: Path) -> None:
    (tree / "sub/a.py").rename(tree / "sub/c.py")


def add_an_empty_file(tree: Path) -> None:
    (tree / "sub/new").touch()


def swap_two_contents(tree: Path) -> None:
    (tree / "b.sh").write_text("one")
    (tree / "sub/a.py").write_text("two")


@pytest.mark.parametrize(
    "change", [change_content, make_executable, rename, add_an_empty_file, swap_two_contents]
)
def test_the_digest_sees_a_change_of_the_tree(tree: Path, change: Callable[[Path], None]) -> None:
    before = layers.digest_of_tree(tree)
    change(tree)
    assert layers.digest_of_tree(tree) != before


def add_bytecode(tree: Path) -> None:
    (tree / "sub/__pycache__").mkdir()
    (tree / "sub/__pycache__/a.cpython-311.pyc").write_bytes(b"\0")


def touch(tree: Path) -> None:
    os.utime(tree / "b.sh", (1, 1))


def take_rights_of_others(tree: Path) -> None:
    (tree / "b.sh").chmod(0o600)


@pytest.mark.parametrize("change", [add_bytecode, touch, take_rights_of_others])
def test_the_digest_does_not_see_what_no_image_gets(tree: Path, change: Callable[[Path], None]) -> None:
    before = layers.digest_of_tree(tree)
    change(tree)
    assert layers.digest_of_tree(tree) == before


def test_the_digest_is_the_same_in_another_checkout(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "elsewhere/tree")
    assert layers.digest_of_tree(tmp_path / "elsewhere/tree") == layers.digest_of_tree(tree)


# --- the plan ---------------------------------------------------------------------------------------------

BASE = "sha256:" + "b" * 64
LAYERS = [{"name": "first"}, {"name": "second", "files": ["app"]}, {"name": "third"}]
VARIABLES: dict[str, Any] = {
    "codex_workspace_packages": ["git"],
    "codex_workspace_codex_version": "0.130.0",
    "codex_workspace_build_pip_index_url": "http://one/",
    "codex_workspace_scratch": "/mnt",
    "codex_workspace_controller_cache": "/home/one/.cache",
    "codex_workspace_cache_enabled": True,
}


class Engine:
    """A role of three layers, its files, and a fake engine that holds images with keys."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images: list[dict[str, Any]] = []
        self.environment: list[str] | None = ["PATH=/bin", "LANG=C.UTF-8"]
        self.variables = dict(VARIABLES)
        self.role = root / "role"
        (self.role / "tasks").mkdir(parents=True)
        (self.role / "tasks/first.yml").write_text(
            "{{ codex_workspace_packages }} {{ codex_workspace_scratch }} {{ codex_workspace_t4_enabled }}"
        )
        (self.role / "tasks/second.yml").write_text(
            "{{ _codex_workspace_tarballs }} {{ codex_workspace_build_pip_index_url }} "
            "{{ codex_workspace_controller_cache }} {{ _codex_workspace_registered_later }}"
            "{{ codex_workspace_nodejs_major }}"
        )
        (self.role / "tasks/third.yml").write_text("nothing")
        (self.role / "meta").mkdir()
        shutil.copy(ROOT / "roles/codex_workspace/meta/argument_specs.yml", self.role / "meta")
        self.private("tool-{{ codex_workspace_codex_version }}")
        (root / "files/app").mkdir(parents=True)
        (root / "files/app/main.py").write_text("print()")
        put_command(
            root / "bin",
            "docker",
            f"""case "$1 $2" in
            "image ls") cat {root}/ids;;
            "image inspect") test "$3" = "$(cat {root}/base)" && cat {root}/images;;
            *) echo "unexpected: $*" >&2; exit 1;; esac""",
        )

    def private(self, tarballs: str) -> None:
        """Set the role's private variable, which only a file of the role can set."""
        (self.role / "vars").mkdir(exist_ok=True)
        (self.role / "vars/main.yml").write_text(json.dumps({"_codex_workspace_tarballs": tarballs}))

    def plan(self, parent: str = BASE, *, reuse: bool = True) -> dict[str, Any]:
        """Run the action in a real play and return its result."""
        (self.root / "base").write_text(parent)
        (self.root / "ids").write_text("".join(f"{image['Id']}\n" for image in self.images))
        base = {"Id": parent, "Size": 1, "Config": {"Env": self.environment}}
        (self.root / "images").write_text(json.dumps([base, *self.images]))
        arguments = {
            "parent": parent,
            "role_path": str(self.role),
            "files_dir": str(self.root / "files"),
            "layers": LAYERS,
            "reuse": reuse,
        }
        write = {"path": str(self.root), "files": {"plan.json": "{{ plan | to_json }}"}, "directories": []}
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": self.variables,
            "tasks": [
                {"image_layers": arguments, "register": "plan"},
                {"scratch_files": write},
            ],
        }
        (self.root / "play.yml").write_text(json.dumps([play]))
        done = subprocess.run(
            [
                "ansible-playbook",
                "--inventory",
                "localhost,",
                "--connection",
                "local",
                self.root / "play.yml",
            ],
            cwd=ROOT,
            env={**os.environ, **path_with(self.root / "bin")},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout
        result: dict[str, Any] = json.loads((self.root / "plan.json").read_text())
        return result

    def inputs(self) -> list[str]:
        """Return the inputs of the three layers, none of which the engine has."""
        return [layer["inputs"] for layer in self.plan(reuse=False)["missing"]]

    def build(self, parent: str = BASE) -> None:
        """Put on the engine what a build would: each missing layer, on top of the last."""
        plan = self.plan(parent)
        top = plan["parent"]
        for layer in plan["missing"]:
            key = layers.layer_key(top, layer["inputs"])
            top = f"sha256:{len(self.images):064d}"
            config = {"Labels": {layers.KEY_LABEL: key}, "Env": self.environment}
            self.images.append({"Id": top, "Size": 1, "Config": config})


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path)


def names(plan: dict[str, Any], state: str) -> list[str]:
    return [layer["name"] for layer in plan[state]]


def test_an_engine_without_layers_has_all_of_them_missing(engine: Engine) -> None:
    plan = engine.plan()
    assert names(plan, "missing") == ["first", "second", "third"]
    assert (plan["reused"], plan["parent"], plan["changed"]) == ([], BASE, False)


def test_what_was_built_is_used_again_and_not_where_reuse_is_refused(engine: Engine) -> None:
    engine.build()
    plan = engine.plan()
    assert names(plan, "reused") == ["first", "second", "third"]
    assert (plan["missing"], plan["parent"]) == ([], engine.images[-1]["Id"])
    assert names(engine.plan(reuse=False), "missing") == ["first", "second", "third"]


def test_a_layer_that_changed_takes_those_above_it_along_and_none_below(engine: Engine) -> None:
    engine.build()
    (engine.root / "files/app/main.py").write_text("print(1)")
    plan = engine.plan()
    assert names(plan, "reused") == ["first"]
    assert names(plan, "missing") == ["second", "third"]


@pytest.mark.parametrize(
    "environment",
    [
        ["PATH=/bin", "LANG=C.UTF-8", "HTTPS_PROXY=http://user:s3cret@proxy.example"],
        ["PATH=/bin", "LANG=de_DE.UTF-8"],
        ["PATH=/bin"],
        None,
    ],
    ids=["more", "another", "less", "none"],
)
def test_a_layer_that_has_not_the_environment_of_its_base_is_not_used_again(
    engine: Engine, environment: list[str] | None
) -> None:
    """It was committed with what a docker client gave its container: proxies, with their passwords."""
    engine.build()
    engine.images[1]["Config"]["Env"] = environment
    plan = engine.plan()
    assert names(plan, "reused") == ["first"]
    assert names(plan, "missing") == ["second", "third"]


def test_the_order_of_the_environment_does_not_matter_and_a_base_may_have_none(engine: Engine) -> None:
    engine.build()
    engine.images[1]["Config"]["Env"] = list(reversed(engine.environment or []))
    assert names(engine.plan(), "missing") == []
    engine.environment = None
    for image in engine.images:
        image["Config"]["Env"] = []
    assert names(engine.plan(), "missing") == []


def test_another_base_changes_every_layer(engine: Engine) -> None:
    engine.build()
    assert engine.plan("sha256:" + "c" * 64)["reused"] == []


def test_a_key_changes_with_the_task_file_a_variable_and_a_file_of_its_layer_alone(engine: Engine) -> None:
    first = engine.inputs()
    (engine.role / "tasks/third.yml").write_text("another")
    second = engine.inputs()
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, True, False]
    engine.variables["codex_workspace_packages"] = ["git", "jq"]
    third = engine.inputs()
    assert [a == b for a, b in zip(second, third, strict=True)] == [False, True, True]
    (engine.root / "files/app/main.py").chmod(0o755)
    assert [a == b for a, b in zip(third, engine.inputs(), strict=True)] == [True, False, True]


def test_a_key_changes_with_a_variable_that_a_private_one_mentions(engine: Engine) -> None:
    first = engine.inputs()
    engine.variables["codex_workspace_codex_version"] = "0.131.0"
    assert [a == b for a, b in zip(first, engine.inputs(), strict=True)] == [True, False, True]


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("codex_workspace_nodejs_major", [20, "20", " 20"]),
        ("codex_workspace_t4_enabled", [True, "true", "yes", "True", 1, "1", "on"]),
        ("codex_workspace_packages", [["1"], [1]]),
        ("codex_workspace_codex_version", ["1.5", 1.5]),
    ],
)
def test_a_key_is_the_same_however_a_value_was_written(engine: Engine, name: str, forms: list[Any]) -> None:
    found = []
    for form in forms:
        engine.variables[name] = form
        found.append(engine.inputs())
    assert found == [found[0]] * len(forms)
    engine.variables[name] = {"codex_workspace_packages": ["2"], "codex_workspace_t4_enabled": "no"}.get(
        name, 22
    )
    assert engine.inputs() != found[0]


def test_a_pin_enters_the_key_even_where_a_fact_of_the_target_is_not_known_yet(engine: Engine) -> None:
    """B-28: a key without it brings back the layer of the version before.

    The fact stands beside the pin in one template, and is known only when a container runs.
    """
    engine.private("tool-{{ _codex_workspace_target.machine }}@{{ codex_workspace_codex_version }}")
    first = engine.inputs()
    engine.variables["codex_workspace_codex_version"] = "0.131.0"
    assert [a == b for a, b in zip(first, engine.inputs(), strict=True)] == [True, False, True]


def test_no_key_changes_with_where_bytes_come_from_or_where_scratch_is(engine: Engine) -> None:
    first = engine.inputs()
    engine.variables.update(
        codex_workspace_build_pip_index_url="http://two/",
        codex_workspace_scratch="/other",
        codex_workspace_controller_cache="/home/two/.cache",
        codex_workspace_cache_enabled=False,
    )
    assert engine.inputs() == first
