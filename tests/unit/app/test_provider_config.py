from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from provider_config import ProviderError, Selection, last_refresh, missing_credential, resolve_provider
from workspace_config import WorkspaceConfig, load_workspace_config

if TYPE_CHECKING:
    from pathlib import Path

KEY = {"OPENAI_API_KEY": "k"}
SUBSCRIPTION = {"CODEX_AUTH_JSON": "{}"}
MINIMAX = {"MINIMAX_API_KEY": "m"}
PLATFORM = {"MOLECULE_LLM_USAGE_TOKEN": "t", "MOLECULE_LLM_BASE_URL": "http://proxy/v1"}
ROUTED = {**PLATFORM, "OPENAI_API_KEY": "t", "OPENAI_BASE_URL": "http://proxy/v1"}


def config(**changes: Any) -> WorkspaceConfig:
    base = load_workspace_config(None).model_dump()
    return WorkspaceConfig.model_validate({**base, **changes})


def resolve(env: dict[str, str], **changes: Any) -> Selection:
    return resolve_provider(config(**changes), env)


@pytest.mark.parametrize(
    ("env", "changes", "provider"),
    [
        (KEY, {}, "openai-api"),
        (SUBSCRIPTION, {}, "openai-subscription"),
        ({"CODEX_CHATGPT_AUTH_JSON": "{}"}, {}, "openai-subscription"),
        ({**KEY, **SUBSCRIPTION}, {}, "openai-subscription"),
        ({**MINIMAX, **SUBSCRIPTION}, {"model": "codex-minimax-m2.7"}, "openai-subscription"),
        ({**KEY, **MINIMAX}, {"model": "codex-MiniMax-M2.7"}, "minimax-token-plan"),
        ({**KEY, **MINIMAX}, {}, "openai-api"),
        (MINIMAX, {}, "minimax-token-plan"),
        (KEY, {"model": "some-new-model"}, "openai-api"),
        ({}, {}, "openai-subscription"),
        ({}, {"model": "unheard-of"}, "openai-subscription"),
        ({"OPENAI_API_KEY": "  "}, {}, "openai-subscription"),
        ({**PLATFORM, **KEY}, {}, "openai-api"),
        (PLATFORM, {}, "openai-subscription"),
        ({**PLATFORM, "MOLECULE_RESOLVED_PROVIDER": "platform"}, {}, "platform"),
        ({**SUBSCRIPTION, **KEY, "LLM_PROVIDER": "OpenAI-API"}, {}, "openai-api"),
        ({**KEY, **MINIMAX, "MODEL_PROVIDER": "minimax-token-plan"}, {}, "minimax-token-plan"),
        ({**KEY, "LLM_PROVIDER": "openai"}, {}, "openai-api"),
        ({**SUBSCRIPTION, "LLM_PROVIDER": "openai"}, {}, "openai-subscription"),
        ({"LLM_PROVIDER": "openai"}, {}, "openai-subscription"),
        ({**KEY, **MINIMAX}, {"runtime_config": {"provider": "minimax-token-plan"}}, "minimax-token-plan"),
        ({**KEY, "LLM_PROVIDER": "openai-api"}, {"runtime_config": {"provider": "platform"}}, "openai-api"),
        # The platform stamps the file without a look at the credentials.
        (KEY, {"runtime_config": {"provider": "openai-subscription"}}, "openai-api"),
        (SUBSCRIPTION, {"runtime_config": {"provider": "openai-api"}}, "openai-subscription"),
        (MINIMAX, {"runtime_config": {"provider": "openai-subscription"}}, "openai-subscription"),
        (KEY, {"runtime_config": {"provider": "minimax-token-plan"}}, "minimax-token-plan"),
        (KEY, {"runtime_config": {"provider": "platform"}, "model": "openai/gpt-5.4"}, "platform"),
        ({**KEY, "MOLECULE_RESOLVED_PROVIDER": "openai-subscription"}, {}, "openai-subscription"),
        (
            {**SUBSCRIPTION, **KEY, "MOLECULE_RESOLVED_PROVIDER": "openai-api"},
            {"runtime_config": {"provider": "openai-subscription"}},
            "openai-api",
        ),
        (MINIMAX, {"runtime_config": {"provider": "byok-minimax"}}, "minimax-token-plan"),
        ({**MINIMAX, **KEY, "MOLECULE_RESOLVED_PROVIDER": "byok-minimax"}, {}, "minimax-token-plan"),
        # What the platform sets for its own route: the usage token is no key of OpenAI's.
        ({**ROUTED, "MOLECULE_RESOLVED_PROVIDER": "platform"}, {}, "platform"),
        (ROUTED, {"runtime_config": {"provider": "openai"}}, "openai-subscription"),
        (ROUTED, {"runtime_config": {"provider": "openai-api"}}, "openai-api"),
        (ROUTED, {"model": "openai/gpt-5.4"}, "platform"),
        (ROUTED, {"model": "minimax/MiniMax-M2.7"}, "platform"),
        ({**PLATFORM, **MINIMAX}, {"model": "minimax/MiniMax-M2.7"}, "minimax-token-plan"),
        ({**PLATFORM, **KEY}, {"model": "openai/gpt-5.4"}, "openai-api"),
        ({**PLATFORM, **KEY}, {"model": "platform/gpt-5.4"}, "platform"),
        ({**SUBSCRIPTION, **KEY}, {"model": "openai-api:gpt-5.4"}, "openai-api"),
        ({**KEY, **MINIMAX}, {"model": "minimax:MiniMax-M3"}, "minimax-token-plan"),
        (KEY, {"model": "minimax/MiniMax-M3"}, "minimax-token-plan"),
    ],
)  # fmt: skip
def test_the_provider_follows_the_documented_order(
    env: dict[str, str], changes: dict[str, Any], provider: str
) -> None:
    """B-15: `openai` means either way to it. B-34: nobody is billed by the platform unasked."""
    assert resolve(env, **changes).provider.name == provider


def test_a_model_in_model_provider_is_ignored_and_the_boot_goes_on() -> None:
    """B-12: older platforms put a model there."""
    assert resolve({**KEY, "MODEL_PROVIDER": "gpt-5.4"}).provider.name == "openai-api"


def test_an_unknown_provider_in_the_configuration_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ProviderError, match=r"'mystery', which is not in the registry\. Known: openai-sub"):
        resolve(KEY, runtime_config={"provider": "mystery"})


@pytest.mark.parametrize("model", ["openai-subscription", "OpenAI-API", "openai", "minimax-token-plan"])
def test_the_name_of_a_provider_in_place_of_a_model_refuses_to_boot(model: str) -> None:
    with pytest.raises(ProviderError, match=f"model is '{model}', which is the name of a provider"):
        resolve(KEY, model=model)


def test_no_model_at_all_refuses_to_boot() -> None:
    with pytest.raises(ProviderError, match="names no model"):
        resolve(KEY, model="")


def test_built_in_providers_need_no_address_and_no_variable() -> None:
    for env in (KEY, SUBSCRIPTION):
        selection = resolve(env)
        assert (selection.base_url, selection.env_key) == (None, None)


def test_a_foreign_endpoint_has_its_own_address_variable_and_model() -> None:
    selection = resolve(MINIMAX, model="codex-minimax-m2.7")
    assert selection.base_url == "https://api.minimax.io/v1"
    assert selection.env_key == "MINIMAX_API_KEY"
    assert selection.model == "codex-MiniMax-M2.7"


def test_the_usage_token_is_no_login_at_openai() -> None:
    for name in ("openai", "openai-api", "openai-subscription"):
        assert resolve({**ROUTED, "LLM_PROVIDER": name}).credential is None


def test_the_address_of_minimax_may_come_from_its_variables() -> None:
    assert resolve({**MINIMAX, "MINIMAX_API_BASE": "http://one/v1/"}).base_url == "http://one/v1"
    both = {"MINIMAX_API_BASE": "http://one/v1", "MINIMAX_BASE_URL": "http://two/v1"}
    assert resolve({**MINIMAX, **both}).base_url == "http://two/v1"


@pytest.mark.parametrize(
    ("env", "model", "sent"),
    [
        ({**ROUTED, "MOLECULE_RESOLVED_PROVIDER": "platform"}, "openai/gpt-5.4", "openai/gpt-5.4"),
        ({**ROUTED, "MOLECULE_RESOLVED_PROVIDER": "platform"}, "gpt-5.5", "gpt-5.5"),
        ({**ROUTED, "MOLECULE_RESOLVED_PROVIDER": "platform"}, "platform/x", "platform/x"),
        (KEY, "openai/gpt-5.4", "gpt-5.4"),
        (KEY, "openai-api:gpt-5.4", "gpt-5.4"),
        ({**SUBSCRIPTION, "LLM_PROVIDER": "openai-subscription"}, "openai-api/gpt-5.4", "gpt-5.4"),
        (KEY, "openai-api:", "openai-api:"),
        (MINIMAX, "minimax/MiniMax-M2.7", "codex-MiniMax-M2.7"),
    ],
)
def test_an_endpoint_is_asked_for_the_id_that_it_knows(env: dict[str, str], model: str, sent: str) -> None:
    assert resolve(env, model=model).model == sent


def test_an_entry_that_cannot_be_used_is_the_reason_where_it_is_named() -> None:
    broken = {"unusable": {"platform": "base_url: must begin with http"}}
    providers = [
        one for one in load_workspace_config(None).model_dump()["providers"] if one["name"] != "platform"
    ]
    for env, changes in (
        ({"MOLECULE_RESOLVED_PROVIDER": "platform"}, {}),
        ({}, {"runtime_config": {"provider": "Platform"}}),
    ):
        with pytest.raises(ProviderError, match="cannot be used: base_url: must begin with http"):
            resolve({**ROUTED, **env}, **broken, **changes, providers=providers)


def test_the_address_of_the_platform_comes_from_its_variable() -> None:
    assert resolve({**PLATFORM, "LLM_PROVIDER": "platform"}).base_url == "http://proxy/v1"
    token = {"MOLECULE_LLM_USAGE_TOKEN": "t", "MOLECULE_RESOLVED_PROVIDER": "platform"}
    assert resolve({**token, "OPENAI_BASE_URL": "http://proxy/v2/"}).base_url == "http://proxy/v2"
    public = "https://api.moleculesai.app/api/v1/internal/llm/openai/v1"
    others: tuple[dict[str, str], ...] = (
        {},
        {"OPENAI_BASE_URL": "https://api.openai.com/v1"},
        {"MOLECULE_LLM_BASE_URL": " "},
    )
    for env in others:
        assert resolve({**token, **env}).base_url == public
    with pytest.raises(ProviderError, match="MOLECULE_LLM_BASE_URL must be http"):
        resolve({**token, "MOLECULE_LLM_BASE_URL": "staging"})


def test_of_several_variables_the_first_that_is_set_is_used() -> None:
    entry = {
        "name": "mine",
        "auth_mode": "openai_compat_responses",
        "auth_env": ["A", "B"],
        "base_url": "http://m",
    }
    selection = resolve({"B": "b"}, providers=[entry])
    assert selection.env_key == "B"


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"tokens": {"refresh_token": "r", "access_token": "a"}}, True),
        ({"tokens": None, "OPENAI_API_KEY": "k"}, False),
        ({"tokens": {}}, False),
        ([], False),
    ],
)
def test_a_subscription_on_the_volume_counts_as_its_credential(
    tmp_path: Path, document: object, found: bool
) -> None:
    (tmp_path / "auth.json").write_text(json.dumps(document))
    selection = resolve_provider(config(), KEY, codex_home=tmp_path)
    assert (selection.credential == "auth.json") is found
    assert selection.provider.name == ("openai-subscription" if found else "openai-api")


def test_a_missing_credential_is_named_together_with_the_alternatives() -> None:
    selection = resolve({})
    problem = missing_credential(selection, config().providers)
    assert problem == (
        "no credential for provider openai-subscription: set CODEX_AUTH_JSON or CODEX_CHATGPT_AUTH_JSON"
        " (or, for another provider, one of MINIMAX_API_KEY, OPENAI_API_KEY)"
    )
    assert missing_credential(resolve(KEY), config().providers) is None


def test_the_age_of_a_login_is_read_from_auth_json(tmp_path: Path) -> None:
    assert last_refresh(tmp_path) is None
    (tmp_path / "auth.json").write_text('{"last_refresh": "2026-01-01T00:00:00.123456789Z"}')
    assert last_refresh(tmp_path) == pytest.approx(1767225600, abs=1)
    (tmp_path / "auth.json").write_text('{"last_refresh": "yesterday"}')
    assert last_refresh(tmp_path) is None
