"""Every setting, pin and list that stands in two places says the same in both."""

from __future__ import annotations

import json
import re
import sysconfig
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from support.plugins import ROOT

ROLE = ROOT / "roles/codex_workspace"
GROUP_VARS = ROOT / "inventory/group_vars"
VARIABLE = re.compile(r"\bcodex_workspace_[a-z0-9_]*[a-z0-9]\b(?!_)")
README_ROW = re.compile(r"^\| `(codex_workspace_\w+)` \| (.+?) \| (.+) \|$", re.MULTILINE)


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def public(variables: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in variables.items() if name.startswith("codex_workspace_")}


DEFAULTS: dict[str, Any] = read(ROLE / "defaults/main.yml")
OPTIONS: dict[str, Any] = read(ROLE / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
SETTINGS: dict[str, Any] = public(read(GROUP_VARS / "all.yml"))


def test_every_default_is_described_and_every_description_has_a_default() -> None:
    assert list(OPTIONS) == list(DEFAULTS)
    assert [name for name, option in OPTIONS.items() if len(option["description"]) < 20] == []


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_the_described_default_is_the_default(name: str) -> None:
    """A default that is worked out on the spot is described in words instead."""
    default, described = DEFAULTS[name], OPTIONS[name]["default"]
    if isinstance(default, str) and "{{" in default:
        try:
            default = jinja2.Template(default, undefined=jinja2.StrictUndefined).render(**DEFAULTS)
        except jinja2.UndefinedError:
            assert described.strip()
            assert "{{" not in described
            return
    assert described == default
    types: dict[str, type | tuple[type, ...]] = {
        "str": str,
        "path": str,
        "list": list,
        "int": int,
        "bool": bool,
        "dict": dict,
    }
    assert isinstance(described, types[OPTIONS[name]["type"]])


def test_the_readme_has_one_row_for_each_variable_of_the_role_and_of_the_build() -> None:
    rows = [name for name, _, _ in README_ROW.findall((ROOT / "README.md").read_text())]
    assert sorted(rows) == sorted({**DEFAULTS, **SETTINGS})


def test_the_readme_gives_the_defaults_that_are_not_worked_out_on_the_spot() -> None:
    """B-38: figures in documents drift."""
    rows = {name: cell.lower() for name, cell, _ in README_ROW.findall((ROOT / "README.md").read_text())}
    described = {**SETTINGS, **{name: option["default"] for name, option in OPTIONS.items()}}
    words = {
        name: [str(word).lower() for word in (value if isinstance(value, list) else [value])]
        for name, value in described.items()
        if "{{" not in str(value)
    }
    wrong = {
        name: rows[name] for name, wanted in words.items() if any(word not in rows[name] for word in wanted)
    }
    assert wrong == {}


@pytest.mark.parametrize(
    "file",
    sorted(
        file.relative_to(ROOT).as_posix()
        for top in ("roles", "playbooks", "inventory")
        for file in (ROOT / top).rglob("*")
        if file.suffix in (".yml", ".j2")
    ),
)
def test_every_variable_is_defined_that_is_used_in(file: str) -> None:
    text = re.sub(r"\bcodex_workspace_\(\S+", "", (ROOT / file).read_text())
    known = {**DEFAULTS, **SETTINGS, **public(read(GROUP_VARS / "build.yml"))}
    assert set(VARIABLE.findall(text)) - set(known) == set()


def test_a_setting_of_the_build_overrides_no_variable_of_the_role_for_every_host() -> None:
    assert set(SETTINGS) & set(DEFAULTS) == set()


def test_the_newest_entry_of_the_changelog_is_the_images_version() -> None:
    versions = re.findall(r"^## \[?v?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[:1] == [SETTINGS["codex_workspace_image_version"]]


def included() -> list[tuple[str, list[str], list[str]]]:
    """(file, tags of its tasks, own tags) of each layer."""
    tasks = read(ROLE / "tasks/layers.yml")
    includes = [(task["ansible.builtin.include_tasks"], task["tags"]) for task in tasks]
    return [(include["file"], include["apply"]["tags"], tags) for include, tags in includes]


def test_the_role_applies_the_layers_in_the_order_in_which_images_have_them() -> None:
    layers = [layer["name"] for layer in read(ROLE / "vars/main.yml")["_codex_workspace_layers"]]
    assert [file for file, _, _ in included()] == [f"{name}.yml" for name in layers]
    assert [file for file, _, _ in included() if not (ROLE / "tasks" / file).is_file()] == []


def test_each_layer_can_be_applied_alone_by_its_tag() -> None:
    first = [
        (task["ansible.builtin.import_tasks"], task["tags"]) for task in read(ROLE / "tasks/main.yml")[:2]
    ]
    assert first == [("preflight.yml", ["always"]), ("target.yml", ["always"])]
    for file, inner, own in included():
        assert inner == own == [file.removesuffix(".yml")]


def test_each_layer_is_applied_only_where_it_is_wanted() -> None:
    for task in read(ROLE / "tasks/layers.yml"):
        (tag,) = task["tags"]
        assert task["when"] == f"'{tag}' in _codex_workspace_applied"


@pytest.mark.parametrize(
    "collection", read(ROOT / "requirements.yml")["collections"], ids=lambda collection: collection["name"]
)
def test_the_pinned_collection_is_the_one_that_the_locked_environment_has(collection: dict[str, str]) -> None:
    namespace, name = collection["name"].split(".")
    installed = (
        Path(sysconfig.get_path("purelib")) / "ansible_collections" / namespace / name / "MANIFEST.json"
    )
    assert json.loads(installed.read_text())["collection_info"]["version"] == collection["version"]
