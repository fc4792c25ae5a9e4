"""`config.yaml`: merged key by key, typed, and refused with a sentence that helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime.config import ConfigFileError, RbacConfig, WorkspaceConfig, load
from molecule_runtime.rbac import allowed_actions

if TYPE_CHECKING:
    from pathlib import Path


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_no_file_and_an_empty_file_give_the_defaults(tmp_path: Path) -> None:
    for config in (load(None, None), load(None, written(tmp_path / "empty.yaml", ""))):
        assert (config.name, config.a2a.port, config.observability.heartbeat_interval) == (
            "Workspace",
            8000,
            30.0,
        )


def test_the_workspaces_file_overrides_the_images_key_by_key(tmp_path: Path) -> None:
    image = written(
        tmp_path / "image.yaml", "model: gpt-5.5\na2a: {port: 8000, streaming: true}\nprompt_files: [a.md]\n"
    )
    workspace = written(tmp_path / "workspace.yaml", "a2a: {port: 9000}\nprompt_files: [b.md]\n")
    config = load(image, workspace)
    assert (config.model, config.a2a.port, config.a2a.streaming) == ("gpt-5.5", 9000, True)
    assert config.prompt_files == ["b.md"]
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", r"line \d+, column \d+ is not YAML"),
        ("a: b: c", r"line 1, column \d+ is not YAML"),
        ("- 1", "holds a list; it must be a mapping"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_place_and_left_as_it_is(
    tmp_path: Path, text: str, message: str
) -> None:
    path = written(tmp_path / "config.yaml", text)
    with pytest.raises(ConfigFileError, match=message) as caught:
        load(None, path)
    assert str(caught.value).startswith(str(path))
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("text", "warning", "used"),
    [
        ("a2a: {port: 0}", "a2a.port is 0, which", {"a2a": {"port": 8001}}),
        ("a2a: {port: 65536}", "a2a.port is 65536, which", {"a2a": {"port": 8001}}),
        ("a2a: {port: 'http'}", "a2a.port is 'http', which", {"a2a": {"port": 8001}}),
        ("a2a: {port: true}", "a2a.port is True, which", {"a2a": {"port": 8001}}),
        ("a2a: {delivery_mode: pull}", "delivery_mode is 'pull', which", {"a2a": {"delivery_mode": "push"}}),
        ("a2a: 9000", "a2a is 9000, which must be a mapping; the default is used", {"a2a": {"port": 8001}}),
        ("a2a: [port]", "a2a is ['port'], which must be a mapping", {"a2a": {"port": 8001}}),
        ("a2a:\n  # port: 1\n", "a2a is blank; the default is used", {"a2a": {"port": 8001}}),
        ("a2a:\n  port:\n", "a2a.port is blank; 8001 is used", {"a2a": {"port": 8001}}),
        ("name: 2025", "name is 2025, which must be text; '2025' is used", {"name": "2025"}),
        ("name: 007", "name is 7, which must be text; '007' is used", {"name": "007"}),
        ("name: yes", "name is True, which must be text; 'yes' is used", {"name": "yes"}),
        ("name: 0x_", "", {"name": "0x_"}),
        ("name: 2025-13-45", "", {"name": "2025-13-45"}),
        ("name: 2025-01-02", "", {"name": "2025-01-02"}),
        ("name: {{ name }}", "name is {}, which must be text; 'Image' is used", {"name": "Image"}),
        ("name:", "name is blank; 'Image' is used", {"name": "Image"}),
        ("name: ''", "", {"name": "Image"}),
        ("version: 1.0", "version is 1.0, which must be text; '1.0' is used", {"version": "1.0"}),
        ("version: 1.10", "version is 1.1, which must be text; '1.10' is used", {"version": "1.10"}),
        ("description: ~", "description is blank; '' is used", {"description": ""}),
        ("role:", "role is blank", {"role": ""}),
        ("role: [a]", "role is ['a'], which must be text; '' is used", {"role": ""}),
        ("tier: x", "tier is 'x', which", {"tier": 1}),
        ("tier: 9", "tier is 9, which", {"tier": 1}),
        ("tier: true", "tier is True, which", {"tier": 1}),
        ("tier: 2.5", "tier is 2.5, which", {"tier": 1}),
        ("tier: '3'", "", {"tier": 3}),
        ("tier:", "tier is blank; 2 is used", {"tier": 2}),
        ("idle_interval_seconds: 0", "idle_interval_seconds is 0, which", {"idle_interval_seconds": 600}),
        ("idle_interval_seconds: .nan", "idle_interval_seconds is nan", {"idle_interval_seconds": 600}),
        ("idle_interval_seconds: .inf", "idle_interval_seconds is inf", {"idle_interval_seconds": 600}),
        ("idle_interval_seconds: soon", "idle_interval_seconds is 'soon'", {"idle_interval_seconds": 600}),
        ("template_schema_version: '1'", "template_schema_version is '1'", {"template_schema_version": 1}),
        ("template_schema_version: 2", "template_schema_version is 2", {"template_schema_version": 1}),
        ("prompt_files: one.md", "is 'one.md', which must be a list", {"prompt_files": ["one.md"]}),
        ("prompt_files:", "prompt_files is blank", {"prompt_files": []}),
        ("prompt_files: [1.md, 2, [], {a: b}, null]", "_files[2] is []", {"prompt_files": ["1.md", "2"]}),
        ("prompt_files: {a: b}", "prompt_files is {'a': 'b'}", {"prompt_files": []}),
        ("skills:", "skills is blank", {"skills": []}),
        ("skills: chat", "skills is 'chat', which must be a list", {}),
        ("skills: [5, {id: x}, null]", "skills[1] is {'id': 'x'}", {"skills": []}),
        ("tools: x", "tools is 'x', which must be a list", {"tools": ["x"]}),
        ("runtime_config: [a]", "runtime_config is ['a'], which must be a mapping", {"runtime_config": {}}),
        ("initial_prompt: 5", "initial_prompt is 5, which must be text", {"initial_prompt": "5"}),
        ("observability: {heartbeat_interval_seconds: often}", "y.heartbeat_interval_seconds is", {}),
        ("observability: {log_level: 10}", "log_level is 10", {"observability": {"log_level": "10"}}),
        ("rbac: none", "rbac is 'none'", {"rbac": {"roles": ["read-only"]}}),
        ("rbac: {roles: 5.5}", "rbac.roles is 5.5", {"rbac": {"roles": ["5.5"]}}),
        ("rbac: {roles: [{a: b}]}", "rbac is {'roles': [{'a': 'b'}]}", {"rbac": {"roles": ["read-only"]}}),
        ("rbac: {roles: operator}", "rbac.roles is 'operator'", {"rbac": {"roles": ["operator"]}}),
        ("rbac:", "rbac is blank", {"rbac": {"roles": ["operator"]}}),
        ("descriptoin: x", "unknown key descriptoin is ignored; did you mean description?", {}),
        ("a2a: {prot: 1}", "unknown key a2a.prot is ignored; did you mean a2a.port?", {}),
        ("observability: {color: red}", "unknown key observability.color is ignored", {}),
        ("name: A\nname: B\n", "line 2: name is given twice; the last one counts", {"name": "B"}),
        ("a2a: {port: 1, port: 9000}", "a2a.port is given twice", {"a2a": {"port": 9000}}),
        ("a2a: {port: 9000}\na2a: {streaming: false}\n", "a2a is given twice", {"a2a": {"port": 8001}}),
        ("a2a: {push_notifications: true}", "a2a.push_notifications is not implemented", {}),
        ("? [a]\n: 1\n", "a key of the file is a list: it is left out", {}),
        ("description: !loud hear this", "the tag !loud of description", {"description": "hear this"}),
        ("x: &a {port: 9000}\na2a: {<<: *a, streaming: false}", "unknown key x", {"a2a": {"port": 9000}}),
    ],
)  # fmt: skip
def test_an_odd_value_is_told_and_what_the_image_has_is_used(
    tmp_path: Path, text: str, warning: str, used: dict[str, Any]
) -> None:
    image = written(tmp_path / "image.yaml", "name: Image\ntier: 2\na2a: {port: 8001}\n")
    path = written(tmp_path / "config.yaml", text)
    config = load(image, path)
    dumped = config.model_dump()
    for key, value in used.items():
        found = dumped[key]
        assert found == value if not isinstance(value, dict) else found | value == found
    about = [line for line in config.warnings if warning and warning in line]
    assert len(about) == (1 if warning else 0), config.warnings
    assert all(line.startswith(str(path)) for line in config.warnings)
    if not warning:
        assert config.warnings == ()


def test_a_skill_may_be_a_name_alone_or_a_number_as_its_name(tmp_path: Path) -> None:
    path = written(tmp_path / "config.yaml", "skills: [review, {name: 2025, tags: plan}]\n")
    assert [(one.name, one.tags) for one in load(None, path).skills] == [
        ("review", ["review"]),
        ("2025", ["plan"]),
    ]


def test_a_key_of_a_newer_platform_is_named_and_not_fatal(tmp_path: Path) -> None:
    config = load(
        None, written(tmp_path / "config.yaml", "quantum_mode: true\nx-note: ours\ngovernance: {}\n")
    )
    assert [line.rpartition(": ")[2] for line in config.warnings] == ["unknown key quantum_mode is ignored"]


def test_no_key_of_a_file_can_set_what_is_found_out_of_it(tmp_path: Path) -> None:
    config = load(None, written(tmp_path / "config.yaml", "warnings: [a]\neffective_model: b\nmodel: c\n"))
    assert config.effective_model == "c"
    assert len(config.warnings) == 2


def test_a_directory_elsewhere_without_the_file_is_told_with_the_remedy(tmp_path: Path) -> None:
    for nowhere in (tmp_path / "nowhere", tmp_path):
        (warning,) = load(None, nowhere).warnings
        assert f"there is no {nowhere}/config.yaml" in warning
        assert "set WORKSPACE_CONFIG_PATH" in warning


@pytest.mark.parametrize(
    ("env", "text", "model"),
    [
        ({}, "model: a\nruntime_config: {model: b}\n", "b"),
        ({}, "model: a\nruntime_config: {model: ''}\n", "a"),
        ({"MODEL": "c"}, "runtime_config: {model: b}\n", "c"),
        ({"MODEL": "c", "MOLECULE_MODEL": "d"}, "model: a\n", "d"),
        ({"MODEL": " ", "MOLECULE_MODEL": ""}, "model: a\n", "a"),
        ({}, "model: ''\n", "from-the-image"),
        ({}, "model:\n", "from-the-image"),
        ({"MODEL_PROVIDER": "e"}, "model: a\n", "e"),
        ({"MODEL_PROVIDER": "Mine"}, "model: a\nproviders: [{name: mine}]\n", "a"),
        ({"MODEL_PROVIDER": "openai"}, "model: a\n", "a"),
    ],
)
def test_the_model_is_what_the_environment_says_else_the_file(
    tmp_path: Path, env: dict[str, str], text: str, model: str
) -> None:
    image = written(tmp_path / "image.yaml", "model: from-the-image\n")
    assert load(image, written(tmp_path / "config.yaml", text), env).effective_model == model


@pytest.mark.parametrize(("asked", "used"), [(1, 5.0), (30, 30.0), (9999, 300.0)])
def test_the_heartbeat_interval_stays_within_what_the_platform_allows(asked: int, used: float) -> None:
    config = WorkspaceConfig.model_validate({"observability": {"heartbeat_interval_seconds": asked}})
    assert config.observability.heartbeat_interval == used


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
