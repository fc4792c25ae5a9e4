"""The codex adapter: `ADAPTER_MODULE=adapter` loads `Adapter` from here (PLATFORM.md 8).

`setup` decides (provider, model, credential) and writes codex's configuration; whatever is wrong stops it
with one sentence, which the runtime serves. `create_executor` starts codex.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from activity import Activity
from attachments import Attachments
from auth_follow import Follower, is_follower, must_follow, sync_interval
from auth_json import tokens_in
from budgets import read_budgets
from child_environment import child_environment
from codex import Codex, CodexSettings
from codex_binary import find_codex
from codex_config import codex_home
from codex_setup import Prepared, configure
from conversation import Limits
from credentials import environment
from executor import CodexExecutor
from metering import Meter
from molecule_runtime.adapters.base import AdapterConfig, BaseAdapter, RuntimeCapabilities
from plugin_parts import install_skills, write_servers
from prices import read_prices
from provider_config import Selection, last_refresh
from rollout import find_rollout, read_lines
from runtime_hooks import (
    SecretsClient,
    activity_writer,
    agent_failing,
    agent_started,
    bearer,
    configs_dir,
    configure_log,
    delegation_results,
    health,
    platform_api,
    reporter_of_turns,
    secrets_client,
    spending_told_by,
)
from secret_values import SecretValues
from system_prompt import build_system_prompt
from thread_store import ThreadStore
from token_desk import NO_DESK, TokenDesk
from usage_ledger import UsageLedger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from a2a.server.agent_execution import AgentExecutor

    from molecule_runtime.adapters.base import AdapterHealth

__all__ = ["Adapter", "CodexAdapter"]

log = structlog.get_logger(__name__)

_WORKSPACE: Final = Path("/workspace")
_THREADS: Final = ".codex_threads.json"
_USAGE: Final = ".codex_usage.jsonl"


class CodexAdapter(BaseAdapter):
    """Runs the OpenAI Codex CLI as the agent of a workspace."""

    def __init__(self) -> None:
        self._prepared: Prepared | None = None
        self._codex_executor: CodexExecutor | None = None
        self._threads: ThreadStore | None = None
        self._following: asyncio.Task[None] | None = None
        self._desk: TokenDesk | None = None
        self._secrets: SecretsClient | None = None
        self._activity: Activity | None = None
        self._instructions: str | None = None
        self._ledger: UsageLedger | None = None
        self._meter: Meter | None = None

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
    def environment() -> Mapping[str, str]:
        """The process's variables with the credentials, which came in a file in memory."""
        return environment()

    @staticmethod
    def get_config_schema() -> dict[str, Any]:
        """JSON schema of `runtime_config`."""
        text = {"type": "string"}
        return {"type": "object", "properties": {"model": text, "provider": text}}

    @staticmethod
    def is_set(variable: str) -> bool:
        """Whether the agent has it: what the entry point handed over is in no environment."""
        return bool(environment().get(variable, "").strip())

    def capabilities(self) -> RuntimeCapabilities:
        """codex keeps the session by itself."""
        return RuntimeCapabilities(provides_native_session=True)

    def idle_timeout_override(self) -> int | None:
        """The platform must not give a turn up before we do."""
        return int(self._prepared.config.bridge.turn_seconds) + 60 if self._prepared is not None else None

    async def setup(self, config: AdapterConfig) -> None:
        """Choose provider and model, and write codex's configuration.

        A follower fetches its tokens first: they may be the only credential there is.

        Raises ConfigFileError, ProviderError, AuthJsonError, ConfigTomlError or OSError, each a sentence that
        says what to change.
        """
        env = environment()
        configure_log(env.get("LOG_LEVEL", ""))
        if must_follow(env, home := codex_home(env)):
            await self._follow(env, config, home)
        directory = _config_path(config, env)
        self._prepared = configure(env, directory)
        # Only the bundled runtime hands them over; another one may have written its own.
        if (servers := getattr(config, "mcp_servers", None)) is not None:
            await asyncio.to_thread(write_servers, self._prepared.home, servers)
        if (skills := getattr(config, "skills", None)) is not None:
            await asyncio.to_thread(install_skills, self._prepared.home, skills)
        # After the configuration: the runtime may add the MCP servers of its plugins to it.
        self._instructions = await build_system_prompt(self, config, directory)

    async def create_executor(self, config: AdapterConfig) -> AgentExecutor:
        """Start codex and put the executor before it. Raises InvalidConfigError and LoginError of codex."""
        if self._prepared is None:
            raise RuntimeError("setup comes before create_executor")
        workspace, selection, home = self._prepared.config, self._prepared.selection, self._prepared.home
        bridge, env = workspace.bridge, environment()
        cwd = _WORKSPACE if _WORKSPACE.is_dir() else Path.home()
        self._threads = ThreadStore(configs_dir() / _THREADS)
        self._ledger = UsageLedger(configs_dir() / _USAGE)
        await asyncio.to_thread(self._ledger.load)
        self._meter = Meter(
            self._ledger,
            read_prices(workspace.prices),
            read_budgets(workspace.budgets, env),
            model=selection.model,
        )
        api = platform_api(env, _workspace_id(config, env))
        heartbeat = getattr(config, "heartbeat", None)
        secrets = SecretValues(env, [name for one in workspace.providers for name in one.auth_env], bearer)
        report = reporter_of_turns(heartbeat)
        if api is not None:
            write = activity_writer(api, heartbeat)
            redact, silent = secrets.taken_out_of, bridge.activity_seconds
            self._activity = Activity(write, api.workspace_id, redact, silent=silent)
        activity = self._activity

        def on_turn(about: str) -> None:
            report(about)
            if activity is not None:
                activity.turn(about)

        codex = Codex(
            CodexSettings(
                command=[str(find_codex(bridge.app_server_command)), *bridge.app_server_args],
                cwd=cwd,
                env={
                    **child_environment(env, selection, workspace.providers, codex_home=str(home)),
                    **((self._desk.environment if self._desk else NO_DESK) if is_follower(env) else {}),
                },
                model=selection.model,
                model_provider="openai" if selection.provider.built_in else selection.provider.slug,
                endpoint=self._prepared.endpoint,
                sandbox=bridge.sandbox,
                developer_instructions=self._instructions,
                api_key=_api_key(selection, env),
                max_line=bridge.max_line_bytes,
            ),
            self._threads,
            meter=self._meter,
            on_start=agent_started,
            on_failing=agent_failing,
            on_item=activity.tool if activity is not None else lambda _item: None,
        )
        executor = CodexExecutor(
            codex,
            Attachments(cwd, api),
            limits=Limits(
                inactivity=bridge.inactivity_seconds, total=bridge.turn_seconds, mid_turn=bridge.mid_turn
            ),
            threads=bridge.threads,
            preamble=delegation_results,
            closed=self._meter.closed,
            on_turn=on_turn,
            redact=secrets.taken_out_of,
        )
        self._meter.when_closed(executor.budget_closed)
        spending_told_by(self._meter)
        try:
            await codex.start()
        except BaseException:
            await executor.close()
            raise
        self._executor = self._codex_executor = executor
        return executor

    async def _follow(self, env: Mapping[str, str], config: AdapterConfig, home: Path) -> None:
        """Fetch the tokens that another workspace keeps fresh, now and from now on.

        In the cloud a new workspace has no token of the platform before it has registered, which the runtime
        does later. So the client for this may register too, where the runtime says with what.
        """
        server = env.get("WORKSPACE_SERVER_URL", "").strip()
        api = platform_api(env, _workspace_id(config, env), server)
        if api is None:
            log.warning("auth.not_synced", reason="CODEX_AUTH_REFRESH_OWNER is 0, and PLATFORM_URL is off")
            return
        self._secrets = secrets_client(api, env, getattr(config, "heartbeat", None))
        follower = Follower(home, self._secrets.secrets, interval=sync_interval(env))
        await follower.now()
        self._desk = TokenDesk(lambda: tokens_in(home), follower.now)
        await self._desk.open()
        self._following = asyncio.create_task(follower.run(), name="follower of the account")

    def health(self) -> AdapterHealth:
        """Whether the child is alive and its configuration readable."""
        if self._codex_executor is None:
            return health(ready=False, detail="codex has not been started yet")
        problem = self._codex_executor.problem
        note = self._meter.note() if self._meter is not None else ""
        return health(ready=not problem, detail=problem or note)

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
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self._desk is not None:
            await self._desk.aclose()
        if self._secrets is not None:
            await self._secrets.aclose()
        if self._codex_executor is not None:
            await self._codex_executor.close()
        if self._ledger is not None:
            await self._ledger.close()
        if self._activity is not None:
            await self._activity.close()


Adapter = CodexAdapter


def _api_key(selection: Selection, env: Mapping[str, str]) -> str | None:
    """The key that codex has to be logged in with: the built-in provider takes none from the environment."""
    if selection.provider.auth_mode != "openai_api" or selection.credential is None:
        return None
    return env[selection.credential].strip()


def _config_path(config: AdapterConfig, env: Mapping[str, str]) -> Path:
    """The directory of config.yaml. What a runtime's AdapterConfig does not say, the environment does."""
    return Path(getattr(config, "config_path", "") or env.get("WORKSPACE_CONFIG_PATH") or "/configs")


def _workspace_id(config: AdapterConfig, env: Mapping[str, str]) -> str:
    return getattr(config, "workspace_id", "") or env.get("WORKSPACE_ID", "")
