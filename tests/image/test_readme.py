"""Each command of the README runs as it stands there."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from pathlib import Path

import pytest

from support.responses_server import Answer, ResponsesServer
from support.workspace_container import CONFIG, WorkspaceContainer, gateway
from workspace_config import load_workspace_config

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of the README in this language; "" for those that name none."""
    parts = re.split(r"^```(\w*)\n", README, flags=re.MULTILINE)
    # Text, language, code, (closing fence: ""), text, language, code, ...
    found = [code for name, code in zip(parts[1::4], parts[2::4], strict=True) if name == language]
    assert found, f"the README has no block of {language!r}"
    return found


def shell(script: str, **env: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.parametrize("block", blocks("sh"))
def test_a_block_of_commands_runs(block: str) -> None:
    out = shell(block)
    if "codex --version" in block:
        assert out == "codex-cli 0.130.0\n"


def test_every_make_target_that_is_named_exists() -> None:
    named = set(re.findall(r"`make\s+([a-z][a-z0-9-]*)", README))
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named
    assert named <= targets


def test_every_file_that_is_linked_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []


@pytest.mark.anyio
async def test_the_curl_example_gets_an_answer(image: str) -> None:
    (example,) = [block for block in blocks("") if block.startswith("curl ")]
    async with ResponsesServer(host=await gateway()) as model:
        model.script(Answer(["Hello to you"]))
        async with WorkspaceContainer(image, CONFIG.format(base_url=model.base_url)) as workspace:
            command = example.replace("http://localhost:8000", workspace.url)
            assert command != example
            out = await asyncio.to_thread(shell, command)
        model.check()
    assert "Hello to you" in out
    assert '"state":"completed"' in out


def test_the_provider_example_is_a_configuration_that_is_accepted(tmp_path: Path) -> None:
    (example,) = [block for block in blocks("yaml") if block.startswith("runtime_config:")]
    (tmp_path / "config.yaml").write_text(example)
    config = load_workspace_config(tmp_path)
    assert "mine" in [provider.name for provider in config.providers]
