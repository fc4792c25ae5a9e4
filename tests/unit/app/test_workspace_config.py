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


def test_providers_of_a_workspace_are_added_or_lie_key_by_key_over_those_of_the_same_name(
    tmp_path: Path,
) -> None:
    config = load(
        tmp_path,
        "providers:\n"
        "  - {name: OpenAI-API, auth_env: [MY_KEY], base_url: null}\n"
        "  - {name: mine, auth_mode: openai_compat_responses, auth_env: [MINE], base_url: 'http://m/v1/'}\n",
    )
    providers = {provider.name: provider for provider in config.providers}
    assert list(providers) == ["openai-subscription", "OpenAI-API", "minimax-token-plan", "platform", "mine"]
    assert (providers["OpenAI-API"].auth_mode, providers["OpenAI-API"].auth_env) == ("openai_api", ["MY_KEY"])
    assert providers["mine"].base_url == "http://m/v1"
    assert config.warnings == ()


@pytest.mark.parametrize("text", ["", "# nothing\n", "name: Other\nprompt_files: []\n", "providers: []\n"])
def test_what_is_none_of_our_business_changes_nothing(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == load_workspace_config(None)


def test_a_directory_without_a_file_gives_the_images_configuration(tmp_path: Path) -> None:
    assert load_workspace_config(tmp_path).model_dump() == load_workspace_config(None).model_dump()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "config.yaml: line 2, column 1 is not YAML"),
        ("- a\n", "holds a list"),
        ("bridge:\n  sandbox: none\n", "bridge.sandbox: Input should be 'danger-full-access'"),
        ("bridge:\n  threads: each\n", "bridge.threads: Input should be 'shared' or 'per_context'"),
        ("bridge: {sandbox: [read-only]}\n", "bridge.sandbox: Input should be 'danger-full-access'"),
    ],
)
def test_what_would_allow_more_than_was_asked_for_is_one_line_that_names_file_key_and_what_is_allowed(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(ConfigFileError) as error:
        load(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "config.yaml"))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("bridge:\n  mid_turn: sometimes\n", "bridge.mid_turn is 'sometimes', which"),
        ("bridge:\n  midturn: steer\n", "unknown key bridge.midturn is ignored; did you mean bridge.mid_tu"),
        ("bridge:\n  inactivity_seconds: 0\n", "bridge.inactivity_seconds is 0"),
        ("bridge:\n  turn_seconds: .inf\n", "bridge.turn_seconds is inf"),
        ("bridge: []\n", "bridge is [], which must be a mapping; the default is used"),
        ("bridge:\n", "bridge is blank; the default is used"),
        ("bridge: {sandbox: }\n", "bridge.sandbox is blank; 'danger-full-access' is used"),
        ("model: [a]\n", "model is ['a'], which must be text; 'gpt-5.5' is used"),
        ("runtime_config: {model: {a: b}}\n", "runtime_config.model is {'a': 'b'}"),
        ("runtime_config: fast\n", "runtime_config is 'fast', which must be a mapping"),
        ("runtime_config: {modle: x}\n", "unknown key runtime_config.modle is ignored; did you mean"),
        ("providers: {name: x}\n", "providers is {'name': 'x'}, which must be a list"),
        ("providers: [null, x]\n", "providers[1] is 'x', which must be a mapping; it is left out"),
        ("providers: [{name: openai-api, auth_modes: x}]\n", "key providers[0].auth_modes is ignored"),
        ("providers: [{}]\n", "providers[0] (): name: String should match"),
        ("providers:\n  - {name: x, auth_mode: chat, auth_env: [A]}\n", "providers[0] (x): auth_mode: Input"),
        ("providers:\n  - {name: x, auth_mode: oauth, auth_env: [A], display_name: X}\n", "auth_mode"),
        (
            "providers:\n  - {name: x, auth_mode: openai_compat_responses, auth_env: [A]}\n",
            "needs a base_url",
        ),
        (f"{_FOREIGN[:-8]}ftp://x}}\n", "must begin with http"),
        (f"{_FOREIGN[:-8]}http://x:80a/}}\n", "must begin with http"),
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
        ("providers:\n  - {name: platform, auth_mode: oauth, base_url: https://x}\n", "the image's entry"),
    ],
)  # fmt: skip
def test_what_is_odd_is_one_warning_and_the_images_configuration_carries_on(
    tmp_path: Path, text: str, warning: str
) -> None:
    config = load(tmp_path, text)
    (line,) = config.warnings
    assert line.startswith(str(tmp_path / "config.yaml"))
    assert warning in line
    image = load_workspace_config(None)
    assert (config.providers, config.bridge) == (image.providers, image.bridge)
    assert config.chosen_model == image.chosen_model


def test_an_entry_that_cannot_be_used_leaves_no_other_address_for_its_key(tmp_path: Path) -> None:
    text = "providers:\n  - {name: platform, base_url: 'ftp://x'}\n  - {name: openai-api, base_url: 'http://p'}\n"
    config = load(tmp_path, text)
    assert [provider.name for provider in config.providers] == ["openai-subscription", "minimax-token-plan"]
    assert set(config.unusable) == {"platform", "openai-api"}
    assert "MOLECULE_LLM_USAGE_TOKEN" in config.credential_variables, "it is kept from the agent all the same"


def test_a_list_may_be_given_as_one_value(tmp_path: Path) -> None:
    text = _FOREIGN.replace("[A]", "A") + ", model_prefixes: x-, name_aliases: why}\n"
    entry = load(tmp_path, text).providers[-1]
    assert (entry.auth_env, entry.model_prefixes, entry.name_aliases) == (["A"], ["x-"], ["why"])


def test_the_provider_may_be_named_at_the_top_as_the_platform_does(tmp_path: Path) -> None:
    assert load(tmp_path, "provider: 'openai'\n").runtime_config.provider == "openai"
    config = load(tmp_path, "provider: openai-api\nruntime_config: {provider: platform}\n")
    assert config.runtime_config.provider == "platform"
    (warning,) = config.warnings
    assert "the latter counts" in warning
    assert not load(tmp_path, "provider: Platform\nruntime_config: {provider: platform}\n").warnings


@pytest.mark.parametrize(
    ("raw", "model"),
    [
        (b"\xef\xbb\xbfmodel: a\n", "a"),
        ("model: \u00e4\n".encode("utf-16"), "\u00e4"),
        (b"\xfe\xff" + "model: a\r\n".encode("utf-16-be"), "a"),
        ("model: a\n".encode("utf-32"), "a"),
    ],
)
def test_a_byte_order_mark_says_what_the_text_is(tmp_path: Path, raw: bytes, model: str) -> None:
    (tmp_path / "config.yaml").write_bytes(raw)
    assert load_workspace_config(tmp_path).chosen_model == model


@pytest.mark.parametrize(
    "raw", [b"name: \xff\n", "name: a\n".encode("utf-16-le"), b"\xff\xfea", "name: \u00e4".encode("latin-1")]
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "config.yaml").write_bytes(raw)
    with pytest.raises(ConfigFileError, match=r"config\.yaml is not .*UTF-.*save it as UTF-8"):
        load_workspace_config(tmp_path)


def test_a_file_that_cannot_be_read_at_all_is_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigFileError, match="is a link to nowhere"):
        load_workspace_config(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigFileError, match="cannot be read: Is a directory"):
        load_workspace_config(tmp_path)
    path.rmdir()
    for text, words in (
        ("[" * 5000, "nested too deeply|is not YAML"),
        ("a: &a [*a]", "refers to itself"),
        ("\0", "NUL characters"),
        ("name: a\n---\nname: b\n", "is not YAML"),
        ("name: *nowhere", "is not YAML"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigFileError, match=words):
            load_workspace_config(tmp_path)
