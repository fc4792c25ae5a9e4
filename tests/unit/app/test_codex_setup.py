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
from support.predecessor_toml import FORMS
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
MINE_CHOSEN = MINE + "runtime_config: {provider: mine}\n"


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
    done = workspace.run(NAMES[0], CODEX_AUTH_JSON=text, OPENAI_API_KEY="sk-secret", PLATFORM_URL="off")
    assert done.returncode == 0, done.stderr
    assert (workspace.home / "auth.json").read_text() == text
    assert "credential.unused" in done.stderr
    assert "OPENAI_API_KEY" in done.stderr
    assert "sk-secret" not in done.stderr + done.stdout
    assert workspace.document()["forced_login_method"] == "chatgpt"
    assert "model_provider" not in workspace.document()


def test_an_address_of_openai_that_was_written_by_hand_is_told_without_its_password(
    workspace: Workspace,
) -> None:
    workspace.toml.write_text('openai_base_url = "https://user:pass-word@gateway.example/v1"\n')
    done = workspace.run(NAMES[0], OPENAI_API_KEY="k")
    assert done.returncode == 0, done.stderr
    assert "openai_base_url at gateway.example" in done.stderr
    assert "pass-word" not in done.stderr


# --- without a credential, and other variables of before ----------------------------------------------------


@pytest.mark.parametrize("name", ["render_provider_toml.py", "codex_mcp_config.sh"])
def test_without_a_credential_the_tools_are_written(workspace: Workspace, name: str) -> None:
    workspace.toml.write_text(HAND_WRITTEN)
    done = workspace.run(name)
    assert done.returncode == 0, done.stderr
    assert "set CODEX_AUTH_JSON or CODEX_CHATGPT_AUTH_JSON" in done.stdout
    assert "OPENAI_API_KEY" in done.stdout
    document = workspace.document()
    assert document["mcp_servers"]["molecule"]["env"]["WORKSPACE_ID"] == "ws-1"
    assert document["mcp_servers"]["molecule"]["args"] == ["-m", "molecule_runtime.a2a_mcp_server"]
    assert document["mcp_servers"]["mine"] == {"command": "mine"}
    assert not {"model", "model_provider", "model_providers", "forced_login_method"} & set(document)
    before = workspace.toml.read_bytes()
    assert workspace.run(name).returncode == 0
    assert workspace.toml.read_bytes() == before


@pytest.mark.parametrize(
    "credential",
    [{"MINIMAX_API_KEY": "k"}, {"CODEX_AUTH_JSON": json.dumps(auth_document())}, {"OPENAI_API_KEY": "k"}],
)
def test_a_provider_that_was_written_with_its_credential_stays_without_it(
    workspace: Workspace, credential: dict[str, str]
) -> None:
    """An operator's shell on a host has none of the service's environment."""
    assert workspace.run("render_provider_toml.py", **credential).returncode == 0
    (workspace.home / "auth.json").unlink(missing_ok=True)
    before = workspace.document()
    done = workspace.run("codex_mcp_config.sh", WORKSPACE_ID="ws-2")
    assert done.returncode == 0, done.stderr
    after = workspace.document()
    assert after["mcp_servers"]["molecule"]["env"]["WORKSPACE_ID"] == "ws-2"
    for document in (before, after):
        del document["mcp_servers"]
    assert after == before
    assert workspace.run("render_provider_toml.py", OPENAI_API_KEY="k").returncode == 0
    assert not {"model", "model_provider", "model_providers"} & set(workspace.document())


@pytest.mark.parametrize("form", FORMS)
def test_without_a_credential_a_provider_of_the_predecessor_stays_too(
    workspace: Workspace, form: str
) -> None:
    workspace.toml.write_text(FORMS[form])
    done = workspace.run("codex_mcp_config.sh")
    assert done.returncode == 0, done.stderr
    document = workspace.document()
    assert (document["model_provider"], set(document["model_providers"])) == ("minimax", {"minimax"})
    assert document["mcp_servers"]["molecule"]["env"]["WORKSPACE_ID"] == "ws-1"
    assert workspace.run("render_provider_toml.py", OPENAI_API_KEY="k").returncode == 0
    assert not {"model", "model_provider", "model_providers"} & set(workspace.document())


@pytest.mark.parametrize("other", [{}, {"OPENAI_API_KEY": "k"}, {"MINIMAX_API_KEY": " "}])
def test_without_its_key_there_is_nothing_to_do_for_minimax(
    workspace: Workspace, other: dict[str, str]
) -> None:
    done = workspace.run("codex_minimax_config.sh", **other)
    assert (done.returncode, done.stdout) == (0, "[codex-minimax] no MINIMAX_API_KEY: nothing to do\n")
    assert not workspace.toml.exists()


def test_minimax_has_a_model_of_its_own(workspace: Workspace) -> None:
    done = workspace.run("codex_minimax_config.sh", MINIMAX_API_KEY="k", CODEX_MINIMAX_MODEL="MiniMax-M2.1")
    assert done.returncode == 0, done.stderr
    assert "[codex-minimax] wrote" in done.stderr
    assert (workspace.document()["model"], workspace.document()["model_provider"]) == (
        "MiniMax-M2.1",
        "minimax",
    )
    assert (
        workspace.run("codex_minimax_config.sh", OPENAI_API_KEY="k", CODEX_MINIMAX_MODEL="x").returncode == 0
    )
    done = workspace.run("render_provider_toml.py", OPENAI_API_KEY="k", CODEX_MINIMAX_MODEL="x")
    assert done.stdout.endswith(": provider openai-api, model gpt-5.5\n"), "no other provider has it"


def test_minimax_has_an_address_of_its_own(workspace: Workspace) -> None:
    china = "https://api.minimaxi.com/v1"
    done = workspace.run("codex_minimax_config.sh", MINIMAX_API_KEY="k", MINIMAX_API_BASE=china)
    assert done.returncode == 0, done.stderr
    assert workspace.document()["model_providers"]["minimax"]["base_url"] == china


def test_a_subscription_wins_over_minimax(workspace: Workspace) -> None:
    workspace.toml.write_text(FORMS["the script"])
    both = {"MINIMAX_API_KEY": "k", "CODEX_AUTH_JSON": json.dumps(auth_document())}
    done = workspace.run("codex_minimax_config.sh", **both)
    assert done.returncode == 0, done.stderr
    assert not {"model", "model_provider", "model_providers"} & set(workspace.document())


@pytest.mark.parametrize("credential", [{}, {"OPENAI_API_KEY": "k"}])
def test_the_tools_can_run_in_another_python(workspace: Workspace, credential: dict[str, str]) -> None:
    """One that is not there is taken at its word, and told."""
    done = workspace.run("codex_mcp_config.sh", MOLECULE_MCP_PYTHON=sys.executable, **credential)
    assert done.returncode == 0, done.stderr
    assert "cannot import molecule_runtime" not in done.stderr
    assert "[codex-mcp] wrote" in done.stderr
    assert workspace.document()["mcp_servers"]["molecule"]["command"] == sys.executable
    done = workspace.run("codex_mcp_config.sh", MOLECULE_MCP_PYTHON="/opt/venv/bin/python3.11", **credential)
    assert done.returncode == 0, done.stderr
    assert "cannot import molecule_runtime" in done.stderr
    assert workspace.document()["mcp_servers"]["molecule"]["command"] == "/opt/venv/bin/python3.11"


@pytest.mark.parametrize("credential", [{}, {"OPENAI_API_KEY": "k"}])
def test_a_python_that_is_not_absolute_is_refused(workspace: Workspace, credential: dict[str, str]) -> None:
    line = workspace.refused(MOLECULE_MCP_PYTHON="python3", **credential)
    assert "MOLECULE_MCP_PYTHON is 'python3': it must be the absolute path" in line


# --- exit code 2: one line, and nothing is changed ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [\n", "config.yaml: line 2, column 1 is not YAML"),
        ("- a\n", "holds a list; it must be"),
        ("\0", "is not UTF-8 text"),
        ("model: openai-api\n", "model is 'openai-api', which is the name of a provider"),
        ("model: MiniMax-token-plan\n", "is the name of a provider"),
        (
            "runtime_config: {provider: nope}\n",
            "runtime_config.provider is 'nope', which is not in the registry",
        ),
        ("bridge: {sandbox: none}\n", "bridge.sandbox: Input should be"),
        (MINE_CHOSEN.replace("base_url", "base_ur"), "needs a base_url"),
        (MINE_CHOSEN.replace("https:", "ftp:"), "must begin with http:// or https://"),
        (MINE_CHOSEN.replace("MY_KEY", "MY-KEY"), "auth_env"),
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


@pytest.mark.parametrize("variable", ["MY_KEY", "OPENAI_API_KEY"])
def test_a_key_that_no_header_can_hold_is_refused_by_name_before_codex_leaves_it_out(
    workspace: Workspace, variable: str
) -> None:
    (workspace.configs / "config.yaml").write_text(MINE if variable == "MY_KEY" else "name: Test\n")
    done = workspace.run(NAMES[0], **{variable: "sk-secret\u0142"})
    assert done.returncode == 2
    assert f"{variable} has characters that no key has" in done.stderr
    assert "sk-secret" not in done.stdout + done.stderr
    assert workspace.run(NAMES[0], **{variable: "sk-secret\r\n"}).returncode == 0
