from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from workspace_config import ConfigFileError, WorkspaceConfig, load_workspace_config

if TYPE_CHECKING:
    from pathlib import Path


_FOREIGN = "providers:\n  - {name: x, auth_mode: openai_compat_responses, auth_env: [A], base_url: http://x"


def load(tmp_path: Path, text: str) -> WorkspaceConfig:
    (tmp_path / "config.yaml").write_text(text)
    return load_workspace_config(tmp_path)


def test_the_images_own_configuration_is_valid_and_has_the_documented_defaults() -> None:
    config = load_workspace_config(None)
    assert config.chosen_model == "gpt-5.5"
    assert [provider.name for provider in config.providers] == [
        "openai-subscription",
        "openai-api",
        "minimax-token-plan",
        "platform",
    ]
    bridge = config.bridge
    assert (bridge.sandbox, bridge.mid_turn, bridge.threads) == ("danger-full-access", "steer", "shared")
    assert (bridge.inactivity_seconds, bridge.turn_seconds, bridge.max_line_bytes) == (300, 3600, 32 * 2**20)


def test_every_provider_has_exactly_the_credentials_that_are_its_own() -> None:
    """B-33: another's variable among them sends the wrong key."""
    assert {provider.name: provider.auth_env for provider in load_workspace_config(None).providers} == {
        "openai-subscription": ["CODEX_AUTH_JSON", "CODEX_CHATGPT_AUTH_JSON"],
        "openai-api": ["OPENAI_API_KEY"],
        "minimax-token-plan": ["MINIMAX_API_KEY"],
        "platform": ["MOLECULE_LLM_USAGE_TOKEN"],
    }


def test_a_workspace_overrides_single_keys_and_keeps_the_others(tmp_path: Path) -> None:
    config = load(tmp_path, "bridge:\n  mid_turn: queue\nruntime_config:\n  model: gpt-5.4\n")
    assert (config.bridge.mid_turn, config.bridge.threads) == ("queue", "shared")
    assert config.chosen_model == "gpt-5.4"


def test_providers_of_a_workspace_are_added_or_replace_those_of_the_same_name(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "providers:\n"
        "  - {name: OpenAI-API, auth_mode: openai_api, auth_env: [MY_KEY]}\n"
        "  - {name: mine, auth_mode: openai_compat_responses, auth_env: [MINE], base_url: 'http://m/v1'}\n",
    )
    assert [provider.name for provider in config.providers] == [
        "openai-subscription",
        "OpenAI-API",
        "minimax-token-plan",
        "platform",
        "mine",
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "name: Other\nprompt_files: []\n", "providers: []\n"])
def test_what_is_none_of_our_business_changes_nothing(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == load_workspace_config(None)


def test_a_directory_without_a_file_gives_the_images_configuration(tmp_path: Path) -> None:
    assert load_workspace_config(tmp_path) == load_workspace_config(None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "config.yaml:1:5 is not YAML"),
        ("- a\n", "holds a list"),
        (
            "bridge:\n  mid_turn: sometimes\n",
            "bridge.mid_turn: Input should be 'steer' or 'queue' (given: 'sometimes')",
        ),
        ("bridge:\n  midturn: steer\n", "bridge.midturn: Extra inputs are not permitted"),
        ("bridge:\n  inactivity_seconds: 0\n", "bridge.inactivity_seconds: Input should be greater than 0"),
        ("bridge:\n  sandbox: none\n", "bridge.sandbox: Input should be 'danger-full-access'"),
        ("providers:\n  - {name: x, auth_mode: chat, auth_env: [A]}\n", "auth_mode"),
        (
            "providers:\n  - {name: x, auth_mode: openai_compat_responses, auth_env: [A]}\n",
            "needs a base_url",
        ),
        (
            "providers:\n  - {name: x, auth_mode: openai_compat_responses, auth_env: [A], base_url: ftp://x}\n",
            "must begin with http",
        ),
        (f"{_FOREIGN}, wire_api: chat}}\n", "wire_api: Input should be 'responses' (given: 'chat')"),
        (f"{_FOREIGN}, model_provider_slug: openai}}\n", "codex reserves the name openai"),
        (
            "providers:\n  - {name: x, auth_mode: openai_api, auth_env: [A], base_url: http://x}\n",
            "not for openai_api",
        ),
        (
            "providers:\n  - {name: 'a b', auth_mode: openai_api, auth_env: [A]}\n",
            "name: String should match",
        ),
        ("providers:\n  - {name: x, auth_mode: openai_api, auth_env: []}\n", "auth_env"),
        ("providers:\n  - {name: x, auth_mode: openai_api, auth_env: ['A B']}\n", "auth_env.0"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_key_and_what_is_allowed(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(ConfigFileError) as error:
        load(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "config.yaml"))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(ConfigFileError, match="not UTF-8"):
        load_workspace_config(tmp_path)
