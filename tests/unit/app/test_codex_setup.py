"""From environment and config.yaml to CODEX_HOME, by the commands that the platform knows by name."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import codex_setup
from codex_setup import configure
from support.watchdog import APP, auth_document

BIN = APP.parent / "bin"
RUNTIME = APP.parent / "runtime"
CONFIG_DOCUMENT = APP.parent / "config_document"
NAMES = ("render_provider_toml.py", "codex_mcp_config.sh", "codex_minimax_config.sh")
HAND_WRITTEN = '# mine\nmodel_reasoning_effort = "high" # think\n\n[mcp_servers.mine]\ncommand = "mine"\n'
MINE = """\
providers:
  - {name: mine, auth_mode: openai_compat_responses, base_url: "https://mine.example/v1", auth_env: [MY_KEY]}
"""


@dataclass
class Workspace:
    """A configs directory, a CODEX_HOME, and the entries run on them."""

    root: Path

    def __post_init__(self) -> None:
        for path in (self.configs, self.home):
            path.mkdir(parents=True)

    @property
    def configs(self) -> Path:
        return self.root / "configs"

    @property
    def home(self) -> Path:
        return self.root / ".codex"

    @property
    def toml(self) -> Path:
        return self.home / "config.toml"

    def document(self) -> dict[str, Any]:
        return tomllib.loads(self.toml.read_text())

    def run(self, name: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = (
            [str(BIN / name)] if name.endswith(".sh") else [str(BIN / "workspace-python"), str(BIN / name)]
        )
        return subprocess.run(
            [*command, *arguments],
            env={
                "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
                "PYTHONPATH": os.pathsep.join(
                    [str(RUNTIME), str(CONFIG_DOCUMENT), *(path for path in sys.path if "site-" in path)]
                ),
                "CODEX_PYTHON": sys.executable,
                "CODEX_WORKSPACE_AGENT_USER": "root" if os.geteuid() == 0 else "",
                "HOME": str(self.root),
                "CODEX_HOME": str(self.home),
                "WORKSPACE_CONFIG_PATH": str(self.configs),
                "CONFIGS_DIR": str(self.configs),
                "WORKSPACE_ID": "ws-1",
                **env,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def refused(self, *arguments: str, **env: str) -> str:
        """Run the renderer, which must refuse, and give its one line."""
        before = {path: path.read_bytes() for path in self.home.rglob("*") if path.is_file()}
        done = self.run("render_provider_toml.py", *arguments, **env)
        assert done.returncode == 2, done
        assert {path: path.read_bytes() for path in self.home.rglob("*") if path.is_file()} == before
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        (line,) = [each for each in done.stderr.splitlines() if each.startswith("render_provider_toml: ")]
        return line


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "w")


# --- the commands -------------------------------------------------------------------------------------------


def test_every_name_runs_the_same_code(workspace: Workspace) -> None:
    texts = set()
    for name in NAMES:
        workspace.toml.unlink(missing_ok=True)
        done = workspace.run(name, MINIMAX_API_KEY="sk-secret")
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{workspace.toml}: provider minimax-token-plan, model codex-MiniMax-M2.7\n"
        assert "sk-secret" not in done.stderr
        texts.add(workspace.toml.read_text())
    (text,) = texts
    assert tomllib.loads(text)["model_providers"]["minimax"]["env_key"] == "MINIMAX_API_KEY"
    assert tomllib.loads(text)["mcp_servers"]["molecule"]["env"]["CONFIGS_DIR"] == str(workspace.configs)
    assert "sk-secret" not in text


def test_as_often_as_it_is_done_nothing_changes_and_what_was_written_by_hand_stays(
    workspace: Workspace,
) -> None:
    workspace.toml.write_text(HAND_WRITTEN)
    assert workspace.run(NAMES[0], OPENAI_API_KEY="k").returncode == 0
    first, inode = workspace.toml.read_bytes(), workspace.toml.stat().st_ino
    for name in NAMES:
        assert workspace.run(name, OPENAI_API_KEY="k").returncode == 0
    assert (workspace.toml.read_bytes(), workspace.toml.stat().st_ino) == (first, inode)
    for line in HAND_WRITTEN.splitlines():
        assert line in first.decode()


def test_provider_and_model_can_be_named_and_win_over_what_is_configured(workspace: Workspace) -> None:
    (workspace.configs / "config.yaml").write_text(MINE)
    done = workspace.run(
        NAMES[0],
        "--provider",
        "Mine",
        "--model",
        "m-1",
        MY_KEY="k",
        OPENAI_API_KEY="k",
        LLM_PROVIDER="openai",
    )
    assert done.returncode == 0, done.stderr
    assert (workspace.document()["model_provider"], workspace.document()["model"]) == ("mine", "m-1")


def test_codex_home_and_config_can_be_elsewhere(workspace: Workspace) -> None:
    elsewhere, config = workspace.root / "elsewhere/.codex", workspace.root / "other.yaml"
    config.write_text(MINE + "runtime_config: {provider: mine, model: m-2}\n")
    options = ["--codex-home", str(elsewhere), "--workspace-config", str(config)]
    done = workspace.run(NAMES[0], *options, MY_KEY="k")
    assert done.returncode == 0, done.stderr
    assert tomllib.loads((elsewhere / "config.toml").read_text())["model"] == "m-2"
    assert not workspace.toml.exists()
    (workspace.root / "config.yaml").write_text(MINE + "runtime_config: {provider: mine, model: m-3}\n")
    options[-1] = str(workspace.root)
    assert workspace.run(NAMES[0], *options, MY_KEY="k").returncode == 0
    assert tomllib.loads((elsewhere / "config.toml").read_text())["model"] == "m-3"


def test_a_subscription_is_signed_in_and_a_key_beside_it_is_said_to_be_unused(workspace: Workspace) -> None:
    text = json.dumps(auth_document())
    done = workspace.run(NAMES[0], CODEX_AUTH_JSON=text, OPENAI_API_KEY="sk-secret")
    assert done.returncode == 0, done.stderr
    assert (workspace.home / "auth.json").read_text() == text
    assert "credential.unused" in done.stderr
    assert "OPENAI_API_KEY" in done.stderr
    assert "sk-secret" not in done.stderr + done.stdout
    assert workspace.document()["forced_login_method"] == "chatgpt"
    assert "model_provider" not in workspace.document()


# --- exit code 2: one line, and nothing is changed ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [\n", "config.yaml:2:1 is not YAML"),
        ("- a\n", "holds a list, not keys"),
        ("\0", "is not YAML"),
        ("model: openai-api\n", "model is 'openai-api', which is the name of a provider"),
        ("model: MiniMax-token-plan\n", "is the name of a provider"),
        (
            "runtime_config: {provider: nope}\n",
            "runtime_config.provider is 'nope', which is not in the registry",
        ),
        ("bridge: {sandbox: none}\n", "bridge.sandbox: Input should be"),
        ("bridge: {sandbx: read-only}\n", "bridge.sandbx: Extra inputs are not permitted"),
        (MINE.replace("base_url", "base_ur"), "base_ur: Extra inputs are not permitted"),
        (MINE.replace("https:", "ftp:"), "must begin with http:// or https://"),
        (MINE.replace("MY_KEY", "MY-KEY"), "auth_env"),
    ],
)
def test_a_wrong_config_yaml_is_refused(workspace: Workspace, text: str, words: str) -> None:
    (workspace.configs / "config.yaml").write_text(text)
    assert words in workspace.refused(OPENAI_API_KEY="k")


def test_a_config_yaml_that_is_not_text_is_refused(workspace: Workspace) -> None:
    (workspace.configs / "config.yaml").write_bytes(b"model: \xff\n")
    assert "config.yaml is not UTF-8 text (byte 7)" in workspace.refused(OPENAI_API_KEY="k")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--provider", "nope"], "which is not in the registry. Known: openai-subscription"),
        (
            ["--provider", "minimax-token-plan"],
            "no credential for provider minimax-token-plan: set MINIMAX_API_KEY",
        ),
        (["--model", "openai-api"], "which is the name of a provider"),
        (["--workspace-config", "/no/such/file"], "--workspace-config /no/such/file does not exist"),
    ],
)
def test_a_wrong_argument_is_refused(workspace: Workspace, arguments: list[str], words: str) -> None:
    assert words in workspace.refused(*arguments, OPENAI_API_KEY="k")


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused_with_the_usage(workspace: Workspace, name: str) -> None:
    done = workspace.run(name, "--provder", "x", OPENAI_API_KEY="k")
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert not workspace.toml.exists()


def test_no_credential_at_all_is_refused_with_what_to_set(workspace: Workspace) -> None:
    line = workspace.refused()
    assert "set CODEX_AUTH_JSON or CODEX_CHATGPT_AUTH_JSON" in line
    assert "OPENAI_API_KEY" in line


@pytest.mark.parametrize(
    ("text", "place"),
    [("ok = 1\nbroken\n", ":2:"), ("a = 1\na = 2\n", ""), ("[mcp_servers]\nx = [\n", ":")],
)
def test_a_broken_config_toml_is_refused_with_its_line_and_nothing_is_touched(
    workspace: Workspace, text: str, place: str
) -> None:
    workspace.toml.write_text(text)
    line = workspace.refused(CODEX_AUTH_JSON=json.dumps(auth_document()))
    assert f"{workspace.toml}{place}" in line
    assert not (workspace.home / "auth.json").exists()


@pytest.mark.parametrize("text", ["{", "{}", '{"auth_mode": "apikey"}', '{"OPENAI_API_KEY": "sk-secret"}'])
def test_a_wrong_subscription_is_refused_and_nothing_is_touched(workspace: Workspace, text: str) -> None:
    workspace.toml.write_text(HAND_WRITTEN)
    line = workspace.refused(CODEX_AUTH_JSON=text)
    assert "CODEX_AUTH_JSON" in line
    assert "sk-secret" not in line


def test_a_codex_home_that_cannot_be_made_is_refused(workspace: Workspace) -> None:
    (workspace.root / "file").touch()
    assert "Not a directory" in workspace.refused(
        "--codex-home", str(workspace.root / "file/.codex"), OPENAI_API_KEY="k"
    )


if os.geteuid() == 0:

    def test_root_does_it_as_the_agent_which_must_exist(workspace: Workspace) -> None:
        line = workspace.refused(OPENAI_API_KEY="k", CODEX_WORKSPACE_AGENT_USER="no-such-user")
        assert "there is no user 'no-such-user'" in line


# --- in parts -----------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_config_toml_whole(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIGS_DIR", str(workspace.configs))
    workspace.toml.write_text(HAND_WRITTEN)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        configure({"OPENAI_API_KEY": "k", "CODEX_HOME": str(workspace.home)}, workspace.configs)
    assert workspace.toml.read_text() == HAND_WRITTEN
    assert [path.name for path in workspace.home.iterdir()] == ["config.toml"]


def test_a_runtime_without_the_tools_server_gets_no_entry_for_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFIGS_DIR", str(workspace.configs))
    monkeypatch.setattr(codex_setup, "_MCP_MODULE", "molecule_runtime.no_such_module")
    configure({"OPENAI_API_KEY": "k", "CODEX_HOME": str(workspace.home)}, workspace.configs)
    assert "mcp_servers" not in workspace.document()
