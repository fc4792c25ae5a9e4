"""The codex adapter: `ADAPTER_MODULE=adapter` loads `Adapter` from here (PLATFORM.md 8).

`setup` decides (provider, model, credential) and writes codex's configuration; whatever is wrong stops it
with one sentence, which the runtime serves. `create_executor` starts codex.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from attachments import Attachments, PlatformFiles
from child_environment import child_environment
from codex import Codex, CodexSettings
from codex_binary import find_codex
from codex_config import CodexConfig, McpServer, codex_home, write_config_toml
from conversation import Limits
from executor import CodexExecutor
from molecule_runtime import configs_dir, platform_auth
from molecule_runtime.adapters.base import AdapterConfig, BaseAdapter, RuntimeCapabilities
from molecule_runtime.executor_helpers import read_delegation_results
from provider_config import ProviderError, Selection, last_refresh, missing_credential, resolve_provider
from rollout import find_rollout, read_lines
from runtime_hooks import agent_failing, agent_started
from thread_store import ThreadStore
from workspace_config import WorkspaceConfig, load_workspace_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from a2a.server.agent_execution import AgentExecutor

    from molecule_runtime.adapters.base import AdapterHealth

__all__ = ["Adapter", "CodexAdapter", "molecule_mcp_server"]

log = structlog.get_logger(__name__)

_WORKSPACE: Final = Path("/workspace")
_THREADS: Final = ".codex_threads.json"
_MCP_MODULE: Final = "molecule_runtime.a2a_mcp_server"
_MCP_ENV: Final = ("WORKSPACE_ID", "PLATFORM_URL", "MOLECULE_ORG_ID", "WORKSPACE_CONFIG_PATH")
_MCP_ENV_VARS: Final = ("PYTHONPATH", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True)
class _Prepared:
    config: WorkspaceConfig
    selection: Selection
    home: Path


class CodexAdapter(BaseAdapter):
    """Runs the OpenAI Codex CLI as the agent of a workspace."""

    def __init__(self) -> None:
        self._prepared: _Prepared | None = None
        self._codex_executor: CodexExecutor | None = None
        self._threads: ThreadStore | None = None

    @staticmethod
    def name() -> str:
        """`codex`, as in `runtime:` of config.yaml."""
        return "codex"

    @staticmethod
    def display_name() -> str:
        """The name that people read."""
        return "OpenAI Codex CLI"

    @staticmethod
    def description() -> str:
        """One sentence about the agent."""
        return "OpenAI Codex CLI behind A2A: answers stream, conversations outlive restarts."

    @staticmethod
    def get_config_schema() -> dict[str, Any]:
        """JSON schema of `runtime_config`."""
        text = {"type": "string"}
        return {"type": "object", "properties": {"model": text, "provider": text}}

    def capabilities(self) -> RuntimeCapabilities:
        """codex keeps the session by itself."""
        return RuntimeCapabilities(provides_native_session=True)

    def idle_timeout_override(self) -> int | None:
        """The platform must not give a turn up before we do."""
        return int(self._prepared.config.bridge.turn_seconds) + 60 if self._prepared is not None else None

    async def setup(self, config: AdapterConfig) -> None:
        """Choose provider and model, and write codex's configuration.

        Raises ConfigFileError, ProviderError, ConfigTomlError, CodexNotFoundError or OSError, each a sentence
        that says what to change.
        """
        env = os.environ
        workspace = load_workspace_config(Path(config.config_path))
        home = codex_home(env)
        selection = resolve_provider(workspace, env, codex_home=home)
        if problem := missing_credential(selection, workspace.providers):
            raise ProviderError(problem)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        mcp = molecule_mcp_server(env, configs_dir.resolve())
        changed = write_config_toml(
            home,
            CodexConfig(
                selection=selection,
                sandbox=workspace.bridge.sandbox,
                mcp_servers=[mcp] if mcp is not None else [],
                secret_variables=[name for one in workspace.providers for name in one.auth_env],
            ),
        )
        log.info(
            "codex.configured",
            provider=selection.provider.name,
            model=selection.model,
            credential=selection.credential,
            config_changed=changed,
        )
        self._prepared = _Prepared(workspace, selection, home)

    async def create_executor(self, config: AdapterConfig) -> AgentExecutor:
        """Start codex and put the executor before it. Raises InvalidConfigError and LoginError of codex."""
        if self._prepared is None:
            raise RuntimeError("setup comes before create_executor")
        workspace, selection, home = self._prepared.config, self._prepared.selection, self._prepared.home
        bridge = workspace.bridge
        cwd = _WORKSPACE if _WORKSPACE.is_dir() else Path.home()
        self._threads = ThreadStore(configs_dir.resolve() / _THREADS)
        codex = Codex(
            CodexSettings(
                command=[str(find_codex(bridge.app_server_command)), *bridge.app_server_args],
                cwd=cwd,
                env=child_environment(os.environ, selection, workspace.providers, codex_home=str(home)),
                model=selection.model,
                sandbox=bridge.sandbox,
                developer_instructions=config.system_prompt,
                api_key=_api_key(selection),
                max_line=bridge.max_line_bytes,
            ),
            self._threads,
            on_start=agent_started,
            on_failing=agent_failing,
        )
        executor = CodexExecutor(
            codex,
            Attachments(cwd, _platform_files(os.environ, config.workspace_id)),
            limits=Limits(
                inactivity=bridge.inactivity_seconds, total=bridge.turn_seconds, mid_turn=bridge.mid_turn
            ),
            threads=bridge.threads,
            preamble=read_delegation_results,
        )
        try:
            await codex.start()
        except BaseException:
            await executor.close()
            raise
        self._executor = self._codex_executor = executor
        return executor

    def health(self) -> AdapterHealth:
        """Whether the child is alive and its configuration readable."""
        from molecule_runtime.adapters.base import AdapterHealth  # noqa: PLC0415 (only the bundled runtime asks)

        if self._codex_executor is None:
            return AdapterHealth(ready=False, detail="codex has not been started yet")
        problem = self._codex_executor.problem
        return AdapterHealth(ready=not problem, detail=problem)

    async def transcript_lines(self, since: int = 0, limit: int = 100) -> dict[str, Any]:
        """The rollout of the shared conversation. Raises OSError."""
        thread_id = self._threads.latest() if self._threads is not None else None
        path = find_rollout(self._prepared.home, thread_id) if self._prepared and thread_id else None
        lines, more = read_lines(path, since, limit) if path is not None else ([], False)
        return {
            "runtime": self.name(),
            "supported": True,
            "lines": lines,
            "cursor": since + len(lines),
            "more": more,
            "source": str(path) if path is not None else None,
        }

    def credential_issued_at(self) -> float | None:
        """When the subscription's tokens were last refreshed (Unix time); None for other credentials."""
        if self._prepared is None or self._prepared.selection.provider.auth_mode != "chatgpt_subscription":
            return None
        return last_refresh(self._prepared.home)

    async def close(self) -> None:
        """Interrupt the turn and end codex."""
        if self._codex_executor is not None:
            await self._codex_executor.close()


Adapter = CodexAdapter


def molecule_mcp_server(env: Mapping[str, str], configs: Path) -> McpServer | None:
    """The platform's tools for codex; None where the runtime has no such server.

    codex gives its MCP children next to nothing of its environment, so everything is literal, the directory
    as it was resolved here: the child must read the same token as the runtime (PLATFORM.md B-1). No value is
    a secret.
    """
    if importlib.util.find_spec(_MCP_MODULE) is None:
        return None
    return McpServer(
        name="molecule",
        command=sys.executable,
        args=("-m", _MCP_MODULE),
        env={"CONFIGS_DIR": str(configs), **{name: env[name] for name in _MCP_ENV if env.get(name)}},
        env_vars=_MCP_ENV_VARS,
    )


def _api_key(selection: Selection) -> str | None:
    """The key that codex has to be logged in with: the built-in provider takes none from the environment."""
    if selection.provider.auth_mode != "openai_api" or selection.credential is None:
        return None
    return os.environ[selection.credential].strip()


def _platform_files(env: Mapping[str, str], workspace_id: str) -> PlatformFiles | None:
    base_url = env.get("PLATFORM_URL", "").strip()
    if not base_url.startswith(("http://", "https://")) or not workspace_id:
        return None
    organisation = env.get("MOLECULE_ORG_ID", "")

    def headers() -> dict[str, str]:
        routing = {"X-Molecule-Org-Id": organisation} if organisation else {}
        return {**platform_auth.auth_headers(), **routing}

    return PlatformFiles(base_url, workspace_id, headers)
