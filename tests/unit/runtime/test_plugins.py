"""Plugins: what they bring, what is refused, and how declared ones come and go, fetched by a real git."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from molecule_runtime.plugin_sources import install_declared, parse_source
from molecule_runtime.plugins import PluginError, load_plugins

pytestmark = pytest.mark.anyio

FORGE = "https://forge.example"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def servers(**given: Any) -> str:
    return json.dumps({"mcpServers": given})


def test_a_plugin_brings_rules_texts_skills_and_servers(tmp_path: Path) -> None:
    root = write(
        tmp_path / "p/review",
        {
            "plugin.yaml": "name: review\nversion: 1.0\ndescription: Reviews code\nruntimes: [codex]\n",
            "rules/b.md": "Second rule.\n",
            "rules/a.md": "First rule.",
            "rules/notes.txt": "no rule",
            "README.md": "for people",
            "style.md": "Be brief.",
            "skills/triage/SKILL.md": "---\nname: triage\n---\n",
            "skills/no-skill/other.md": "x",
            "bin/server": "#!/bin/sh\n",
            "mcp-servers.json": servers(
                local={"command": "./bin/server", "args": ["--x"], "env": {"A": "b"}, "type": "stdio"},
                remote={"url": "https://mcp.example/v1"},
                shell={"command": "sh"},
            ),
        },
    )
    (root / "bin/server").chmod(0o755)
    (found,) = load_plugins([tmp_path / "p", tmp_path / "absent"], "codex").plugins
    assert (found.name, found.version, found.description) == ("review", "1.0", "Reviews code")
    assert found.rules == ("First rule.", "Second rule.")
    assert found.fragments == ("Be brief.",)
    assert found.skills == {"triage": root / "skills/triage"}
    local, remote, shell = found.servers
    assert (local.command, local.args, local.env) == (str(root / "bin/server"), ("--x",), {"A": "b"})
    assert remote.url == "https://mcp.example/v1"
    assert Path(shell.command).is_absolute()


def test_those_of_the_workspace_come_before_shared_ones_and_those_for_others_are_passed_over(
    tmp_path: Path,
) -> None:
    write(tmp_path / "own/a", {"x.md": "own"})
    write(tmp_path / "shared/a", {"x.md": "shared"})
    write(tmp_path / "shared/b", {"x.md": "b", "plugin.yaml": "runtimes: [claude-code]\n"})
    write(tmp_path / "shared/.staging-1", {"x.md": "half"})
    found = load_plugins([tmp_path / "own", tmp_path / "shared"], "codex")
    assert [plugin.fragments for plugin in found.plugins] == [("own",)]
    assert found.problems == ()


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"plugin.yaml": "name: ["}, "plugin.yaml is not YAML"),
        ({"plugin.yaml": "just text"}, "plugin.yaml holds no keys"),
        ({"mcp-servers.json": "{"}, "mcp-servers.json is not JSON"),
        ({"mcp-servers.json": "[]"}, "holds no object of servers"),
        ({"settings-fragment.json": '{"mcpServers": 3}'}, "holds no object of servers"),
        ({"mcp-servers.json": servers(x={})}, "neither a command nor a url"),
        ({"mcp-servers.json": servers(x={"url": "file:///etc"})}, "neither a command nor a url"),
        ({"mcp-servers.json": servers(x={"command": "no-such-command"})}, "is not there, or not executable"),
        ({"mcp-servers.json": servers(x={"command": "sh", "args": "a b"})}, "args must be a list of texts"),
        (
            {"mcp-servers.json": servers(x={"command": "sh", "env": {"A": 1}})},
            "env must be an object of texts",
        ),
        ({"mcp-servers.json": servers(**{"a b": {"command": "sh"}})}, "a name has letters"),
        ({"mcp-servers.json": servers(x=3)}, "no object with a command"),
        ({"mcp-servers.json": servers(molecule={"command": "sh"})}, "belongs to the workspace itself"),
        ({"mcp-servers.json": servers(taken={"command": "sh"})}, "belongs to plugin a-good"),
        ({"skills/triage/SKILL.md": "x"}, "the skill triage belongs to plugin a-good"),
        ({"big.md": "x" * (300 << 10)}, "big.md is larger than"),
    ],
)
def test_a_broken_plugin_is_reported_and_harms_no_other(
    tmp_path: Path, files: dict[str, str], reason: str
) -> None:
    good = {
        "x.md": "good",
        "mcp-servers.json": servers(taken={"command": "sh"}),
        "skills/triage/SKILL.md": "x",
    }
    write(tmp_path / "p/a-good", good)
    write(tmp_path / "p/broken", files)
    write(tmp_path / "p/z-good", {"x.md": "good too"})
    found = load_plugins([tmp_path / "p"], "codex")
    assert [plugin.name for plugin in found.plugins] == ["a-good", "z-good"]
    (problem,) = found.problems
    assert problem.startswith("plugin broken is not used: ")
    assert reason in problem


def test_a_link_that_leads_out_of_a_plugin_is_refused_and_a_file_that_is_no_text_too(tmp_path: Path) -> None:
    secret = write(tmp_path, {"token": "secret"}) / "token"
    (write(tmp_path / "p/a", {}) / "rules").mkdir(parents=True)
    (tmp_path / "p/a/rules/x.md").symlink_to(secret)
    write(tmp_path / "p/b", {"y.md": ""})
    (tmp_path / "p/b/y.md").write_bytes(b"\xff\xfe")
    found = load_plugins([tmp_path / "p"], "codex")
    assert found.plugins == ()
    assert [problem.partition(": ")[2] for problem in found.problems] == [
        "rules/x.md leads out of the plugin",
        "y.md is not UTF-8 text (byte 0)",
    ]


@pytest.mark.parametrize(
    ("given", "name", "repository", "directory", "ref"),
    [
        ("gitea://org/tools", "tools", f"{FORGE}/org/tools", "", "main"),
        ("gitea://org/tools/plugins/review#v2", "review", f"{FORGE}/org/tools", "plugins/review", "v2"),
        ("https://h.example:8443/o/r", "r", "https://h.example:8443/o/r", "", "main"),
        ("https://h.example/o/r.git/sub/p#abc", "p", "https://h.example/o/r.git", "sub/p", "abc"),
        ("git+https://h.example/o/r.git", "r", "https://h.example/o/r.git", "", "main"),
    ],
)
def test_a_source_names_repository_directory_and_ref(
    given: str, name: str, repository: str, directory: str, ref: str
) -> None:
    source = parse_source(given, FORGE)
    assert (source.name, source.repository, source.directory, source.ref) == (
        name,
        repository,
        directory,
        ref,
    )


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("http://h.example/o/r", "only gitea://"),
        ("github://o/r", "only gitea://"),
        ("scheduler", "only gitea://"),
        ("https://user:pa55word@h.example/o/r", "a credential"),
        ("https://h.example/o/r?token=pa55word", "a credential"),
        ("gitea://org/tools/../..", "no repository"),
        ("https://h.example/o/r.git/..", "no repository"),
        ("https://h.example/", "no repository"),
        ("gitea://org", "no repository"),
        ("https://h.example/o/r#--upload-pack=x", "no branch"),
        ("https://[::1/x", "no URL"),
    ],
)
def test_a_source_that_cannot_be_used_says_why_and_repeats_no_secret(given: str, reason: str) -> None:
    with pytest.raises(PluginError, match=reason) as caught:
        parse_source(given, FORGE)
    assert "pa55word" not in str(caught.value)


def test_the_forge_has_to_be_known_for_its_own_form() -> None:
    with pytest.raises(PluginError, match="MOLECULE_PLUGIN_REGISTRY"):
        parse_source("gitea://org/tools", "")


class Forge:
    """Repositories on disk, which git takes for the forge: `url.<base>.insteadOf`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.file://{root}/.insteadOf",
            "GIT_CONFIG_VALUE_0": f"{FORGE}/",
            "MOLECULE_PLUGIN_REGISTRY": FORGE,
            "MY_SECRET": "hidden",
        }

    def commit(self, name: str, files: dict[str, str]) -> str:
        repository = self.root / name
        if not repository.exists():
            self.git("init", "--quiet", "--initial-branch=main", str(repository))
        write(repository, files)
        self.git("-C", str(repository), "add", "--all")
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        self.git("-C", str(repository), *identity, "commit", "--quiet", "-m", "x")
        return self.git("-C", str(repository), "rev-parse", "HEAD").strip()

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], env=self.env, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    def declare(self, *sources: str) -> dict[str, str]:
        return {**self.env, "MOLECULE_DECLARED_PLUGINS": ",".join(sources)}


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    (tmp_path / "forge").mkdir()
    return Forge(tmp_path / "forge")


async def test_declared_plugins_come_change_and_go(forge: Forge, tmp_path: Path) -> None:
    plugins = tmp_path / "configs/plugins"
    first = forge.commit("org/tools", {"review/x.md": "one", "other/y.md": "other"})
    write(plugins / "by-hand", {"z.md": "mine"})
    review, other = "gitea://org/tools/review", f"https://forge.example/org/tools.git/other#{first}"
    forge.git("clone", "--quiet", "--bare", str(forge.root / "org/tools"), str(forge.root / "org/tools.git"))
    assert await install_declared(forge.declare(review, other), plugins) == []
    assert sorted(path.name for path in plugins.iterdir()) == [".declared.json", "by-hand", "other", "review"]
    assert (plugins / "review/x.md").read_text() == "one"
    assert not (plugins / "review/.git").exists()
    forge.commit("org/tools", {"review/x.md": "two"})
    assert await install_declared(forge.declare(review), plugins) == []
    assert (plugins / "review/x.md").read_text() == "two"
    assert not (plugins / "other").exists()
    assert await install_declared(forge.declare(), plugins) == []
    assert sorted(path.name for path in plugins.iterdir()) == [".declared.json", "by-hand"]


async def test_a_source_that_fails_leaves_what_was_there_and_the_others_come(
    forge: Forge, tmp_path: Path
) -> None:
    plugins = tmp_path / "plugins"
    forge.commit("org/a", {"x.md": "a"})
    forge.commit("org/b", {"x.md": "b"})
    assert await install_declared(forge.declare("gitea://org/a"), plugins) == []
    (forge.root / "org/a").rename(forge.root / "org/gone")
    declared = forge.declare("gitea://org/a", "gitea://org/b", "scheduler", "gitea://org/b/none")
    problems = await install_declared(declared, plugins)
    assert len(problems) == 3
    assert problems[0].startswith("source 3 of MOLECULE_DECLARED_PLUGINS is not used: only gitea://")
    assert problems[1].startswith("plugin a: git fetch failed")
    assert problems[1].endswith("the one of before is used")
    assert "has no directory none" in problems[2]
    assert (plugins / "a/x.md").read_text() == "a"
    assert (plugins / "b/x.md").read_text() == "b"
    assert not list(plugins.glob(".staging*"))


async def test_what_others_put_there_is_never_replaced_or_removed(forge: Forge, tmp_path: Path) -> None:
    plugins = write(tmp_path / "plugins", {"a/x.md": "by the platform's own pipeline"})
    forge.commit("org/a", {"x.md": "declared"})
    assert await install_declared(forge.declare("gitea://org/a"), plugins) == []
    assert (plugins / "a/x.md").read_text() == "by the platform's own pipeline"
    assert await install_declared(forge.declare(), plugins) == []
    assert (plugins / "a").is_dir()


async def test_a_setup_script_runs_without_secrets_and_may_fail(forge: Forge, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    forge.commit("org/a", {"x.md": "a", "setup.sh": 'env >environment; echo "out"; exit 3\n'})
    assert await install_declared(forge.declare("gitea://org/a"), plugins) == []
    environment = (plugins / "a/environment").read_text()
    assert "PATH=" in environment
    assert "hidden" not in environment


async def test_a_directory_that_cannot_be_written_is_said(forge: Forge, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (problem,) = await install_declared(forge.declare("gitea://org/a"), tmp_path / "file/plugins")
    assert "no declared plugin is installed" in problem


async def test_a_forge_that_says_nothing_is_given_up(
    forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        env = forge.declare("gitea://org/a")
        env["GIT_CONFIG_KEY_0"] = f"url.http://127.0.0.1:{port}/.insteadOf"
        env["MOLECULE_PLUGIN_FETCH_TIMEOUT"] = "1"
        (problem,) = await install_declared(env, tmp_path / "plugins")
        released.set()
    assert problem == "plugin a: it could not be fetched in time"
