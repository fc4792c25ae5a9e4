"""Of the docker client's configuration, a build takes what reaches the engine, and the proxies."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest

from support.plugins import load, path_with, put_command

if TYPE_CHECKING:
    from pathlib import Path

client = load("plugins/lookup/docker_client.py")
session = load("plugins/action/build_session.py")

PROXY = "http://user:s3cret@proxy.example:3128"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The client's directory, where it is without DOCKER_CONFIG."""
    (tmp_path / ".docker").mkdir()
    return tmp_path / ".docker"


def read(directory: Path, content: Any = None) -> dict[str, Any]:
    if content is not None:
        (directory / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    found: dict[str, Any] = client.read({"HOME": str(directory.parent)})
    return found


def test_a_client_that_is_configured_with_nothing_reaches_its_default_and_has_no_proxies(
    directory: Path,
) -> None:
    assert read(directory) == {"directory": str(directory), "reach": {}, "proxies": {}}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "5", "\ufeff{}", '{"proxies": 5}', '{"proxies": {"default": []}}', "null"]
)
def test_a_file_that_the_client_would_warn_of_counts_as_empty(directory: Path, content: str) -> None:
    assert read(directory, content) == {"directory": str(directory), "reach": {}, "proxies": {}}


def test_a_directory_that_is_named_stands_in_for_the_one_at_home(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"currentContext": "there"}')
    found = client.read({"HOME": "/nonexistent", "DOCKER_CONFIG": str(tmp_path)})
    assert found == {"directory": str(tmp_path), "reach": {"currentContext": "there"}, "proxies": {}}


def test_each_kind_of_proxy_is_found_in_whatever_case_the_client_takes(directory: Path) -> None:
    kinds = {"httpProxy": "a", "HTTPSPROXY": "b", "ftpproxy": "c", "noProxy": "d", "allProxy": "e", "x": "f"}
    assert read(directory, {"Proxies": {"default": kinds}})["proxies"] == {
        "http_proxy": "a",
        "https_proxy": "b",
        "ftp_proxy": "c",
        "no_proxy": "d",
        "all_proxy": "e",
    }


def test_proxies_that_are_empty_or_no_text_are_none(directory: Path) -> None:
    kinds = {"httpProxy": "", "httpsProxy": None, "noProxy": ["localhost"]}
    assert read(directory, {"proxies": {"default": kinds}})["proxies"] == {}


@pytest.mark.parametrize(
    ("address", "expected"), [("tcp://one:2376", "one"), ("unix:///var/run/docker.sock", "all"), ("", "all")]
)
def test_proxies_of_the_engine_that_the_client_reaches_stand_in_for_those_of_all(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, expected: str
) -> None:
    put_command(tmp_path / "bin", "docker", f"echo 'WARNING: whatever' >&2; echo '{address}'")
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin")["PATH"])
    of_engines = {"default": {"httpProxy": "all", "noProxy": "x"}, "tcp://one:2376": {"httpProxy": "one"}}
    found = read(directory, {"proxies": of_engines})["proxies"]
    assert found == ({"http_proxy": "one"} if expected == "one" else {"http_proxy": "all", "no_proxy": "x"})


# --- the client of a build --------------------------------------------------------------------------------


def test_the_builds_own_client_has_what_reaches_the_engine_and_nothing_else(
    directory: Path, tmp_path: Path
) -> None:
    content = {
        "proxies": {"default": {"httpProxy": PROXY}},
        "Proxies": {"unix:///var/run/docker.sock": {"httpProxy": PROXY}},
        "auths": {"registry.example": {"auth": "czNjcmV0"}},
        "credsStore": "desktop",
        "psFormat": "{{.Names}}",
        "detachKeys": "ctrl-e,e",
        "currentcontext": "there",
        "HttpHeaders": {"X-Token": "of the engine's gate"},
        "whateverComesNext": {"env": {"SECRET": "s3cret"}},
    }
    (directory / "contexts").mkdir()
    (directory / "contexts/meta").write_text("kept")
    (directory / "ca.pem").write_text("kept too")
    target = tmp_path / "bare"
    session.bare_client(target, read(directory, content))
    assert json.loads((target / "config.json").read_text()) == {
        "currentContext": "there",
        "HttpHeaders": {"X-Token": "of the engine's gate"},
    }
    assert (target / "contexts/meta").read_text() == "kept"
    assert (target / "ca.pem").read_text() == "kept too"
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (target, target / "config.json")]
    assert modes == [0o700, 0o600]


def test_a_client_without_a_directory_gets_an_empty_configuration(tmp_path: Path) -> None:
    target = tmp_path / "bare"
    session.bare_client(target, client.read({"DOCKER_CONFIG": str(tmp_path / "gone")}))
    assert [path.name for path in target.iterdir()] == ["config.json"]
    assert (target / "config.json").read_text() == "{}"
