"""A workspace's life: prepare, serve, stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from config_document import NotTextError, read_text
from config_document.typed import told
from molecule_runtime import __version__, configs_dir, logs, metrics, orphans
from molecule_runtime.access import OWN_TOKEN, Access, own_names
from molecule_runtime.adapters.base import AdapterConfig, BaseAdapter
from molecule_runtime.cards import build_card, registered_card
from molecule_runtime.config import ConfigFileError, WorkspaceConfig, load
from molecule_runtime.delegations import DelegationWatch, unread_results
from molecule_runtime.executor_helpers import sanitize_agent_error
from molecule_runtime.files import write_atomic
from molecule_runtime.heartbeat import Heartbeat
from molecule_runtime.initial_prompt import SelfPrompts
from molecule_runtime.mcp_tools import TOOLS
from molecule_runtime.network import NetworkError
from molecule_runtime.platform import PlatformClient
from molecule_runtime.plugin_sources import install_declared
from molecule_runtime.plugins import Plugins, load_plugins
from molecule_runtime.preflight import check, image_config_path
from molecule_runtime.prompt import Prompt, build_prompt, read_notes
from molecule_runtime.rbac import allowed_actions
from molecule_runtime.server import Workspace, build_app
from molecule_runtime.service_manager import ServiceManager
from molecule_runtime.turns import TurnExecutor

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine, Generator

    from starlette.applications import Starlette

    from molecule_runtime.environment import Environment

__all__ = ["Boot"]

_log = logs.get_logger(__name__)

SNAPSHOT = ".agent_snapshot.json"
_STEP_SECONDS = 0.8
_CLOSE_SECONDS = 5.0
_DEFAULT_PROMPT = "system-prompt.md"
_NOTES = Path("/workspace/.molecule/memory")


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: a signal must first end the turns, then the connections."""

    def __init__(self, config: uvicorn.Config, bound: asyncio.Event) -> None:
        super().__init__(config)
        self._bound = bound

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell those who wait for the port."""
        await super().startup(sockets)
        self._bound.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class Boot:
    """The parts of one workspace, in the order in which they come up and go down."""

    def __init__(self, env: Environment) -> None:
        self.env = env
        self.config = WorkspaceConfig()
        self.problem = ""
        self.adapter: BaseAdapter | None = None
        self.executor: TurnExecutor | None = None
        self.client: PlatformClient | None = None
        self.heartbeat: Heartbeat | None = None
        self.workspace: Workspace | None = None
        self.app: Starlette | None = None
        self.prompt = Prompt()
        self._started = time.monotonic()
        self._bound = asyncio.Event()
        self._manager = ServiceManager()

    @property
    def port(self) -> int:
        """The port to serve on."""
        return self.config.a2a.port

    @property
    def url(self) -> str:
        """The URL by which the platform reaches this workspace."""
        return self.env.external_url(self.port)

    async def prepare_unless(self, stop: asyncio.Event) -> bool:
        """`prepare`, given up as soon as `stop` is set. Returns whether it was finished."""
        preparing = asyncio.create_task(self.prepare())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({preparing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if preparing.done():
            await preparing
            return True
        _log.info("stopping before the agent was set up")
        preparing.cancel()
        await asyncio.gather(preparing, return_exceptions=True)
        await self._close_adapter()
        return False

    async def prepare(self) -> None:
        """Read, check and set up everything but the port. What fails becomes `problem`; nothing is raised."""
        env = self.env
        adapter_class = self._load()
        if env.problem:
            self.problem = self.problem or env.problem
            _log.error(f"[FAIL] {env.problem}; correct it and restart")
        _log.info(
            "workspace",
            id=env.workspace_id,
            platform=env.platform_url or "none",
            configs=str(configs_dir.resolve()),
            adapter=env.adapter_module,
            model=self.config.effective_model,
        )
        self._connect_platform()
        if adapter_class is not None and not self.problem:
            try:
                await self._set_up(adapter_class())
            except Exception as error:  # noqa: BLE001 (an adapter may raise anything; it is served, not fatal)
                self.problem = sanitize_agent_error(error)
                _log.error(f"[FAIL] the agent cannot be set up: {self.problem}", kind=type(error).__name__)
                await self._close_adapter()
                self.adapter = self.executor = None
        access = self._access(adapter_class)
        modes = self.adapter.input_modes() if self.adapter else ("text/plain",)
        self.workspace = Workspace(
            card=build_card(self.config, self.url, modes, bearer=access.required),
            card_url_is_fixed=bool(self.env.workspace_url),
            adapter=self.adapter,
            executor=self.executor,
            problem=self.problem,
            has_platform=self.client is not None,
            access=access,
            prompt=self.prompt.shown,
        )
        self.app = build_app(self.workspace)

    def _load(self) -> type[BaseAdapter] | None:
        env = self.env
        image = image_config_path(env.adapter_module)
        try:
            self.config = load(image, env.config_path, os.environ)
        except ConfigFileError as error:
            # The image's own serves the reason: it has the port that the platform asks.
            with contextlib.suppress(ConfigFileError):
                self.config = load(image, None, os.environ)
            self.problem = sanitize_agent_error(error)
        level = env.log_level or self.config.observability.log_level.upper() or "INFO"
        logs.configure(level if level in logs.LEVELS else "INFO", as_json=env.log_json)
        if level not in logs.LEVELS:
            _log.warning(
                f"[WARN] log level {level!r} is unknown, using INFO; allowed: {', '.join(logs.LEVELS)}"
            )
        if self.problem:
            _log.error(f"[FAIL] {self.problem}; correct the file and restart")
        report = check(self.config, env.adapter_module, env.config_path)
        told(self.config.warnings)
        for finding in report.findings:
            (_log.error if finding.level == "FAIL" else _log.warning)(str(finding))
        if report.failures and not self.problem:
            self.problem = sanitize_agent_error(str(report.failures[0]))
        return report.adapter

    def _access(self, adapter_class: type[BaseAdapter] | None) -> Access:
        """A bearer is asked for where one was given, or where the switch says so; else the port is open."""
        env = self.env
        try:
            variables = adapter_class.environment() if adapter_class is not None else os.environ
        except RuntimeError as error:
            # The adapter reads the same in its setup, which says what is wrong with it.
            _log.error("[FAIL] no token can be read, so POST / is closed", reason=sanitize_agent_error(error))
            return Access(required=True)
        token = variables.get(OWN_TOKEN, "").strip()
        access = Access(
            required=bool(token) if env.require_auth is None else env.require_auth,
            own_token=token,
            origins=env.a2a_origins,
            hosts=env.a2a_hosts | own_names([env.workspace_url], [env.hostname]),
        )
        if access.required:
            known = {OWN_TOKEN: bool(token), "the platform's inbound secret": env.platform_url is not None}
            admitted = [name for name, is_known in known.items() if is_known]
            _log.info("POST / asks for a bearer", of=" or ".join(admitted) or "nobody: none is known")
        return access

    def _connect_platform(self) -> None:
        if self.env.platform_url is None:
            return
        try:
            self.client = PlatformClient(
                self.env.platform_url, self.env.workspace_id, self.env.org_id, registration=self.registration
            )
        except NetworkError as error:
            self.problem = self.problem or f"the platform (PLATFORM_URL) cannot be asked: {error}"
            _log.error(f"[FAIL] {error}; correct it and restart")
            return
        watch = DelegationWatch(self.client)
        self.heartbeat = Heartbeat(
            self.client,
            interval=self.config.observability.heartbeat_interval,
            card=self.registered_card,
            after_beat=watch.look,
        )

    async def _set_up(self, adapter: BaseAdapter) -> None:
        self.adapter = adapter
        plugins = await self._plugins(adapter.name())
        self.prompt = await self._prompt(plugins)
        config = AdapterConfig(
            model=self.config.effective_model,
            system_prompt=self.prompt.text or None,
            tools=list(self.config.tools),
            runtime_config=dict(self.config.runtime_config),
            config_path=str(self.env.config_path),
            workspace_id=self.env.workspace_id,
            prompt_files=list(self.config.prompt_files),
            a2a_port=self.port,
            heartbeat=self.heartbeat,
            mcp_servers=plugins.servers,
            skills=plugins.skills,
        )
        await adapter.setup(config)
        if snapshot := _read_snapshot():
            await adapter.restore_state(snapshot)
        self.executor = TurnExecutor(await adapter.create_executor(config), self.heartbeat)
        if self.heartbeat is not None:
            self.heartbeat.adapter = adapter
        metrics.register_ages(adapter.credential_issued_at)

    async def _plugins(self, runtime: str) -> Plugins:
        """The plugins of this start. What is wrong with one is said, and stops nothing."""
        own = configs_dir.resolve() / "plugins"
        problems = await install_declared(os.environ, own)
        shared = Path(os.environ.get("PLUGINS_DIR") or "/plugins")
        found = await asyncio.to_thread(load_plugins, (own, shared), runtime)
        for problem in (*problems, *found.problems):
            _log.warning(f"[WARN] {problem}")
        if found.plugins:
            _log.info("plugins", names=[plugin.name for plugin in found.plugins])
        return found

    async def _prompt(self, plugins: Plugins) -> Prompt:
        configs = self.env.config_path
        names = self.config.prompt_files or [_DEFAULT_PROMPT]
        rights = allowed_actions(self.config.rbac)
        return await build_prompt(
            self.config,
            own=[text for name in names if (text := _read_prompt_file(configs / name))],
            notes=read_notes((_NOTES, configs), names, _read_note),
            plugins=plugins,
            client=self.client,
            tools=[tool for tool in TOOLS if not tool.right or tool.right in rights],
        )

    def registered_card(self) -> dict[str, Any]:
        """The card as the platform keeps it."""
        return registered_card(self.config, self.url, self.problem)

    def registration(self) -> dict[str, Any]:
        """The body of a registration. The mode is always sent: a row once set to poll stays so (B-42)."""
        return {
            "id": self.env.workspace_id,
            "url": self.url,
            "agent_card": self.registered_card(),
            "delivery_mode": self.env.delivery_mode or self.config.a2a.delivery_mode,
        }

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> bool:
        """Serve on `listener` until `stop` is set, then go down within 10 s. False if it ended by itself."""
        assert self.app is not None  # noqa: S101 (prepare() comes first)
        server = _Server(
            uvicorn.Config(
                self.app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            ),
            self._bound,
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        background = [
            asyncio.create_task(self._talk_to_platform()),
            asyncio.create_task(orphans.reap_for_ever()),
            asyncio.create_task(self._tell_when_bound()),
        ]
        seconds = round(time.monotonic() - self._started, 3)
        _log.info(
            "serving A2A", port=self.port, version=__version__, ready=not self.problem, after_seconds=seconds
        )
        try:
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
        finally:
            await self._stop(server, serving, background)
        return stop.is_set()

    async def _tell_when_bound(self) -> None:
        """A workspace that serves its problem is up too: people read it there."""
        await self._bound.wait()
        state = f"not ready: {self.problem}".splitlines()[0] if self.problem else "ready"
        self._manager.tell("READY=1", f"STATUS=serving A2A on port {self.port}, {state}")

    async def _talk_to_platform(self) -> None:
        if self.client is None or self.heartbeat is None:
            _log.info("no platform: PLATFORM_URL is off")
            return
        if await self.client.register():
            _log.info("registered with the platform", url=self.url)
        talks: list[Coroutine[Any, Any, object]] = [self.heartbeat.run()]
        if self.executor is not None:
            prompts = SelfPrompts(self.client, self.config, self.env.config_path)
            talks += [prompts.send_initial(self._bound), prompts.send_idle(self._is_idle)]
        for ended in await asyncio.gather(*talks, return_exceptions=True):
            if isinstance(ended, Exception):
                _log.error("a background task ended", reason=sanitize_agent_error(ended))

    def _is_idle(self) -> bool:
        return self.executor is not None and self.executor.active == 0 and not unread_results()

    async def _close_adapter(self) -> None:
        if self.adapter is not None:
            await _within(_CLOSE_SECONDS, self.adapter.close(), "close the agent")

    async def _stop(
        self, server: _Server, serving: asyncio.Task[None], background: list[asyncio.Task[None]]
    ) -> None:
        _log.info("stopping")
        self._manager.tell("STOPPING=1", "STATUS=ending the turns")
        if self.workspace is not None:
            self.workspace.stopping = True
        if self.adapter is not None:
            await _within(_STEP_SECONDS, _save_snapshot(self.adapter), "save the agent's state")
        if self.executor is not None:
            await self.executor.stop_all("The workspace was stopped before the turn ended. Send it again.")
        await self._close_adapter()
        if self.executor is not None:
            await _within(_STEP_SECONDS, self.executor.abandon_all(), "end the turns")
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        if self.client is not None and self.heartbeat is not None:
            # Or the platform would take the workspace for busy until its liveness runs out.
            await _within(
                _STEP_SECONDS, self.client.heartbeat(self.heartbeat.body()), "send a last heartbeat"
            )
        server.should_exit = True
        with contextlib.suppress(Exception):
            await serving
        if self.workspace is not None and self.workspace.handler is not None:
            await _within(_STEP_SECONDS, self.workspace.handler.aclose(), "end the tasks")
        if self.client is not None:
            await self.client.aclose()
        _log.info("stopped")


def _read_prompt_file(path: Path) -> str:
    """Its text, "" where there is none. One that is there is obeyed: what cannot be read raises."""
    try:
        return read_text(path)
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _read_note(path: Path) -> str:
    """Its text, "" where there is none. The agent writes these itself, so one that is broken only warns."""
    try:
        return _read_prompt_file(path)
    except (OSError, NotTextError) as error:
        _log.warning(f"[WARN] a note is left out: {sanitize_agent_error(error)}")
        return ""


async def _within(seconds: float, work: Any, what: str) -> None:
    try:
        async with asyncio.timeout(seconds):
            await work
    except Exception as error:  # noqa: BLE001 (going down goes on, whatever one step does)
        _log.warning(f"could not {what}", reason=sanitize_agent_error(error), kind=type(error).__name__)


async def _save_snapshot(adapter: BaseAdapter) -> None:
    if state := await adapter.pre_stop_state():
        write_atomic(configs_dir.resolve() / SNAPSHOT, json.dumps(state).encode())


def _read_snapshot() -> dict[str, Any]:
    path = configs_dir.resolve() / SNAPSHOT
    try:
        state = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.warning(f"[WARN] {path} is not used: {sanitize_agent_error(error)}")
        return {}
    return state if isinstance(state, dict) else {}
