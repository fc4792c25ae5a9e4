"""`config.yaml`: merged key by key, typed, and refused with a sentence that helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime.config import ConfigError, RbacConfig, WorkspaceConfig, load, merge
from molecule_runtime.rbac import allowed_actions

if TYPE_CHECKING:
    from pathlib import Path


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_no_file_and_an_empty_file_give_the_defaults(tmp_path: Path) -> None:
    for config in (load(tmp_path / "missing.yaml"), load(written(tmp_path / "empty.yaml", ""))):
        assert (config.name, config.a2a.port, config.observability.heartbeat_interval) == (
            "Workspace",
            8000,
            30.0,
        )


def test_the_workspaces_file_overrides_the_images_key_by_key(tmp_path: Path) -> None:
    image = written(
        tmp_path / "image.yaml",
        "model: gpt-5.5\na2a: {port: 8000, streaming: true}\nprompt_files: [a.md]\n"
        "providers: [{name: openai, base_url: https://one}, {name: minimax, base_url: https://two}]\n",
    )
    workspace = written(
        tmp_path / "workspace.yaml",
        "a2a: {port: 9000}\nprompt_files: [b.md]\n"
        "providers: [{name: minimax, base_url: https://three}, {name: own, base_url: https://four}]\n",
    )
    config = load(image, workspace)
    assert (config.model, config.a2a.port, config.a2a.streaming) == ("gpt-5.5", 9000, True)
    assert config.prompt_files == ["b.md"]
    assert [(item["name"], item["base_url"]) for item in config.raw["providers"]] == [
        ("openai", "https://one"),
        ("minimax", "https://three"),
        ("own", "https://four"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", r"line \d+, column \d+ is not YAML"),
        ("a: b: c", r"line 1, column \d+ is not YAML"),
        ("- 1", "holds a list; it must be a mapping"),
        ("a2a: {port: 0}", r"a2a\.port: .*greater than or equal to 1 \(given: 0\)"),
        ("a2a: {port: 65536}", r"a2a\.port: .*less than or equal to 65535 \(given: 65536\)"),
        ("a2a: {port: 'http'}", r"a2a\.port: .*valid integer.* \(given: 'http'\)"),
        ("a2a: {delivery_mode: pull}", r"a2a\.delivery_mode: Input should be 'push' or 'poll'"),
        ("template_schema_version: '1'", "template_schema_version: Input should be 1"),
        ("template_schema_version: 2", "template_schema_version: Input should be 1"),
        ("tier: true", "tier: .*must be a whole number"),
        ("prompt_files: one.md", "prompt_files: .*valid list"),
        ("descriptoin: x", "unknown key descriptoin; did you mean description"),
        ("a2a: {prot: 1}", r"unknown key a2a\.prot; did you mean a2a\.port"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_its_place_and_what_is_allowed(
    tmp_path: Path, text: str, message: str
) -> None:
    path = written(tmp_path / "config.yaml", text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert path.read_text() == text


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(path)


def test_a_key_of_a_newer_platform_is_named_and_not_fatal(tmp_path: Path) -> None:
    config = load(written(tmp_path / "config.yaml", "quantum_mode: true\nx-note: ours\ngovernance: {}\n"))
    assert [line.rpartition(": ")[2] for line in config.warnings] == ["unknown key quantum_mode is ignored"]


def test_push_notifications_that_are_asked_for_are_refused_aloud(tmp_path: Path) -> None:
    config = load(written(tmp_path / "config.yaml", "a2a: {push_notifications: true}"))
    assert "not implemented" in config.warnings[0]


def test_the_model_of_runtime_config_wins() -> None:
    assert (
        WorkspaceConfig.model_validate({"model": "a", "runtime_config": {"model": "b"}}).effective_model
        == "b"
    )
    assert WorkspaceConfig.model_validate({"model": "a"}).effective_model == "a"


@pytest.mark.parametrize(("asked", "used"), [(1, 5.0), (30, 30.0), (9999, 300.0)])
def test_the_heartbeat_interval_stays_within_what_the_platform_allows(asked: int, used: float) -> None:
    config = WorkspaceConfig.model_validate({"observability": {"heartbeat_interval_seconds": asked}})
    assert config.observability.heartbeat_interval == used


def test_merging_changes_neither_document() -> None:
    base: dict[str, Any] = {"a": {"b": 1}, "c": [1]}
    over: dict[str, Any] = {"a": {"d": 2}, "c": [2]}
    assert merge(base, over) == {"a": {"b": 1, "d": 2}, "c": [2]}
    assert (base, over) == ({"a": {"b": 1}, "c": [1]}, {"a": {"d": 2}, "c": [2]})


@pytest.mark.parametrize(
    ("rbac", "expected"),
    [
        ({}, {"delegate", "approve", "memory.read", "memory.write"}),
        ({"roles": ["read-only"]}, {"memory.read"}),
        ({"roles": ["memory-readonly"]}, {"memory.read"}),
        ({"roles": ["no-delegation"]}, {"approve", "memory.read", "memory.write"}),
        ({"roles": ["unknown"]}, set()),
        (
            {"roles": ["read-only", "clerk"], "allowed_actions": {"clerk": ["delegate"]}},
            {"memory.read", "delegate"},
        ),
        ({"roles": ["operator"], "allowed_actions": {"operator": []}}, set()),
    ],
)
def test_roles_allow_together_what_each_allows(rbac: dict[str, Any], expected: set[str]) -> None:
    assert allowed_actions(RbacConfig.model_validate(rbac)) == expected
