"""Keeps one codex child alive and hands out its threads.

A thread is started once, its id is kept on disk, and it is resumed in every later child, with the sandbox,
the approval policy, the provider and the model sent again, since codex restores none of them. What codex
reports as effective is compared with what was asked for: a parameter that it does not know is ignored without
a word, and its configuration may have been changed since it was rendered.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import structlog
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from app_server import (
    DEFAULT_MAX_LINE,
    OVERLOADED,
    AppServer,
    AppServerError,
    ChildLostError,
    InvalidConfigError,
    RpcError,
)
from codex_log import keep_credentials_out
from server_requests import ServerRequests

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from metering import Counted, Meter
    from thread_store import ThreadStore
    from usage import Spent

__all__ = ["Codex", "CodexSettings", "LoginError", "MismatchError", "ProviderMismatchError", "SandboxError"]

log = structlog.get_logger(__name__)

_THREAD_TIMEOUT: Final = 90.0
_LOGIN_TIMEOUT: Final = 15.0
_INTERRUPT_TIMEOUT: Final = 10.0
_REVIVE_SECONDS: Final = (0.0, 0.2, 1.0, 5.0, 15.0, 30.0)
_YOUNG_SECONDS: Final = 10.0
_APPROVAL_POLICY: Final = "never"
_REPORTED_AS: Final = {
    "danger-full-access": "dangerFullAccess",
    "workspace-write": "workspaceWrite",
    "read-only": "readOnly",
}
_WORDS: Final = {"modelProvider": "provider", "model": "model"}
_GONE: Final = ("no rollout found", "thread not found", "invalid thread id")


class MismatchError(AppServerError):
    """codex would work otherwise than it was told to."""


class SandboxError(MismatchError):
    """codex runs the thread in another sandbox, or with another approval policy, than it was told to."""


class ProviderMismatchError(MismatchError):
    """codex would send messages to another provider, model or address than the workspace has chosen."""


class LoginError(AppServerError):
    """The API key cannot be given to codex."""


@dataclass(frozen=True, slots=True)
class CodexSettings:
    """How the child is started and its threads are made.

    `api_key` logs codex in at start: version 0.130.0 sends no OPENAI_API_KEY of its environment to the
    built-in provider. `env` is the child's whole environment. `model_provider` is the provider's name in
    codex's configuration, and `endpoint` what that has to hold, by path, before a message may be sent.
    """

    command: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(repr=False)
    model: str | None = None
    model_provider: str | None = None
    endpoint: Mapping[tuple[str, ...], object] = field(default_factory=dict)
    sandbox: str = "danger-full-access"
    developer_instructions: str | None = None
    api_key: str | None = field(default=None, repr=False)
    trusted_mcp_servers: Sequence[str] = ("molecule",)
    max_line: int = DEFAULT_MAX_LINE


class Codex:
    """The child, whichever it is at the moment. `start` it early; `close` it at the end.

    `on_start` is called with the number of children that have been started, 1 for the first; `on_failing`
    with the number of failed starts in a row and the reason; `on_item` with each completed item of a thread,
    also with one that comes after its turn has ended, as that of a command may. `meter` counts what the
    threads spend.
    """

    def __init__(
        self,
        settings: CodexSettings,
        store: ThreadStore,
        *,
        meter: Meter | None = None,
        on_start: Callable[[int], None] = lambda _starts: None,
        on_failing: Callable[[int, str], None] = lambda _failures, _problem: None,
        on_item: Callable[[dict[str, Any]], None] = lambda _item: None,
    ) -> None:
        self._settings = settings
        self._on_start = on_start
        self._on_failing = on_failing
        self._on_item = on_item
        self._starts = 0
        self._store = store
        self._meter = meter
        self._interrupting: set[asyncio.Task[None]] = set()
        self._answer = ServerRequests(
            sandbox=settings.sandbox, trusted_mcp_servers=settings.trusted_mcp_servers
        )
        self._lock = asyncio.Lock()
        self._server: AppServer | None = None
        self._loaded: dict[str, str] = {}
        self._attached: dict[str, LoadedThread] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._problem = "codex has not been started yet"
        self._closed = False

    @property
    def problem(self) -> str:
        """Why no message can be worked on now; "" when one can."""
        if self._server is None:
            return self._problem
        return str(self._server.lost or "")

    @property
    def pid(self) -> int | None:
        """The child's process id; None without one."""
        return self._server.pid if self._server is not None and self._server.lost is None else None

    async def start(self) -> None:
        """Start the child now rather than with the first message, and keep one alive from now on.

        Raises InvalidConfigError or LoginError, which no second try would mend. Other failures are tried
        again in the background, and `problem` tells them.
        """
        try:
            async with self._lock:
                await self._live()
        except (InvalidConfigError, LoginError):
            raise
        except (AppServerError, TimeoutError) as error:
            log.error("codex.start_failed", error=str(error))  # noqa: TRY400 (no traceback for a known failure)
        self._watcher = asyncio.create_task(self._watch(), name="codex watcher")

    async def thread(self, key: str) -> LoadedThread:
        """The thread of conversation `key` in a live child. Raises AppServerError or TimeoutError."""
        async with self._lock:
            server = await self._live()
            thread_id = self._loaded.get(key)
            if thread_id is None:
                thread_id = await self._load(server, key)
                self._loaded[key] = thread_id
            return LoadedThread(self, server, key, thread_id)

    async def give_up(self, thread: LoadedThread, *, obeys: bool) -> None:
        """Replace the child that hangs in `thread`.

        A child that could be interrupted and works for other conversations is kept: they are not to blame.
        """
        busy = [other for other in self._attached.values() if other is not thread]
        if obeys and busy:
            log.warning("codex.kept", reason="other conversations are at work", busy=len(busy))
            return
        async with self._lock:
            if self._server is thread.server:
                log.warning("codex.replace", pid=thread.server.pid)
                await self._drop(thread.server, "codex was replaced because it hung")

    async def close(self) -> None:
        """End the child. Nothing starts it again."""
        self._closed = True
        self._problem = "the workspace is shutting down"
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        async with self._lock:
            if self._server is not None:
                await self._drop(self._server, self._problem)

    # -- the child -----------------------------------------------------------------------------------------

    async def _live(self) -> AppServer:
        """The live child; started if there is none. The lock is held."""
        if self._server is not None and self._server.lost is None:
            return self._server
        if self._closed:
            raise ChildLostError(self._problem)
        if self._server is not None:
            await self._drop(self._server, self._problem)
        try:
            server = await AppServer.start(
                self._settings.command,
                cwd=self._settings.cwd,
                env=self._settings.env,
                on_notification=self._notification,
                answer=self._answer,
                max_line=self._settings.max_line,
            )
        except AppServerError as error:
            self._problem = str(error)
            raise
        await asyncio.to_thread(keep_credentials_out, self._settings.env)
        try:
            await self._log_in(server)
        except (AppServerError, TimeoutError) as error:
            self._problem = str(error)
            await server.stop()
            raise
        self._starts += 1
        self._on_start(self._starts)
        log.info("codex.started", pid=server.pid)
        self._server = server
        self._problem = ""
        return server

    async def _drop(self, server: AppServer, reason: str) -> None:
        """Forget `server` and stop it. The lock is held."""
        self._server = None
        self._problem = reason
        self._loaded.clear()
        await server.stop()
        lost = server.lost or ChildLostError(reason)
        for thread in [thread for thread in self._attached.values() if thread.server is server]:
            thread.lose(lost)

    async def _watch(self) -> None:
        """Tell conversations of a loss at once, and start the next child without waiting for a message."""
        failures = 0
        while True:
            server = self._server
            if server is not None:
                began = asyncio.get_running_loop().time()
                lost = await server.wait_lost()
                # A child that dies young counts as one that did not start: it must not be replaced in a hot
                # loop.
                lived = asyncio.get_running_loop().time() - began
                failures = failures + 1 if lived < _YOUNG_SECONDS else 0
                for thread in [thread for thread in self._attached.values() if thread.server is server]:
                    thread.lose(lost)
            await asyncio.sleep(_REVIVE_SECONDS[min(failures, len(_REVIVE_SECONDS) - 1)])
            try:
                async with self._lock:
                    await self._live()
            except (AppServerError, TimeoutError) as error:
                failures += 1
                self._on_failing(failures, str(error))
                log.error("codex.start_failed", failures=failures, error=str(error))  # noqa: TRY400 (no traceback for a known failure)

    async def _log_in(self, server: AppServer) -> None:
        """Give codex the API key of the built-in provider, over stdin and not in its environment."""
        key = self._settings.api_key
        if key is None:
            return
        kind = (server.account or {}).get("type", "apiKey")
        if kind != "apiKey":
            raise LoginError(
                f"codex is logged in with {kind}, and logging in with OPENAI_API_KEY would overwrite that. "
                "Remove auth.json from CODEX_HOME, or choose the subscription as provider."
            )
        try:
            await server.request(
                "account/login/start", {"type": "apiKey", "apiKey": key}, timeout=_LOGIN_TIMEOUT
            )
        except RpcError as error:
            raise LoginError(f"codex refused the API key: {error.message}") from error

    def _notification(self, method: str, params: dict[str, Any]) -> None:
        if self._meter is not None and (counted := self._meter.take(method, params)) is not None:
            self._spent(self._meter, counted, params)
        thread_id = params.get("threadId")
        if thread_id is None:
            for thread in self._attached.values():
                thread.handle(method, params)
        elif (attached := self._attached.get(str(thread_id))) is not None:
            attached.handle(method, params)
        if method == "item/completed" and isinstance(item := params.get("item"), dict):
            self._on_item(item)
        if method == "mcpServer/startupStatus/updated" and params.get("status") == "failed":
            log.warning("codex.mcp_server_failed", server=params.get("name"), error=params.get("error"))
        elif method in ("configWarning", "warning", "deprecationNotice"):
            log.info("codex.notice", text=str(params.get("summary") or params.get("message") or "")[:500])

    def _spent(self, meter: Meter, counted: Counted, params: dict[str, Any]) -> None:
        """Tell the turn that spent it. What no conversation drives, such as a sub-agent, is stopped here."""
        if (attached := self._attached.get(counted.thread)) is not None:
            attached.count(counted.spent)
        thread_id, turn_id = str(params.get("threadId")), params.get("turnId")
        if thread_id not in self._attached and self._server is not None and meter.closed():
            parameters = {"threadId": thread_id, "turnId": turn_id}
            task = asyncio.create_task(_interrupt(self._server, parameters), name=f"interrupt {turn_id}")
            self._interrupting.add(task)
            task.add_done_callback(self._interrupting.discard)

    # -- threads -------------------------------------------------------------------------------------------

    async def _load(self, server: AppServer, key: str) -> str:
        await self._check_endpoint(server)
        known = self._store.get(key)
        if known is not None:
            try:
                result = await _request(
                    server,
                    "thread/resume",
                    {**self._parameters(), "threadId": known, "excludeTurns": True},
                    timeout=_THREAD_TIMEOUT,
                )
            except RpcError as error:
                if not any(text in error.message for text in _GONE):
                    raise self._explained(error) from error
                log.warning("thread.gone", thread=known, error=error.message)
                self._store.forget(key)
            else:
                return self._checked(result, resumed=True)
        try:
            result = await _request(server, "thread/start", self._parameters(), timeout=_THREAD_TIMEOUT)
        except RpcError as error:
            raise self._explained(error) from error
        return self._checked(result, resumed=False)

    async def _check_endpoint(self, server: AppServer) -> None:
        """Compare the address that codex would use with the chosen one, while no credential has left yet."""
        if not self._settings.endpoint:
            return
        parameters = {"cwd": str(self._settings.cwd), "includeLayers": False}
        try:
            result = await _request(server, "config/read", parameters, timeout=_THREAD_TIMEOUT)
        except RpcError as error:
            if "unknown variant" not in error.message:
                raise InvalidConfigError(error.message) from error
            log.warning("codex.endpoint_unchecked", reason="this codex does not tell its configuration")
            return
        for path, wanted in self._settings.endpoint.items():
            found = _value(result.get("config"), path)
            if found != wanted:
                raise ProviderMismatchError(
                    f"codex's configuration says {_shown(found)} for {'.'.join(path)}, and the workspace has "
                    f"chosen {_shown(wanted)}: config.toml was changed after the workspace had written it. "
                    "Restart the workspace, which writes it again; addresses belong into config.yaml"
                )

    def _parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "cwd": str(self._settings.cwd),
            "sandbox": self._settings.sandbox,
            "approvalPolicy": _APPROVAL_POLICY,
        }
        if self._settings.model:
            parameters["model"] = self._settings.model
        if self._settings.model_provider:
            parameters["modelProvider"] = self._settings.model_provider
        if self._settings.developer_instructions:
            parameters["developerInstructions"] = self._settings.developer_instructions
        return parameters

    @staticmethod
    def _explained(error: RpcError) -> AppServerError:
        """A broken config.toml shows only here when it broke after the child's start."""
        if "failed to load configuration" in error.message:
            return InvalidConfigError(error.message)
        return error

    def _checked(self, result: dict[str, Any], *, resumed: bool) -> str:
        """The thread's id, after comparing what codex reports with what was asked for."""
        sandbox = (result.get("sandbox") or {}).get("type")
        if sandbox != _REPORTED_AS[self._settings.sandbox]:
            raise SandboxError(
                f"codex was told to use the sandbox {self._settings.sandbox} and reports {sandbox}; "
                "check sandbox_mode and requirements in config.toml"
            )
        if result.get("approvalPolicy") != _APPROVAL_POLICY:
            policy = result.get("approvalPolicy")
            raise SandboxError(f"codex was told the approval policy {_APPROVAL_POLICY} and reports {policy}")
        chosen = {"modelProvider": self._settings.model_provider, "model": self._settings.model}
        for what, wanted in chosen.items():
            found = result.get(what)
            if wanted and found is not None and found != wanted:
                raise ProviderMismatchError(
                    f"the workspace has chosen the {_WORDS[what]} {wanted} and codex reports {found}; "
                    "see what config.toml and bridge.app_server_args say about it, and restart the workspace"
                )
        thread_id = str(result["thread"]["id"])
        if self._meter is not None:
            self._meter.thread(thread_id, result.get("model"), resumed=resumed)
        log.info(
            "thread.ready",
            thread=thread_id,
            resumed=resumed,
            model=result.get("model"),
            provider=result.get("modelProvider"),
            sandbox=sandbox,
        )
        return thread_id

    def _attach(self, thread: LoadedThread) -> None:
        self._attached[thread.id] = thread
        if (lost := thread.server.lost) is not None:
            thread.lose(lost)

    def _detach(self, thread: LoadedThread) -> None:
        self._attached.pop(thread.id, None)

    def _ran(self, thread: LoadedThread) -> None:
        self._store.set(thread.key, thread.id)

    def _unloaded(self, thread: LoadedThread) -> None:
        """codex does not know the thread any more: it is to be resumed."""
        if self._loaded.get(thread.key) == thread.id:
            del self._loaded[thread.key]


class LoadedThread:
    """A thread in one child. Of no use any more once that child is lost."""

    def __init__(self, codex: Codex, server: AppServer, key: str, thread_id: str) -> None:
        self._codex = codex
        self.server = server
        self.key = key
        self._id = thread_id
        self._handle: Callable[[str, dict[str, Any]], None] | None = None
        self._lose: Callable[[ChildLostError], None] | None = None
        self._count: Callable[[Spent], None] | None = None

    @property
    def id(self) -> str:
        """The thread's id."""
        return self._id

    async def request(self, method: str, params: dict[str, Any], *, timeout: float) -> dict[str, Any]:  # noqa: ASYNC109 (see AppServer.request)
        """Send a request about this thread; `threadId` is added. Raises as `AppServer.request`."""
        try:
            return await _request(self.server, method, {"threadId": self._id, **params}, timeout=timeout)
        except RpcError as error:
            if "thread not found" in error.message:
                self._codex._unloaded(self)
            raise

    def attach(
        self,
        handle: Callable[[str, dict[str, Any]], None],
        lose: Callable[[ChildLostError], None],
        count: Callable[[Spent], None],
    ) -> None:
        """From now on send the thread's notifications to `handle`, the child's loss to `lose`, and what is
        spent to `count`."""
        self._handle, self._lose, self._count = handle, lose, count
        self._codex._attach(self)

    def detach(self) -> None:
        """End what `attach` began."""
        self._codex._detach(self)

    def ran(self) -> None:
        """Say that a turn has begun: from now on the thread can be resumed."""
        self._codex._ran(self)

    def handle(self, method: str, params: dict[str, Any]) -> None:
        """Pass a notification on."""
        if self._handle is not None:
            self._handle(method, params)

    def count(self, spent: Spent) -> None:
        """Pass on what was spent."""
        if self._count is not None:
            self._count(spent)

    def lose(self, error: ChildLostError) -> None:
        """Pass the loss of the child on."""
        if self._lose is not None:
            self._lose(error)


async def _interrupt(server: AppServer, parameters: Mapping[str, Any]) -> None:
    """Interrupt a turn that nobody waits for. It may have ended, or the child with it."""
    try:
        await server.request("turn/interrupt", parameters, timeout=_INTERRUPT_TIMEOUT)
    except (AppServerError, TimeoutError) as error:
        log.info("turn.interrupt_refused", turn=parameters["turnId"], error=str(error))


def _value(configuration: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        configuration = configuration.get(key) if isinstance(configuration, dict) else None
    return configuration


def _shown(value: object) -> str:
    """A value of the configuration in words; of an address no more than where it leads."""
    if isinstance(value, str) and "://" in value:
        parts = urlsplit(value)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return "nothing" if value is None else repr(value)


async def _request(
    server: AppServer,
    method: str,
    params: Mapping[str, Any],
    *,
    timeout: float,  # noqa: ASYNC109 (see AppServer.request)
) -> dict[str, Any]:
    """`server.request`, sent again with growing pauses while codex says that it is overloaded."""
    retrying = AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, RpcError) and error.code == OVERLOADED),
        wait=wait_exponential_jitter(multiplier=0.2, max=5.0, jitter=0.2),
        stop=stop_after_attempt(8),
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            return await server.request(method, params, timeout=timeout)
    raise AssertionError("tenacity either returns or raises")
