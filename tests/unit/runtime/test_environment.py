"""The container's variables, and the directory of credentials that follows from them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from molecule_runtime import configs_dir
from molecule_runtime.environment import Environment, EnvironmentVariableError


def read(**variables: str) -> Environment:
    return Environment.read({"WORKSPACE_ID": "ws-1", **variables})


@pytest.mark.parametrize("value", ["", "A", "a/b", "a b", "-a", "../x", "a" * 129, "a\n"])
def test_a_workspace_id_that_must_not_enter_a_url_is_refused(value: str) -> None:
    with pytest.raises(EnvironmentVariableError, match="WORKSPACE_ID"):
        read(WORKSPACE_ID=value)


@pytest.mark.parametrize("value", ["a", "0", "3f2b-x", "a" * 128])
def test_a_workspace_id_is_taken_as_it_is(value: str) -> None:
    assert read(WORKSPACE_ID=value).workspace_id == value


@pytest.mark.parametrize("value", ["platform:8080", "ftp://x", "http://", "nonsense"])
def test_a_platform_url_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(EnvironmentVariableError, match="PLATFORM_URL"):
        read(PLATFORM_URL=value)


def test_there_is_one_default_for_the_platform_url() -> None:
    assert read(PLATFORM_URL="https://p.example/").platform_url == "https://p.example"
    assert read(PLATFORM_URL="OFF").platform_url is None
    inside = Path("/.dockerenv").exists()
    assert read().platform_url == ("http://host.docker.internal:8080" if inside else "http://localhost:8080")
    assert read(PLATFORM_URL="", DOCKER_VERSION="27").platform_url == "http://host.docker.internal:8080"


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({"MOLECULE_WORKSPACE_URL": "https://w.example/a2a"}, "https://w.example/a2a"),
        ({"HOSTNAME": "c0ffee"}, "http://c0ffee:8000"),
        ({"HOSTNAME": "127.0.0.1"}, "http://localhost:8000"),
        ({"HOSTNAME": "127.0.1.1"}, "http://localhost:8000"),
    ],
)
def test_the_url_to_dial_is_verbatim_or_made_of_a_name_that_the_platform_accepts(
    variables: dict[str, str], url: str
) -> None:
    assert read(**variables).external_url(8000) == url


def test_an_explicit_configs_directory_is_made_and_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONFIGS_DIR", str(tmp_path / "deep" / "configs"))
    assert configs_dir.resolve() == tmp_path / "deep" / "configs"
    assert configs_dir.resolve().is_dir()


def test_a_writable_default_directory_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CONFIGS_DIR")
    monkeypatch.setattr(configs_dir, "DEFAULT_CONFIGS", tmp_path)
    assert configs_dir.resolve() == tmp_path


def test_without_a_writable_default_the_home_directory_is_taken_and_private(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """B-1: the runtime and the MCP child call this one function, and so find one token."""
    monkeypatch.delenv("CONFIGS_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(configs_dir, "DEFAULT_CONFIGS", tmp_path / "configs")
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = configs_dir.resolve()
    assert found == tmp_path / "home" / ".molecule-workspace"
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
