"""What the adapter finds in its runtime, and what it does where it finds nothing."""

from __future__ import annotations

import ast
import asyncio
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import structlog

import runtime_hooks
from molecule_runtime import configs_dir, platform_auth, wedge
from molecule_runtime.platform import PlatformClient
from platform_api import PlatformApi, platform_url
from support.watchdog import APP
from system_prompt import build_system_prompt

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

_BASE = "molecule_runtime.adapters.base"
_PUBLIC = {"AdapterConfig", "BaseAdapter", "RuntimeCapabilities"}


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], Any]:
    """Another runtime: what is put in here is all that it offers."""
    offers: dict[tuple[str, str], Any] = {}
    monkeypatch.setattr(runtime_hooks, "_offered", lambda module, name: offers.get((module, name)))
    return offers


def _imports(tree: ast.AST) -> set[tuple[str, str]]:
    """Module and name of everything that is imported when the program runs."""
    found = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.ImportFrom):
            found |= {(node.module or "", alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        pending.extend(ast.iter_child_nodes(node))
    return found


def test_the_application_imports_nothing_of_the_runtime_but_the_public_base() -> None:
    """The platform's own runtime has none of the bundled one's other modules."""
    files = [*APP.glob("*.py"), *(APP.parent / "bin").glob("*.py")]
    used = {found for file in files for found in _imports(ast.parse(file.read_text()))}
    of_the_runtime = {(module, name) for module, name in used if module.startswith("molecule_runtime")}
    assert of_the_runtime == {(_BASE, name) for name in _PUBLIC}


# -- the bundled runtime is used where it has something ------------------------------------------------------


def test_the_directory_is_the_runtimes_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIGS_DIR", str(tmp_path / "made"))
    assert runtime_hooks.configs_dir() == configs_dir.resolve()


def test_a_call_is_signed_with_the_token_that_the_runtime_has_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFIGS_DIR", str(tmp_path))
    platform_auth.refresh_cache()
    platform_auth.save_token("t-1")
    api = runtime_hooks.platform_api({"PLATFORM_URL": "http://p", "MOLECULE_ORG_ID": "o"}, "ws-1")
    assert api is not None
    assert api.headers() == {"Authorization": "Bearer t-1", "X-Molecule-Org-Id": "o"}
    platform_auth.save_token("t-2")
    assert api.headers()["Authorization"] == "Bearer t-2"


async def test_the_runtimes_client_is_the_one_that_registers() -> None:
    api = PlatformApi("http://p", "ws-1", dict)
    own = PlatformClient("http://p", "ws-1", registration=lambda: {"id": "ws-1"})
    for client, registers in ((own, True), (None, False)):
        made = runtime_hooks.secrets_client(api, {}, SimpleNamespace(client=client))
        assert isinstance(made, PlatformClient)
        assert (made.registration is not None) == registers
        await made.aclose()
    await own.aclose()


def test_a_codex_that_never_starts_wedges_the_workspace_and_one_that_does_frees_it() -> None:
    runtime_hooks.agent_failing(2, "x")
    assert not wedge.is_wedged()
    runtime_hooks.agent_failing(3, "x")
    assert wedge.wedge_reason() == "codex does not start: x"
    runtime_hooks.agent_started(1)
    assert not wedge.is_wedged()


# -- another runtime -----------------------------------------------------------------------------------------


def test_without_a_runtimes_help_the_directory_is_found_in_the_documented_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: dict[tuple[str, str], Any]
) -> None:
    home, mounted = tmp_path / "home", tmp_path / "configs"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(runtime_hooks, "_CONFIGS", mounted)
    monkeypatch.delenv("CONFIGS_DIR", raising=False)
    assert runtime_hooks.configs_dir() == home / ".molecule-workspace"
    assert stat.S_IMODE((home / ".molecule-workspace").stat().st_mode) == 0o700
    mounted.mkdir()
    assert runtime_hooks.configs_dir() == mounted
    monkeypatch.setenv("CONFIGS_DIR", str(tmp_path / "mine"))
    assert runtime_hooks.configs_dir() == tmp_path / "mine"
    assert (tmp_path / "mine").is_dir()


def test_without_a_runtimes_help_the_token_is_read_from_its_file_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: dict[tuple[str, str], Any]
) -> None:
    monkeypatch.setenv("CONFIGS_DIR", str(tmp_path))
    assert runtime_hooks.auth_headers() == {}
    for token in ("t-1", "t-2"):
        (tmp_path / ".auth_token").write_text(f"{token}\n")
        assert runtime_hooks.auth_headers() == {"Authorization": f"Bearer {token}"}


async def test_without_a_runtimes_client_the_secrets_are_asked_for_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: dict[tuple[str, str], Any]
) -> None:
    monkeypatch.setenv("CONFIGS_DIR", str(tmp_path))
    (tmp_path / ".auth_token").write_text("t-1")
    asked: list[httpx.Request] = []

    def platform(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"CODEX_AUTH_JSON": "{}", "odd": 3})

    api = runtime_hooks.platform_api({"MOLECULE_ORG_ID": "o"}, "ws-1", "http://p/")
    assert api is not None
    api = PlatformApi(api.base_url, api.workspace_id, api.headers, httpx.MockTransport(platform))
    client = runtime_hooks.secrets_client(api, {}, heartbeat=object())
    assert await client.secrets() == {"CODEX_AUTH_JSON": "{}"}
    assert str(asked[0].url) == "http://p/workspaces/ws-1/secrets/values"
    assert asked[0].headers["authorization"] == "Bearer t-1"
    assert asked[0].headers["x-molecule-org-id"] == "o"
    await client.aclose()


@pytest.mark.parametrize("answer", [httpx.Response(401), httpx.Response(200, json=["no", "names"])])
async def test_secrets_that_cannot_be_had_are_an_error(answer: httpx.Response) -> None:
    api = PlatformApi("http://p", "ws-1", dict, httpx.MockTransport(lambda _request: answer))
    with pytest.raises((httpx.HTTPStatusError, ValueError)):
        await api.secrets()


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-0123456789abcdefABCDEF",
        "rt_0123456789abcdef.GHIJ",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.x",
        "ghp_0123456789abcdefABCDEF",
        "Bearer 0123456789abcdef",
        "user:pass-word@",
    ],
)
def test_without_a_runtimes_help_what_looks_like_a_key_is_masked(
    runtime: dict[tuple[str, str], Any], secret: str
) -> None:
    text = f"https://{secret}host refused" if secret.endswith("@") else f"refused: {secret}, try again"
    masked = runtime_hooks.without_secrets(text)
    assert secret not in masked
    assert "[redacted]" in masked
    assert "refused" in masked


def test_words_are_no_keys(runtime: dict[tuple[str, str], Any]) -> None:
    text = "risk-free disk-based task-oriented codex at https://host/path, bearer of news"
    assert runtime_hooks.without_secrets(text) == text


def test_what_no_runtime_offers_has_no_effect(runtime: dict[tuple[str, str], Any]) -> None:
    assert runtime_hooks.delegation_results() == ""
    runtime_hooks.agent_started(2)
    runtime_hooks.agent_failing(9, "x")
    runtime_hooks.queue_changed(1)


def test_the_platforms_own_runtime_keeps_the_same_flag_under_another_name(
    runtime: dict[tuple[str, str], Any],
) -> None:
    said: list[str] = []
    runtime["runtime_wedge", "mark_wedged"] = said.append
    runtime["runtime_wedge", "clear_wedge"] = lambda: said.append("")
    runtime_hooks.agent_failing(3, "x")
    runtime_hooks.agent_started(1)
    assert said == ["codex does not start: x", ""]


def test_a_module_of_the_runtime_that_cannot_be_imported_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_feature.py").write_text("raise RuntimeError('no')\n")
    import molecule_runtime

    monkeypatch.setattr(molecule_runtime, "__path__", [*molecule_runtime.__path__, str(tmp_path)])
    assert runtime_hooks._offered("broken_feature", "anything") is None
    assert runtime_hooks._offered("not_there.at_all", "anything") is None
    assert runtime_hooks._offered("configs_dir", "not_there") is None


def test_a_tool_bumps_the_file_that_the_runtime_looks_at_and_never_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B-36: a long turn that works with tools is alive."""
    monkeypatch.delenv("MOLECULE_TOOL_ACTIVITY_FILE", raising=False)
    runtime_hooks.tool_active()
    path = tmp_path / "activity"
    monkeypatch.setenv("MOLECULE_TOOL_ACTIVITY_FILE", str(path))
    runtime_hooks.tool_active()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    os.utime(path, (1, 1))
    runtime_hooks.tool_active()
    assert path.stat().st_mtime > 1
    monkeypatch.setenv("MOLECULE_TOOL_ACTIVITY_FILE", str(tmp_path / "missing" / "activity"))
    runtime_hooks.tool_active()


def test_a_log_that_nobody_has_set_up_is_short_and_has_no_secrets(
    capsys: pytest.CaptureFixture[str], runtime: dict[tuple[str, str], Any]
) -> None:
    before = structlog.get_config() if structlog.is_configured() else None
    structlog.reset_defaults()
    try:
        runtime_hooks.configure_log("warning")
        log = structlog.get_logger()
        log.info("not said")
        log.warning("said", key="sk-0123456789abcdefABCDEF", number=3)
        runtime_hooks.configure_log("debug")
        log.debug("not said either: it is set up")
    finally:
        structlog.reset_defaults()
        if before is not None:
            structlog.configure(**before)
    said = capsys.readouterr().err
    assert "said" in said
    assert "number=3" in said
    assert "[redacted]" in said
    assert "sk-0123456789abcdefABCDEF" not in said
    assert "not said" not in said


# -- turns ---------------------------------------------------------------------------------------------------


def _reporter(
    runtime: dict[tuple[str, str], Any], heartbeat: object
) -> tuple[Callable[[str], None], list[str], asyncio.Event]:
    sent: list[str] = []
    gate = asyncio.Event()

    async def set_current_task(_heartbeat: object, task: str) -> None:
        await gate.wait()
        sent.append(task)
        if task == "fails":
            raise RuntimeError("no")

    runtime["executor_helpers", "set_current_task"] = set_current_task
    return runtime_hooks.reporter_of_turns(heartbeat), sent, gate


async def test_turns_are_reported_one_after_another_and_nobody_waits_for_it(
    runtime: dict[tuple[str, str], Any],
) -> None:
    report, sent, gate = _reporter(runtime, SimpleNamespace(active_tasks=0))
    for about in ("one", "fails", "sk-0123456789abcdefABCDEF", ""):
        report(about)
    assert sent == []
    gate.set()
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == "report of a turn"]
    await asyncio.gather(*tasks)
    assert sent == ["one", "fails", "[redacted]", ""]


@pytest.mark.parametrize("heartbeat", [None, SimpleNamespace(turn_started=lambda: None)])
async def test_a_runtime_that_counts_turns_itself_is_told_nothing(
    runtime: dict[tuple[str, str], Any], heartbeat: object
) -> None:
    report, _sent, _gate = _reporter(runtime, heartbeat)
    report("one")
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "report of a turn"]


# -- instructions --------------------------------------------------------------------------------------------


async def test_the_instructions_are_the_ones_that_the_runtime_hands_over(tmp_path: Path) -> None:
    (tmp_path / "system-prompt.md").write_text("not these")
    config: Any = SimpleNamespace(system_prompt="These.")
    assert await build_system_prompt(SimpleNamespace(), config, tmp_path) == "These."  # type: ignore[arg-type]


@pytest.mark.parametrize("published", [True, False])
async def test_the_runtimes_common_setup_builds_them(tmp_path: Path, published: bool) -> None:
    """Newer runtimes leave them in the configuration, older ones return them alone."""
    config: Any = SimpleNamespace(system_prompt=None)

    async def common_setup(given: Any) -> object:
        if published:
            given.system_prompt = "Built."
        return SimpleNamespace(system_prompt="Built.", loaded_skills=["a skill"])

    adapter: Any = SimpleNamespace(_common_setup=common_setup)
    assert await build_system_prompt(adapter, config, tmp_path) == "Built."
    assert adapter.loaded_skills == ["a skill"]


async def test_without_it_they_are_the_prompt_files(tmp_path: Path) -> None:
    adapter: Any = SimpleNamespace()
    assert await build_system_prompt(adapter, SimpleNamespace(), tmp_path) is None  # type: ignore[arg-type]
    (tmp_path / "system-prompt.md").write_text("One.\n")
    assert await build_system_prompt(adapter, SimpleNamespace(), tmp_path) == "One."  # type: ignore[arg-type]
    (tmp_path / "b.md").write_text("Two.\n")
    (tmp_path / "broken.md").write_bytes(b"\xff")
    config: Any = SimpleNamespace(prompt_files=["b.md", "missing.md", "broken.md", "system-prompt.md"])
    assert await build_system_prompt(adapter, config, tmp_path) == "Two.\n\nOne."


# -- the platform's address ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "url"),
    [("off", None), ("NONE", None), ("http://p:1/", "http://p:1"), (" https://p ", "https://p")],
)
def test_the_platforms_address_is_taken_as_it_is_given(given: str, url: str | None) -> None:
    assert platform_url({"PLATFORM_URL": given}) == url


def test_the_platforms_address_has_one_default_in_a_container_and_one_outside() -> None:
    assert platform_url({"DOCKER_VERSION": "1"}) == "http://host.docker.internal:8080"
    outside = "host.docker.internal" if Path("/.dockerenv").exists() else "localhost"
    assert platform_url({}) == f"http://{outside}:8080"


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="PLATFORM_URL is 'ftp://p'"):
        platform_url({"PLATFORM_URL": "ftp://p"})
