"""git's credential helper: a real git asks it, and it asks the strict platform."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from git_access import git_variables
from support.fake_platform import FakePlatform

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

HELPER = Path(__file__).parents[2] / "files/bin/molecule-git-credential"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def platform() -> AsyncIterator[FakePlatform]:
    async with FakePlatform() as running:
        yield running
    running.check()


async def fill(url: str, configs: Path, **environment: str) -> tuple[str, str]:
    """What git finds for `url`, and what was said."""

    def ask() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                "git",
                "-c",
                f"credential.https://github.com.helper=!{sys.executable} {HELPER}",
                "credential",
                "fill",
            ],
            input=f"url={url}\n\n",
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(configs),
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_TERMINAL_PROMPT": "0",
                "GIT_ASKPASS": "true",
                "CONFIGS_DIR": str(configs),
                "WORKSPACE_ID": "ws-self",
                **environment,
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )

    done = await asyncio.to_thread(ask)
    return dict(line.partition("=")[::2] for line in done.stdout.splitlines()).get(
        "password", ""
    ), done.stderr


async def test_each_question_is_answered_with_the_token_of_the_moment(
    platform: FakePlatform, tmp_path: Path
) -> None:
    platform.rotate_token(tmp_path / ".auth_token")
    platform.switches.org_id = "org-1"
    platform.github_tokens = ["ghs_first", "ghs_second"]
    known = {"PLATFORM_URL": platform.url, "MOLECULE_ORG_ID": "org-1", "GH_TOKEN": "ghs_env"}
    assert await fill("https://github.com/a/b", tmp_path, **known) == ("ghs_first", "")
    assert await fill("https://github.com/a/b", tmp_path, **known) == ("ghs_second", "")
    assert await fill("https://example.invalid/a/b", tmp_path, **known) == ("", "")
    assert os.listdir(tmp_path) == [".auth_token"]  # noqa: PTH208 (an async test)


async def test_without_a_token_of_the_platform_the_environments_is_given_or_none(
    platform: FakePlatform, tmp_path: Path
) -> None:
    known = {"PLATFORM_URL": platform.url}
    assert await fill("https://github.com/a", tmp_path, **known) == ("", "")
    platform.rotate_token(tmp_path / ".auth_token")
    assert await fill("https://github.com/a", tmp_path, **known, GITHUB_TOKEN="ghs_env") == ("ghs_env", "")
    platform.reject_next("github", 500)
    token, said = await fill("https://github.com/a", tmp_path, **known)
    assert token == ""
    assert "HTTP 500" in said
    away = {"PLATFORM_URL": "http://127.0.0.1:9", "GH_TOKEN": "ghs_env"}
    token, said = await fill("https://github.com/a", tmp_path, **away)
    assert token == "ghs_env"
    assert "cannot be asked" in said
    assert await fill("https://github.com/a", tmp_path, PLATFORM_URL="off", GH_TOKEN="ghs_env") == (
        "ghs_env",
        "",
    )


@pytest.mark.parametrize(
    ("env", "set_here"),
    [
        ({"PLATFORM_URL": "https://platform.example"}, True),
        ({"PLATFORM_URL": "off"}, False),
        ({}, False),
        ({"PLATFORM_URL": "https://platform.example", "GIT_CONFIG_SYSTEM": "/x"}, False),
        ({"PLATFORM_URL": "https://platform.example", "GIT_CONFIG_NOSYSTEM": "1"}, False),
    ],
)
def test_git_is_told_of_the_helper_where_there_is_a_platform(env: dict[str, str], set_here: bool) -> None:
    assert bool(git_variables(env)) is set_here


def test_the_configuration_that_git_is_given_names_the_helper_and_keeps_the_machines_own() -> None:
    file = git_variables({"PLATFORM_URL": "https://platform.example"})["GIT_CONFIG_SYSTEM"]
    listed = subprocess.run(
        ["git", "config", "--file", file, "--list"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "include.path=/etc/gitconfig" in listed
    assert "credential.https://github.com.helper=/usr/local/bin/molecule-git-credential" in listed
