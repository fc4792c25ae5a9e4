"""A layer that cannot be built, or that smoke finds broken, ends the build: no tag, nothing left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from support.image_build import LAYERS, docker, play
from support.plugins import ROOT

if TYPE_CHECKING:
    from support.image_build import Build, Builder

DEFAULTS = yaml.safe_load((ROOT / "roles/codex_workspace/defaults/main.yml").read_text())
# The port of "discard", where nothing listens: in the build container too.
NOBODY_LISTENS = "http://127.0.0.1:9"

# --- sources that do not answer ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        pytest.param(
            {
                "codex_workspace_packages": [*DEFAULTS["codex_workspace_packages"], "less"],
                "codex_workspace_build_apt_mirror": f"{NOBODY_LISTENS}/debian",
            },
            "codex_workspace_build_apt_mirror",
            id="apt",
        ),
        pytest.param(
            {
                "codex_workspace_codex_version": "0.129.0",
                "codex_workspace_build_npm_registry": f"{NOBODY_LISTENS}/",
            },
            "codex_workspace_build_npm_registry",
            id="npm",
        ),
        pytest.param(
            {
                "codex_workspace_uv_version": "0.0.1",
                "codex_workspace_build_pip_index_url": f"{NOBODY_LISTENS}/simple",
            },
            "codex_workspace_build_pip_index_url",
            id="pip",
        ),
    ],
)
def test_a_source_that_does_not_answer_is_named_with_the_variable_to_set(
    builder: Builder, settings: dict[str, object], variable: str
) -> None:
    error = builder.run(settings).refusal(after_start=True)
    assert "127.0.0.1:9" in error
    assert variable in error


def test_the_bases_own_settings_of_apt_count_in_the_build(builder: Builder) -> None:
    proxies = " ".join(f'Acquire::{scheme}::Proxy \\"{NOBODY_LISTENS}\\";' for scheme in ("http", "https"))
    base = builder.derive(f'echo "{proxies}" >/etc/apt/apt.conf')
    assert "127.0.0.1:9" in builder.run({"codex_workspace_base_image": base}).refusal(after_start=True)


# --- sudoers ----------------------------------------------------------------------------------------------

MALFORMED = "agent ALL=(ALL NOPASSWD: ALL"


def test_a_sudoers_text_that_does_not_parse_ends_the_build_with_what_visudo_says(
    builder: Builder, good: Build
) -> None:
    error = builder.run({"codex_workspace_t4_sudoers": MALFORMED}).refusal(after_start=True)
    for word in ("failed to validate", "syntax error", "codex_workspace_t4_sudoers", MALFORMED):
        assert word in error


@pytest.mark.parametrize("before", ["", "agent ALL=(ALL) NOPASSWD: /usr/bin/id\n"], ids=["absent", "valid"])
def test_a_sudoers_text_that_does_not_parse_never_takes_the_place_of_what_was_there(
    builder: Builder, good: Build, before: str
) -> None:
    drop_in = "/etc/sudoers.d/agent-t4"
    name = f"{good.image}-sudoers"
    docker("run", "--detach", "--name", name, "--entrypoint", "sleep", f"{good.image}:latest", "3600")
    try:
        docker(
            "exec",
            name,
            "sh",
            "-c",
            f"rm {drop_in}; printf '%s' '{before}' >{drop_in}; test -s {drop_in} || rm {drop_in}",
        )
        layer = {"ansible.builtin.include_role": {"name": "codex_workspace", "tasks_from": "t4"}}
        code, output = play(builder.directory, [layer], host=name, codex_workspace_t4_sudoers=MALFORMED)
        assert code == 2
        assert "failed to validate" in output
        after = docker("exec", name, "sh", "-c", "cat /etc/sudoers.d/* | grep '^agent' || test $? = 1")
    finally:
        docker("rm", "--force", name)
    assert after == before.strip()


# --- smoke ------------------------------------------------------------------------------------------------

WATCHDOG = "bin/codex_auth_refresh.sh"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param("exit 127", ["FATAL", "exited 127 and not 1", "found no Python"], id="127"),
        pytest.param("exit 0", ["FATAL", "exited 0 and not 1", "The watchdog is broken"], id="0"),
        pytest.param(
            "echo 'no such module' >&2; exit 70",
            ["FATAL", "exited 70 and not 1", "The watchdog is broken", "no such module"],
            id="70",
        ),
        pytest.param(
            "if true; then",
            ["FATAL", "does not parse", "syntax error", "/usr/local/bin/codex_auth_refresh.sh"],
            id="syntax",
        ),
    ],
)
def test_a_watchdog_that_does_not_work_never_ships(
    builder: Builder, good: Build, script: str, words: list[str]
) -> None:
    build = builder.run(builder.payload("broken watchdog", {WATCHDOG: f"#!/usr/bin/env bash\n{script}\n"}))
    error = build.refusal(after_start=True)
    assert [word for word in words if word not in error] == []


BROKEN = {
    "codex is 0.130.0": ("bin/codex", "echo codex-cli 0.129.0"),
    "node is 20": ("bin/node", "touch /tmp/left; echo v18.20.0"),
    "the A2A runtime is of one distribution, molecules-workspace-runtime": (
        "bin/python3",
        'case "$*" in *packages_distributions*) echo one another ;; *) exec python3.11 "$@" ;; esac',
    ),
    "the agent has its uid": ("bin/id", "echo 1001"),
    "the docker client runs": ("bin/docker", "exit 1"),
    "the agent's sudoers file is valid": ("bin/visudo", "echo parse error; exit 1"),
    "the agent becomes root without a password": ("bin/sudo", "exit 1"),
    "the entry point parses": ("bin/start.sh", "if true; then"),
    "nothing is left in /tmp": ("bin/node", "touch /tmp/left; echo v18.20.0"),
}


def test_smoke_sees_each_tool_that_is_broken(builder: Builder, good: Build) -> None:
    """/usr/local/bin comes before all other directories of PATH, so the payload can stand before a tool."""
    files = {path: f"#!/bin/sh\n{script}\n" for path, script in BROKEN.values()}
    build = builder.run(builder.payload("broken tools", files))
    assert build.process.returncode == 2, build.end
    assert [check for check in BROKEN if f"failed: [image] (item={check})" not in build.output] == []
    assert build.left_behind() == []


def test_every_check_of_smoke_is_broken_by_a_test() -> None:
    tasks = yaml.safe_load((ROOT / "roles/codex_workspace/tasks/smoke.yml").read_text())
    checks = [item["name"] for task in tasks for item in task.get("loop", [])]
    rendered = {
        check.replace("{{ codex_workspace_codex_version }}", "0.130.0")
        .replace("{{ codex_workspace_nodejs_major }}", "20")
        .replace("{{ _codex_workspace_runtime_distribution }}", "molecules-workspace-runtime")
        for check in checks
    }
    assert rendered == set(BROKEN)


def test_a_build_that_smoke_refused_is_refused_again_and_never_recorded_as_done(
    builder: Builder, good: Build
) -> None:
    """Earlier image builders cached the step at which a build had failed; the next was falsely green."""
    payload = builder.payload("refused twice", {WATCHDOG: "#!/bin/sh\nexit 127\n"})
    builder.run(payload).refusal(after_start=True)
    again = builder.run(payload)
    assert "exited 127 and not 1" in again.refusal(after_start=True)
    assert again.image_ids == []
    mended = builder.run(builder.payload("refused twice"))
    assert mended.process.returncode == 0, mended.end
    assert mended.layers == {
        **dict.fromkeys(LAYERS, "reused"),
        "payload": "built",
        "smoke": "built",
    }
