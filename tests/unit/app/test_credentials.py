"""How credentials get past the environment: what is one, and what the next program finds."""

from __future__ import annotations

import fnmatch
import json
import os
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

import credentials
from codex_config import CodexConfig, render_config_toml
from credentials import hand_over, is_credential, not_for_a_header, without_line_ends
from provider_config import resolve_provider
from support.watchdog import APP
from workspace_config import load_workspace_config

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "CODEX_WORKSPACE_CREDENTIALS_FD"
PROVIDERS = {"OPENAI_API_KEY", "MY_LOGIN"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "MY_LOGIN", "GITEA_TOKEN", "GIT_HTTP_PASSWORD", "MOLECULE_INBOUND_SECRET"]
)
def test_a_line_end_is_no_part_of_a_secret(name: str, end: str) -> None:
    assert without_line_ends({name: f"sk-1{end}"}, PROVIDERS) == {name: "sk-1"}
    assert without_line_ends({name: f"\ufeff sk '1' {end}"}, PROVIDERS) == {name: " sk '1' "}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PLATFORM_URL", "http://platform\r", "http://platform"),
        ("GREETING", "hello\n", "hello\n"),
        ("SSH_KEY", "-----BEGIN-----\nabc\n", "-----BEGIN-----\nabc\n"),
        ("CODEX_AUTH_JSON", "{}\r\n", "{}\r\n"),
        ("MY_KEY", "", ""),
    ],
)
def test_what_is_no_secret_or_has_several_lines_stays_as_it_is(name: str, value: str, expected: str) -> None:
    assert without_line_ends({name: value}) == {name: expected}


@pytest.mark.parametrize("value", ["sk-1\nsk-2", "sk\x00", "sk-\u0142", "sk-\u00e9", "\udcff", "a\tb"])
def test_a_key_that_no_header_can_hold_is_named_and_not_shown(value: str) -> None:
    said = not_for_a_header("MY_KEY", value)
    assert said is not None
    assert said.startswith("MY_KEY has characters that no key has")
    assert value not in said
    assert not_for_a_header("MY_KEY", " sk-1 'x'\r\n") is None


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY",
        "MY_LOGIN",
        "CODEX_AUTH_JSON",
        "CODEX_CHATGPT_AUTH_JSON",
        "MOLECULE_LLM_USAGE_TOKEN",
        "MOLECULE_BOOT_TOKEN",
        "MOLECULE_CONFIG_BOOT_TOKEN",
        "MOLECULE_CONFIG_RELAY_TOKEN",
        "MOLECULE_INBOUND_SECRET",
        "PLATFORM_INBOUND_SECRET",
        "ADMIN_TOKEN",
        "MOLECULE_ADMIN_TOKEN",
        "CP_UPSTREAM",
    ],
)
def test_a_secret_of_the_platform_or_of_a_provider_is_a_credential(name: str) -> None:
    assert is_credential(name, PROVIDERS)


@pytest.mark.parametrize(
    "name",
    ["PATH", "GIT_HTTP_PASSWORD", "GITEA_TOKEN", "GH_TOKEN", "GITHUB_TOKEN", "WORKSPACE_ID", "PLATFORM_URL"],
)
def test_what_the_agent_works_with_is_none(name: str) -> None:
    assert not is_credential(name, PROVIDERS)


def handed_over(env: Mapping[str, str], code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` as the program that the entry point becomes, with `environment` at hand."""
    kept = hand_over({**env, "PYTHONPATH": str(APP)}, PROVIDERS)
    files = [int(kept[VARIABLE])] if VARIABLE in kept else []
    try:
        return subprocess.run(
            [sys.executable, "-c", f"import json, os; from credentials import environment; {code}"],
            env=kept,
            pass_fds=files,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for descriptor in files:
            os.close(descriptor)


def test_the_next_program_has_them_every_time_it_asks_and_its_environment_never() -> None:
    env = {"OPENAI_API_KEY": "sk-\udcff\n\u00fc", "ADMIN_TOKEN": "a", "KEPT": "1"}
    code = "first = environment(); print(json.dumps([first, environment(), dict(os.environ)]))"
    done = handed_over(env, code)
    assert done.returncode == 0, done.stderr
    first, second, environ = json.loads(done.stdout)
    assert first == second
    assert env.items() <= first.items()
    assert VARIABLE not in {**first, **environ}
    assert "OPENAI_API_KEY" not in environ


def test_the_file_is_closed_once_it_was_read() -> None:
    code = (
        f"fd = os.environ['{VARIABLE}']; there = os.path.exists(f'/proc/self/fd/{{fd}}'); environment(); "
        "print(there, os.path.exists(f'/proc/self/fd/{fd}'))"
    )
    assert handed_over({"OPENAI_API_KEY": "k"}, code).stdout == "True False\n"


def test_without_a_credential_there_is_no_file_and_what_was_given_from_outside_is_dropped() -> None:
    assert hand_over({"A": "1", VARIABLE: "7"}, PROVIDERS) == {"A": "1"}


def test_what_the_next_program_has_to_spend_itself_is_left_to_it() -> None:
    env = {"MOLECULE_CONFIG_RELAY_ACK_TOKEN": "once", "MOLECULE_BOOT_TOKEN": "b"}
    left = hand_over(env, PROVIDERS, ["MOLECULE_CONFIG_RELAY_ACK_TOKEN"])
    os.close(int(left.pop(VARIABLE)))
    assert left == {"MOLECULE_CONFIG_RELAY_ACK_TOKEN": "once"}


@pytest.mark.parametrize("value", ["0", "-1", "999999", "x", "3.5"])
def test_a_descriptor_that_is_not_the_entry_points_is_refused(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(RuntimeError, match=r"set by start\.sh and by nobody else: unset it"):
        credentials.environment()


def test_what_is_kept_from_processes_is_kept_from_the_models_commands_too() -> None:
    selection = resolve_provider(load_workspace_config(None), {"OPENAI_API_KEY": "k"})
    policy = tomllib.loads(render_config_toml("", CodexConfig(selection)))["shell_environment_policy"]
    examples = [pattern.replace("*", "X") for pattern in credentials.PLATFORM_SECRETS]
    seen = [
        name
        for name in examples
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in policy["exclude"])
    ]
    assert seen == []
