"""The files that the platform writes, read by both readers: with the model and provider that are meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from molecule_runtime.config import load
from provider_config import resolve_provider
from support.platform_config import FORMS, ODD
from workspace_config import IMAGE_CONFIG, load_workspace_config

if TYPE_CHECKING:
    from pathlib import Path

KEY = {"OPENAI_API_KEY": "k"}
STAGING = {
    "MOLECULE_RESOLVED_PROVIDER": "platform",
    "MOLECULE_LLM_BASE_URL": "https://staging.example/v1/",
    "MOLECULE_LLM_USAGE_TOKEN": "t",
    "OPENAI_API_KEY": "t",
    "OPENAI_BASE_URL": "https://staging.example/v1/",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("env", [{}, {"MODEL": "gpt-5.4-mini"}, {"MODEL": "x", "MOLECULE_MODEL": "gpt-5.2"}])
def test_each_form_is_ready_with_a_key_and_the_model_of_the_environment(
    tmp_path: Path, form: str, env: dict[str, str]
) -> None:
    (tmp_path / "config.yaml").write_text(FORMS[form])
    environment = {**KEY, **env}
    config = load_workspace_config(tmp_path, env=environment)
    selection = resolve_provider(config, environment)
    expected = (
        env.get("MOLECULE_MODEL") or env.get("MODEL") or ("gpt-5.4" if form == "imported" else "gpt-5.5")
    )
    assert (selection.provider.name, selection.credential) == ("openai-api", "OPENAI_API_KEY")
    assert selection.model == expected
    assert load(IMAGE_CONFIG, tmp_path, environment).effective_model == expected


@pytest.mark.parametrize("form", FORMS)
def test_on_the_platforms_own_route_the_token_goes_to_the_address_of_the_environment(
    tmp_path: Path, form: str
) -> None:
    (tmp_path / "config.yaml").write_text(FORMS[form])
    selection = resolve_provider(load_workspace_config(tmp_path, env=STAGING), STAGING)
    assert (selection.provider.name, selection.env_key) == ("platform", "MOLECULE_LLM_USAGE_TOKEN")
    assert selection.base_url == "https://staging.example/v1"


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("created", []),
        ("created, nothing derived", []),
        ("imported", ["initial_prompt is given twice"]),
        ("saved in the editor", ["name is 2025", "version is 1.0", "push_notifications is not implemented"]),
        ("from a template", ["(claude)", "(anthropic)", "push_notifications is not implemented"]),
    ],
)
def test_only_what_is_odd_is_told(tmp_path: Path, form: str, told: list[str]) -> None:
    (tmp_path / "config.yaml").write_text(FORMS[form])
    warnings = {*load(IMAGE_CONFIG, tmp_path).warnings, *load_workspace_config(tmp_path).warnings}
    assert len(warnings) == len(told), warnings
    for words in told:
        assert [each for each in warnings if words in each], words


def test_what_hands_have_left_is_told_once_each_and_the_image_carries_on(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(ODD)
    runtime, own = load(IMAGE_CONFIG, tmp_path), load_workspace_config(tmp_path)
    assert (runtime.name, runtime.version, runtime.tier, runtime.a2a.port) == ("007", "1.10", 1, 8000)
    assert (runtime.effective_model, own.chosen_model) == ("gpt-5.5", "gpt-5.5")
    warnings = {*runtime.warnings, *own.warnings}
    for key in (
        "name", "version", "description", "role", "tier", "model", "idle_interval_seconds",
        "template_schema_version", "skills", "prompt_files", "a2a", "providre", "runtime_config.colour",
    ):  # fmt: skip
        about = [each for each in warnings if f": {key} is " in each or f"unknown key {key} " in each]
        assert len(about) == 1, (key, warnings)
    assert len(warnings) == 13, warnings


def test_the_image_asks_for_no_list_of_variables_of_which_each_would_be_needed() -> None:
    """The platform reads `runtime_config.required_env` so, and refuses to start a workspace without one."""
    config = load(IMAGE_CONFIG, None)
    assert "required_env" not in config.runtime_config
    assert config.required_env == []
    assert config.warnings == load_workspace_config(None).warnings == ()
