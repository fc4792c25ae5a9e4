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
        resolve(KEY, model=" ")


def test_built_in_providers_need_no_address_and_no_variable() -> None:
    for env in (KEY, SUBSCRIPTION):
        selection = resolve(env)
        assert (selection.base_url, selection.env_key) == (None, None)


def test_a_foreign_endpoint_has_its_own_address_variable_and_model() -> None:
    selection = resolve(MINIMAX, model="codex-minimax-m2.7")
    assert selection.base_url == "https://api.minimax.io/v1"
    assert selection.env_key == "MINIMAX_API_KEY"
    assert selection.model == "codex-MiniMax-M2.7"


def test_the_address_of_the_platform_comes_from_its_variable() -> None:
    assert resolve({**PLATFORM, "LLM_PROVIDER": "platform"}).base_url == "http://proxy/v1"
    with pytest.raises(ProviderError, match="set MOLECULE_LLM_BASE_URL"):
        resolve({"MOLECULE_LLM_USAGE_TOKEN": "t", "LLM_PROVIDER": "platform"})


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
