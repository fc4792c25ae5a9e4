from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app_server import MethodNotSupportedError
from atomic_file import write_atomically
from child_environment import child_environment
from provider_config import resolve_provider
from rollout import find_rollout, read_lines
from server_requests import ServerRequests
from workspace_config import load_workspace_config

if TYPE_CHECKING:
    from pathlib import Path

_ELICITATION = {
    "serverName": "molecule",
    "mode": "form",
    "requestedSchema": {"type": "object", "properties": {}},
}


# -- atomic_file ------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_replaced_is_untouched_and_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "occupied").touch()
    with pytest.raises(OSError, match="target"):
        write_atomically(target, "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]


def test_a_file_has_its_mode_before_it_has_its_name(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"\xff", mode=0o640)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "a").read_bytes() == b"\xff"


# -- child_environment ------------------------------------------------------------------------------


def test_codex_gets_no_credential_but_the_one_that_it_reads_itself() -> None:
    config = load_workspace_config(None)
    env = {
        "PATH": "/bin",
        "GIT_HTTP_PASSWORD": "g",
        "OPENAI_API_KEY": "o",
        "MINIMAX_API_KEY": "m",
        "CODEX_AUTH_JSON": "{}",
        "MOLECULE_LLM_USAGE_TOKEN": "t",
        "MOLECULE_INBOUND_SECRET": "i",
        "ADMIN_TOKEN": "a",
        "CP_SECRET": "c",
        "LLM_PROVIDER": "minimax-token-plan",
    }
    selection = resolve_provider(config, env)
    child = child_environment(env, selection, config.providers, codex_home="/c")
    assert child == {
        "PATH": "/bin",
        "GIT_HTTP_PASSWORD": "g",
        "MINIMAX_API_KEY": "m",
        "LLM_PROVIDER": "minimax-token-plan",
        "CODEX_HOME": "/c",
    }


def test_the_platforms_own_key_stays_where_the_platform_is_the_provider() -> None:
    config = load_workspace_config(None)
    env = {"MOLECULE_LLM_USAGE_TOKEN": "t", "MOLECULE_LLM_BASE_URL": "http://p", "LLM_PROVIDER": "platform"}
    child = child_environment(env, resolve_provider(config, env), config.providers, codex_home="/c")
    assert child["MOLECULE_LLM_USAGE_TOKEN"] == "t"


# -- server_requests --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sandbox", "decision", "legacy", "permissions"),
    [
        ("danger-full-access", "accept", "approved", {"network": {"enabled": True}}),
        ("workspace-write", "decline", "denied", {}),
    ],
)
def test_an_approval_is_given_only_where_the_container_is_the_sandbox(
    sandbox: str, decision: str, legacy: str, permissions: object
) -> None:
    answer = ServerRequests(sandbox=sandbox, trusted_mcp_servers=[])
    assert answer("item/commandExecution/requestApproval", {}) == {"decision": decision}
    assert answer("item/fileChange/requestApproval", {}) == {"decision": decision}
    assert answer("execCommandApproval", {}) == {"decision": legacy}
    asked = {"permissions": {"network": {"enabled": True}}}
    assert answer("item/permissions/requestApproval", asked)["permissions"] == permissions


@pytest.mark.parametrize(
    ("change", "action"),
    [
        ({}, "accept"),
        ({"serverName": "other"}, "decline"),
        ({"mode": "url"}, "decline"),
        ({"requestedSchema": {"type": "object", "required": ["name"]}}, "decline"),
    ],
)
def test_only_our_own_server_is_trusted_and_only_with_what_needs_no_person(
    change: dict[str, object], action: str
) -> None:
    answer = ServerRequests(sandbox="workspace-write", trusted_mcp_servers=["molecule"])
    assert answer("mcpServer/elicitation/request", {**_ELICITATION, **change})["action"] == action


@pytest.mark.parametrize("method", ["account/chatgptAuthTokens/refresh", "something/new"])
def test_what_has_no_honest_answer_is_refused(method: str) -> None:
    with pytest.raises(MethodNotSupportedError, match=method):
        ServerRequests(sandbox="read-only", trusted_mcp_servers=[])(method, {})


# -- rollout ----------------------------------------------------------------------------------------


def test_the_rollout_of_a_thread_is_found_by_its_id(tmp_path: Path) -> None:
    day = tmp_path / "sessions/2026/01/02"
    day.mkdir(parents=True)
    (day / "rollout-2026-01-02T03-04-05-other.jsonl").touch()
    wanted = day / "rollout-2026-01-02T03-04-05-t1.jsonl"
    wanted.touch()
    assert find_rollout(tmp_path, "t1") == wanted
    assert find_rollout(tmp_path, "t2") is None
    assert find_rollout(tmp_path / "missing", "t1") is None


def test_lines_come_in_pages_and_one_that_is_being_written_waits(tmp_path: Path) -> None:
    path = tmp_path / "rollout"
    path.write_text('{"n": 0}\n{"n": 1}\nbroken\n{"n": 3')
    assert read_lines(path, 0, 2) == ([{"n": 0}, {"n": 1}], True)
    assert read_lines(path, 2, 2) == ([{"type": "unreadable", "text": "broken"}], False)
    assert read_lines(path, 9, 2) == ([], False)
