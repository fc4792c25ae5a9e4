"""A setting that cannot be meant is refused by name, before an engine is asked for anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.image_build import Builder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# No engine answers here: whoever asked one would say so instead.
NOWHERE = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[Builder]:
    """Builds that need no engine, since none is reached."""
    builder = Builder(tmp_path)
    yield builder
    assert [build.session for build in builder.builds] == [""]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param(
            {"codex_workspace_base_source": "registry"},
            ['codex_workspace_base_source is "registry"', "pull", "bootstrap", "auto"],
            id="unknown base source",
        ),
        pytest.param(
            {"codex_workspace_base_digest": "sha256:123"},
            [
                'codex_workspace_base_digest is "sha256:123"',
                "64 hexadecimal digits",
                "docker images --digests",
            ],
            id="half a digest",
        ),
        pytest.param(
            {"codex_workspace_base_digest": f"sha256:{'0' * 64}", "codex_workspace_base_source": "bootstrap"},
            ["codex_workspace_base_digest", "codex_workspace_base_source is bootstrap", "pull"],
            id="digest of a stand-in",
        ),
        pytest.param(
            {"codex_workspace_state": "absent"},
            ["codex_workspace_state cannot be set for an image", "playbooks/provision.yml"],
            id="setting of hosts",
        ),
        pytest.param(
            {"codex_workspace_bootstrap_suite": "sid"},
            ['codex_workspace_bootstrap_suite is "sid"', "Allowed are trixie and bookworm"],
            id="unknown suite",
        ),
        *(
            pytest.param(
                {"codex_workspace_codex_version": version},
                [f'codex_workspace_codex_version is "{version}"', "one exact version, such as 0.130.0"],
                id=f"codex version {version}",
            )
            for version in (
                "^0.130.0",
                "~0.130",
                "0.130",
                "0.130.x",
                ">=0.130.0",
                "latest",
                "0.130.0 || 1.0.0",
                "",
            )
        ),
        pytest.param(
            {"codex_workspace_codex_verison": "0.130.0"},
            ["codex_workspace_codex_verison", "meta/argument_specs.yml", "correct the name"],
            id="misspelled variable",
        ),
        pytest.param(
            {"codex_workspace_base_imgae": "python:3.11"},
            ["codex_workspace_base_imgae", "correct the name"],
            id="misspelled variable of the build",
        ),
        pytest.param(
            {"codex_workspace_agent_uid": "thousand"},
            ["codex_workspace_agent_uid", "thousand", "int"],
            id="wrong type",
        ),
        pytest.param(
            {"codex_workspace_runtime_source": "index", "codex_workspace_runtime_version": "0.4.87"},
            ["codex_workspace_runtime_source", "codex_workspace_runtime_index_url is empty", "squatted"],
            id="runtime without an index of its own",
        ),
        *(
            pytest.param(
                {"codex_workspace_runtime_package": name},
                [
                    f'codex_workspace_runtime_package is "{name}"',
                    "squatted",
                    "Give molecules-workspace-runtime",
                ],
                id=f"retired name {name}",
            )
            for name in ("molecule-ai-workspace-runtime", "Molecule_AI.workspace--Runtime")
        ),
        pytest.param(
            {"codex_workspace_runtime_package": "molecules-workspace-runtime --index-url=x"},
            ["codex_workspace_runtime_package is", "no name of a distribution"],
            id="more than a name of a runtime",
        ),
        pytest.param(
            {"codex_workspace_runtime_version": "99.0.0"},
            [
                'codex_workspace_runtime_version is "99.0.0"',
                "the bundled runtime is",
                "Leave the version empty",
            ],
            id="bundled runtime of another version",
        ),
        pytest.param(
            {"codex_workspace_build_ca_file": "/nonexistent/ca.pem"},
            [
                'codex_workspace_build_ca_file is "/nonexistent/ca.pem"',
                "no such file",
                "PEM",
                "leave it empty",
            ],
            id="absent CA file",
        ),
        *(
            pytest.param(
                {"codex_workspace_image_name": name},
                [f'codex_workspace_image_name is "{name}"', "a tag that Docker accepts", "no tag of its own"],
                id=f"name {name[:10]}",
            )
            for name in ("x:dev", "Upper/case", "0" * 64)
        ),
        pytest.param(
            {
                "codex_workspace_base_image": f"python:3.11@sha256:{'0' * 64}",
                "codex_workspace_base_source": "bootstrap",
            },
            ["codex_workspace_base_image has a digest", "codex_workspace_base_source is bootstrap"],
            id="pinned stand-in",
        ),
        pytest.param(
            {
                "codex_workspace_base_image": "Python:3.11 slim",
                "codex_workspace_base_digest": 5,
                "codex_workspace_image_name": ["a"],
                "codex_workspace_cache_enabled": "maybe",
                "codex_workspace_build_timeout_seconds": "soon",
                "codex_workspace_packages": "git,curl",
                "codex_workspace_nodejs_major": 20.5,
                "codex_workspace_build_ca_file": None,
                "codex_workspace_base_source": True,
            },
            [
                "codex_workspace_image_name is a list, and text is needed",
                'codex_workspace_cache_enabled is "maybe", and true or false is needed',
                'codex_workspace_build_timeout_seconds is "soon", and an int',
                'codex_workspace_packages is "git,curl", and a list is needed',
                "codex_workspace_nodejs_major is 20.5, and an int",
                "codex_workspace_build_ca_file is empty (null), and a path is needed",
                "codex_workspace_base_source is true, and text is needed",
            ],
            id="several wrong types",
        ),
        pytest.param(
            {"codex_workspace_base_image": "Python:3.11 slim"},
            ['codex_workspace_base_image is "Python:3.11 slim"', "no name of an image"],
            id="base that is no name",
        ),
        pytest.param(
            {"codex_workspace_image_version": "1.0 beta"},
            ['codex_workspace_image_version is "1.0 beta"', "such as codex-workspace:0.1.0"],
            id="version that makes no tag",
        ),
    ],
)
def test_it_is_refused_by_name_with_what_is_allowed(
    offline: Builder, settings: dict[str, Any], words: list[str]
) -> None:
    error = offline.run(settings, env=NOWHERE).refusal_without_engine()
    assert [word for word in words if word not in error] == []
    assert "engine" not in error.lower()
