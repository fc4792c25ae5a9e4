from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from codex_config import (
    CodexConfig,
    ConfigTomlError,
    McpServer,
    codex_home,
    expected_endpoint,
    render_config_toml,
    write_config_toml,
)
from provider_config import resolve_provider
from support.predecessor_toml import FORMS, minimax
from workspace_config import load_workspace_config

if TYPE_CHECKING:
    from pathlib import Path

MCP = McpServer("molecule", "/usr/bin/python3", ["-m", "server"], {"CONFIGS_DIR": "/configs"}, ["PYTHONPATH"])
HAND_WRITTEN = """\
# This file is mine.
model_reasoning_effort = "high" # think

[features]
apps = true # I want these

# Trusted by hand.
[projects."/workspace"]
trust_level = "trusted"

[mcp_servers.other]
command = "other"

# The end.
"""

HAND_WRITTEN_TABLE = '[mcp_servers.other]\ncommand = "other"\n'


def arm(name: str, *servers: McpServer) -> CodexConfig:
    env = {
        "LLM_PROVIDER": name,
        "CODEX_AUTH_JSON": "{}",
        "OPENAI_API_KEY": "k",
        "MINIMAX_API_KEY": "m",
        "MOLECULE_LLM_USAGE_TOKEN": "t",
        "MOLECULE_LLM_BASE_URL": "http://proxy/v1",
    }
    return CodexConfig(resolve_provider(load_workspace_config(None), env), mcp_servers=servers)


def rendered(existing: str, config: CodexConfig) -> dict[str, Any]:
    return tomllib.loads(render_config_toml(existing, config))


ARMS = ["openai-subscription", "openai-api", "minimax-token-plan", "platform"]


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("existing", ["", HAND_WRITTEN], ids=["new", "hand-written"])
def test_rendering_again_changes_nothing(name: str, existing: str) -> None:
    once = render_config_toml(existing, arm(name, MCP))
    assert render_config_toml(once, arm(name, MCP)) == once


@pytest.mark.parametrize("name", ["openai-subscription", "openai-api"])
def test_nothing_is_rendered_for_a_built_in_provider(name: str) -> None:
    document = rendered("", arm(name))
    assert not {"model", "model_provider", "model_providers"} & set(document)


def test_a_foreign_endpoint_is_rendered_with_the_responses_wire() -> None:
    document = rendered("", arm("minimax-token-plan"))
    assert (document["model"], document["model_provider"]) == ("codex-MiniMax-M2.7", "minimax")
    assert document["model_providers"]["minimax"] == {
        "name": "minimax-token-plan",
        "base_url": "https://api.minimax.io/v1",
        "env_key": "MINIMAX_API_KEY",
        "wire_api": "responses",
        "requires_openai_auth": False,
        "request_max_retries": 4,
        "stream_max_retries": 10,
        "stream_idle_timeout_ms": 300000,
    }


@pytest.mark.parametrize("first", ARMS)
@pytest.mark.parametrize("then", ARMS)
def test_another_provider_leaves_nothing_of_the_one_before(first: str, then: str) -> None:
    text = render_config_toml(HAND_WRITTEN, arm(first, MCP))
    assert tomllib.loads(render_config_toml(text, arm(then))) == rendered(HAND_WRITTEN, arm(then))


def test_only_a_subscription_forces_its_login() -> None:
    assert rendered("", arm("openai-subscription"))["forced_login_method"] == "chatgpt"
    assert "forced_login_method" not in rendered("", arm("openai-api"))


def test_what_was_written_by_hand_is_kept_with_its_comments() -> None:
    text = render_config_toml(HAND_WRITTEN, arm("minimax-token-plan", MCP))
    for line in HAND_WRITTEN.splitlines():
        assert line in text
    assert '# Trusted by hand.\n[projects."/workspace"]' in text
    document = tomllib.loads(text)
    assert document["features"] == {"apps": True, "plugins": False, "shell_snapshot": False}
    assert set(document["mcp_servers"]) == {"other", "molecule"}


def test_a_hand_written_value_that_the_workspace_depends_on_is_replaced() -> None:
    document = rendered('sandbox_mode = "read-only"\nmodel_provider = "x"\n', arm("minimax-token-plan"))
    assert (document["sandbox_mode"], document["model_provider"]) == ("danger-full-access", "minimax")


def test_what_calls_home_is_off_unless_asked_for() -> None:
    assert rendered("", arm("openai-api"))["analytics"] == {"enabled": False}
    assert rendered("[analytics]\nenabled = true\n", arm("openai-api"))["analytics"] == {"enabled": True}


def test_the_mcp_server_has_all_it_needs() -> None:
    assert rendered("", arm("openai-api", MCP))["mcp_servers"]["molecule"] == {
        "command": "/usr/bin/python3",
        "args": ["-m", "server"],
        "startup_timeout_sec": 30,
        "default_tools_approval_mode": "approve",
        "env_vars": ["PYTHONPATH"],
        "env": {"CONFIGS_DIR": "/configs"},
    }


def test_tables_that_stand_in_several_places_are_understood() -> None:
    scattered = (
        '[mcp_servers.a]\ncommand = "a"\n[features]\napps = true\n'
        '[mcp_servers.b]\ncommand = "b"\n[mcp_servers.b.env]\nX = "1"\n'
    )
    text = render_config_toml(scattered, arm("platform", MCP))
    assert render_config_toml(text, arm("platform", MCP)) == text
    assert set(tomllib.loads(text)["mcp_servers"]) == {"a", "b", "molecule"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('a = "1"\nb = = 2\n', "config.toml:2:"),
        ("features = 3\n", "features must be a table"),
        ("[a]\n[a]\n", "is not TOML"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_place_and_left_as_it_is(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigTomlError, match=words):
        write_config_toml(tmp_path, arm("openai-api"))
    assert path.read_text() == text


def test_a_file_is_written_once_and_keeps_its_mode(tmp_path: Path) -> None:
    assert write_config_toml(tmp_path, arm("openai-api"))
    path = tmp_path / "config.toml"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    inode = path.stat().st_ino
    assert not write_config_toml(tmp_path, arm("openai-api"))
    assert path.stat().st_ino == inode
    assert write_config_toml(tmp_path, arm("platform"))
    assert path.stat().st_mode & 0o777 == 0o640


def test_codex_home_is_the_directory_itself(tmp_path: Path) -> None:
    """B-31: with `.codex` put behind it, config.toml is never found."""
    assert str(codex_home({"CODEX_HOME": "/x/.codex", "HOME": "/y"})) == "/x/.codex"
    assert str(codex_home({"HOME": "/y"})) == "/y/.codex"


# --- what was chosen is what runs ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("form", FORMS)
def test_nothing_of_the_predecessor_is_left(form: str, name: str) -> None:
    """B-13: the vendor's block of before answered in place of the subscription."""
    text = render_config_toml(FORMS[form] + HAND_WRITTEN_TABLE, arm(name, MCP))
    fresh = render_config_toml(HAND_WRITTEN_TABLE, arm(name, MCP))
    assert tomllib.loads(text) == tomllib.loads(fresh)
    assert "Auto-generated by" not in text
    assert render_config_toml(text, arm(name, MCP)) == text


def test_the_predecessors_tools_go_with_a_runtime_that_has_none() -> None:
    assert "mcp_servers" not in rendered(FORMS["the renderer"], arm("openai-api"))


def test_a_vendors_table_that_somebody_wrote_by_hand_is_kept() -> None:
    own = minimax().replace("request_max_retries = 4", "request_max_retries = 5")
    document = rendered(own, arm("openai-api"))
    assert "model_provider" not in document
    assert document["model_providers"]["minimax"]["request_max_retries"] == 5


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize(
    ("own", "said"),
    [
        ('model_provider = "mine"\n', "model_provider = mine"),
        ('model = "my-model"\n', "model = my-model"),
        ('oss_provider = "ollama"\n', "oss_provider = ollama"),
        ('forced_login_method = "api"\n', "forced_login_method = api"),
        ('profile = "x"\n[profiles.x]\nmodel_provider = "mine"\n', "profile = x"),
        ('profile = "x"\n[profiles.x]\nmodel = "my-model"\n', "profile = x"),
        ('profile = "x"\n[profiles.x]\nsandbox_mode = "read-only"\n', "profile = x"),
        ('profile = "x"\n[profiles.x.features]\nshell_snapshot = true\n', "profile = x"),
        ('profile = "x"\n[profiles.x]\nchatgpt_base_url = "http://e"\n', "profile = x"),
        ('profile = "missing"\n', "profile = missing"),
        ('[model_providers.openai]\nname = "e"\nbase_url = "http://e"\n', "[model_providers.openai]"),
        ('model_providers.openai.base_url = "http://e"\n', "[model_providers.openai]"),
        ('model_providers = {openai = {base_url = "http://e"}}\n', "[model_providers.openai]"),
    ],
)
def test_what_would_choose_otherwise_is_taken_out_and_told(
    tmp_path: Path, own: str, said: str, name: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(own + HAND_WRITTEN_TABLE)
    with structlog.testing.capture_logs() as logs:
        write_config_toml(tmp_path, arm(name))
        (told,) = [line for line in logs if line["event"] == "config_toml.taken_out"]
        assert (told["keys"], told["log_level"]) == (said, "warning")
        write_config_toml(tmp_path, arm(name))
    assert len([line for line in logs if line["event"] == "config_toml.taken_out"]) == 1
    document = tomllib.loads(path.read_text())
    profiles = document.pop("profiles", None)
    assert document == rendered(HAND_WRITTEN_TABLE, arm(name))
    assert profiles == tomllib.loads(own).get("profiles"), "the profile itself is kept, but not switched on"


def test_a_profile_that_decides_nothing_of_the_workspaces_stays_on() -> None:
    own = 'profile = "x"\n[profiles.x]\nmodel_reasoning_effort = "high"\n'
    document = rendered(own, arm("openai-api"))
    assert (document["profile"], document["profiles"]["x"]) == ("x", {"model_reasoning_effort": "high"})


def test_an_address_of_openai_is_the_persons(tmp_path: Path) -> None:
    """Whoever reaches OpenAI through a gateway has no other place to say so."""
    (tmp_path / "config.toml").write_text('openai_base_url = "https://gateway.example/v1"\n')
    config = arm("openai-api")
    write_config_toml(tmp_path, config)
    assert expected_endpoint(tmp_path, config) == {
        ("openai_base_url",): "https://gateway.example/v1",
        ("chatgpt_base_url",): None,
    }


def test_of_a_vendor_the_address_and_the_credential_have_to_be_the_chosen_ones(tmp_path: Path) -> None:
    assert expected_endpoint(tmp_path, arm("minimax-token-plan")) == {
        ("model_providers", "minimax", "base_url"): "https://api.minimax.io/v1",
        ("model_providers", "minimax", "env_key"): "MINIMAX_API_KEY",
        ("model_providers", "minimax", "requires_openai_auth"): False,
    }


def test_a_vendors_address_that_was_changed_by_hand_is_written_again() -> None:
    text = render_config_toml("", arm("minimax-token-plan"))
    changed = text.replace("https://api.minimax.io/v1", "http://elsewhere/v1")
    assert changed != text
    assert render_config_toml(changed, arm("minimax-token-plan")) == text


def test_tables_that_were_written_in_braces_are_understood() -> None:
    own = (
        'mcp_servers = {mine = {command = "mine", env = {A = "b"}}} # mine\nfeatures = {apps = true}\n'
        'model_providers = {mine = {name = "mine", base_url = "http://mine"}}\nhide_agent_reasoning = true\n'
    )
    text = render_config_toml(own, arm("platform", MCP))
    assert render_config_toml(text, arm("platform", MCP)) == text
    document = tomllib.loads(text)
    assert document["mcp_servers"]["mine"] == {"command": "mine", "env": {"A": "b"}}
    assert set(document["mcp_servers"]) == {"mine", "molecule"}
    assert document["features"] == {"apps": True, "plugins": False, "shell_snapshot": False}
    assert set(document["model_providers"]) == {"mine", "platform"}
    assert document["hide_agent_reasoning"] is True
    assert tomllib.loads(render_config_toml(text, arm("openai-api")))["model_providers"] == {
        "mine": {"name": "mine", "base_url": "http://mine"}
    }
