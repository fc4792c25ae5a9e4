"""The package installs what the image locks, and offers what others import."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

import molecule_runtime

_FILES = Path(__file__).resolve().parents[3] / "files"
_PROJECT = tomllib.loads((_FILES / "runtime" / "pyproject.toml").read_text())["project"]
_READER = tomllib.loads((_FILES / "config_document" / "pyproject.toml").read_text())["project"]


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!~ ]", requirement)[0].lower()


def _locked() -> dict[str, str]:
    text = (_FILES / "app" / "requirements.txt").read_text()
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*?\])?==([^ \\\n]+)", text, re.MULTILINE)
    return {name.lower(): version for name, version in found}


def test_every_dependency_is_one_that_the_image_asks_for_and_has_locked() -> None:
    """B-18: a dependency that nobody declares is missing in the image."""
    asked = {
        _name(line)
        for line in (_FILES / "app" / "requirements.in").read_text().splitlines()
        if line and not line.startswith("#")
    }
    declared = {_name(each) for each in (*_PROJECT["dependencies"], *_READER["dependencies"])}
    # The role installs this one from its source, beside every runtime.
    declared.remove(_READER["name"])
    assert declared <= asked
    assert declared <= _locked().keys()


def test_the_a2a_sdk_is_pinned_to_the_version_that_the_image_locks() -> None:
    """B-16: a floating SDK went from pydantic to protobuf under everyone."""
    (pin,) = (requirement for requirement in _PROJECT["dependencies"] if requirement.startswith("a2a-sdk"))
    assert pin == f"a2a-sdk[http-server]=={_locked()['a2a-sdk']}"


def test_the_version_is_said_in_one_way() -> None:
    assert _PROJECT["version"] == molecule_runtime.__version__
    assert _PROJECT["name"] == "molecules-workspace-runtime"


def test_the_package_is_typed_and_its_console_script_exists() -> None:
    package = Path(molecule_runtime.__file__).parent
    assert (package / "py.typed").is_file()
    module, _, function = _PROJECT["scripts"]["molecule-runtime"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("adapters.base", ["BaseAdapter", "AdapterConfig", "RuntimeCapabilities"]),
        ("configs_dir", ["resolve"]),
        ("executor_helpers", ["extract_message_text", "read_delegation_results", "set_current_task"]),
        (
            "platform_auth",
            ["get_token", "save_token", "refresh_cache", "auth_headers", "self_source_headers"],
        ),
        ("preflight", ["check"]),
        ("a2a_mcp_server", ["main"]),
        ("wedge", ["mark_wedged", "clear_wedge", "is_wedged", "wedge_reason"]),
    ],
)
def test_what_adapters_import_is_where_they_look_for_it(module: str, names: list[str]) -> None:
    imported = importlib.import_module(f"molecule_runtime.{module}")
    assert [name for name in names if not hasattr(imported, name)] == []
