"""What we render is what the pinned binary accepts and obeys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from app_server import InvalidConfigError
from codex_config import CodexConfig, McpServer, render_config_toml, write_config_toml
from provider_config import resolve_provider
from support.codex_workbench import API_KEY, Workbench
from support.responses_server import Answer, Call, ResponsesServer
from workspace_config import load_workspace_config

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

_ENV = {
    "CODEX_AUTH_JSON": "{}",
    "OPENAI_API_KEY": "k",
    "MINIMAX_API_KEY": "m",
    "MOLECULE_LLM_USAGE_TOKEN": "t",
    "MOLECULE_LLM_BASE_URL": "http://127.0.0.1:9/v1",
}


@pytest.mark.parametrize("name", ["openai-subscription", "openai-api", "minimax-token-plan", "platform"])
async def test_every_arm_is_accepted_by_the_pinned_binary(tmp_path: Path, codex: Path, name: str) -> None:
    """B-14: version 0.130 no longer starts with the chat wire."""
    selection = resolve_provider(load_workspace_config(None), {**_ENV, "LLM_PROVIDER": name})
    bench = Workbench(tmp_path, "")
    mcp = McpServer("molecule", "/bin/true", ["-m", "x"], {"A": "b"}, ["PYTHONPATH"])
    write_config_toml(bench.codex_home, CodexConfig(selection, mcp_servers=[mcp]))
    async with bench:
        # A configuration that does not parse fails here, and not at `initialize` (CODEX.md 11).
        await bench.codex.thread("shared")


@pytest.mark.parametrize(
    ("own", "wrong"),
    [
        ('[model_providers.own]\nname = "own"\nwire_api = "chat"\n', "wire_api"),
        ("[mcp_servers.own]\nargs = []\n", "[mcp_servers.own]"),
        ('model_reasoning_effort = ["high"]\n', "model_reasoning_effort"),
        ('[shell_environment_policy]\ninherit = "everything"\n', "inherit"),
    ],
)
async def test_what_only_codex_knows_to_be_wrong_is_refused_with_the_line_and_left_as_it_is(
    tmp_path: Path, codex: Path, own: str, wrong: str
) -> None:
    """codex itself goes on with its defaults, that is without the workspace's provider (CODEX.md 11)."""
    selection = resolve_provider(load_workspace_config(None), {**_ENV, "LLM_PROVIDER": "platform"})
    bench = Workbench(tmp_path, "")
    path = bench.codex_home / "config.toml"
    path.write_text(own)
    write_config_toml(bench.codex_home, CodexConfig(selection))
    text = path.read_text()
    with pytest.raises(InvalidConfigError) as caught:
        await bench.codex.start()
    await bench.executor.close()
    place = re.search(rf"{re.escape(str(path))}:(\d+):\d+: ", str(caught.value))
    assert place is not None
    assert text.splitlines()[int(place.group(1)) - 1].startswith(wrong)
    assert path.read_text() == text


async def test_what_codex_adds_to_the_file_survives_the_next_rendering(tmp_path: Path, codex: Path) -> None:
    selection = resolve_provider(load_workspace_config(None), {**_ENV, "LLM_PROVIDER": "platform"})
    config = CodexConfig(selection)
    bench = Workbench(tmp_path, "", sandbox="workspace-write")
    path = bench.codex_home / "config.toml"
    write_config_toml(bench.codex_home, config)
    async with bench:
        await bench.codex.thread("shared")
    assert 'trust_level = "trusted"' in path.read_text()
    again = render_config_toml(path.read_text(), config)
    assert 'trust_level = "trusted"' in again
    assert render_config_toml(again, config) == again


async def test_commands_of_the_model_see_no_credential_and_git_still_has_its_own(
    tmp_path: Path, model: ResponsesServer
) -> None:
    secrets = {
        "OPENAI_API_KEY": "secret-1",
        "CODEX_AUTH_JSON": "secret-2",
        "MOLECULE_LLM_USAGE_TOKEN": "secret-3",
        "PLATFORM_INBOUND_SECRET": "secret-4",
        "ADMIN_TOKEN": "secret-5",
    }
    git = {
        "GIT_HTTP_PASSWORD": "git-1",
        "GITEA_TOKEN": "git-2",
        "GH_TOKEN": "git-3",
        "GIT_ASKPASS": "/bin/askpass",
    }
    entry = tmp_path / "config.yaml"
    entry.write_text(
        "runtime_config: {provider: standin}\nproviders:\n"
        "  - {name: standin, auth_mode: openai_compat_responses, auth_env: [STANDIN_KEY],"
        f" base_url: '{model.base_url}'}}\n"
    )
    config = load_workspace_config(tmp_path)
    selection = resolve_provider(config, {"STANDIN_KEY": API_KEY})
    model.script(Call("exec_command", {"cmd": "env"}), Answer.text("Done."))
    bench = Workbench(tmp_path, "", env={**secrets, **git})
    write_config_toml(
        bench.codex_home,
        CodexConfig(selection, secret_variables=[name for one in config.providers for name in one.auth_env]),
    )
    async with bench:
        assert await bench.send("show").completed() == "Done."
    (output,) = model.requests[1].tool_outputs.values()
    for name, value in git.items():
        assert f"{name}={value}" in output
    assert "secret-" not in output
    assert API_KEY not in output
