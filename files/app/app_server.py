"""JSON-RPC over NDJSON with one `codex app-server` child. Facts behind each choice: CODEX.md 1, 7 and 11.

`AppServer` knows processes and lines, not turns: it hands every notification to a callback in the order of
arrival, answers every request of the server through a second callback, and, when the child is gone for
whatever reason, fails everything that waits at once with that reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Self

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "DEFAULT_MAX_LINE",
    "AppServer",
    "AppServerError",
    "ChildLostError",
    "InvalidConfigError",
    "MethodNotSupportedError",
    "RpcError",
]

log = structlog.get_logger(__name__)

DEFAULT_MAX_LINE: Final = 32 * 1024 * 1024
_CHUNK: Final = 256 * 1024
_HEAD: Final = 4096
_STDERR_LINES: Final = 40
_ERROR_LINES: Final = 5
_INVALID_CONFIG: Final = "Invalid configuration; using defaults."
_ANSI: Final = re.compile(rb"\x1b\[[0-9;]*m")
_RESPONSE_ID: Final = re.compile(rb'^\s*\{\s*"id"\s*:\s*(\d+)')

METHOD_NOT_FOUND: Final = -32601
INTERNAL_ERROR: Final = -32603
OVERLOADED: Final = -32001


class AppServerError(Exception):
    """Base of what can go wrong between us and the child."""


class ChildLostError(AppServerError):
    """The child is gone or no longer usable. The text says why, with the last lines of its stderr."""


class InvalidConfigError(AppServerError):
    """codex runs on defaults because config.toml is broken. The text has the path, line and reason."""


class RpcError(AppServerError):
    """The child answered a request with an error."""

    def __init__(self, method: str, code: int, message: str, data: object = None) -> None:
        super().__init__(f"{method}: {message} (code {code})")
        self.method = method
        self.code = code
        self.message = message
        self.data = data


class MethodNotSupportedError(Exception):
    """Raised by the answer callback for a request that this client does not know."""


class _Child(asyncio.subprocess.SubprocessStreamProtocol):
    """A process with its pipes. `exited` is set when it ends, whoever else holds the other ends of its pipes.

    `asyncio.subprocess.Process.wait` also waits for the pipes: a grandchild that inherited one, or a line
    that nobody reads, would block it for ever.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=_CHUNK, loop=loop)
        self.exited = asyncio.Event()
        self.transport: asyncio.SubprocessTransport

    @classmethod
    async def spawn(cls, command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None) -> _Child:
        """Start `command` as the leader of a session and process group of its own. Raises OSError."""
        loop = asyncio.get_running_loop()
        transport, child = await loop.subprocess_exec(
            lambda: cls(loop),
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd,
            env=dict(env) if env is not None else None,
            start_new_session=True,
        )
        child.transport = transport
        return child

    @property
    def pid(self) -> int:
        return self.transport.get_pid()

    @property
    def returncode(self) -> int | None:
        return self.transport.get_returncode()

    def process_exited(self) -> None:
        """Called by the loop."""
        super().process_exited()
        self.exited.set()


class AppServer:
    """A running child after a completed handshake. Make one with `start`, end it with `stop`.

    `account` is who codex is logged in as (`{"type": "apiKey" | "chatgpt", ...}`), None for nobody.
    """

    def __init__(
        self,
        process: _Child,
        *,
        on_notification: Callable[[str, dict[str, Any]], None],
        answer: Callable[[str, dict[str, Any]], dict[str, Any]],
        max_line: int,
        write_timeout: float,
    ) -> None:
        self._process = process
        self._on_notification = on_notification
        self._answer = answer
        self._max_line = max_line
        self._write_timeout = write_timeout
        self._write_lock = asyncio.Lock()
        self._pending: dict[int, tuple[str, asyncio.Future[Any]]] = {}
        self._next_id = 1
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._lost: asyncio.Future[ChildLostError] = asyncio.get_running_loop().create_future()
        self._config_error: str | None = None
        self.account: dict[str, Any] | None = None
        self._stopping = False
        self._answers: set[asyncio.Task[None]] = set()
        self._tasks = [
            asyncio.create_task(self._read_stderr(), name="codex stderr"),
            asyncio.create_task(self._read_stdout(), name="codex stdout"),
        ]

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        on_notification: Callable[[str, dict[str, Any]], None],
        answer: Callable[[str, dict[str, Any]], dict[str, Any]],
        cwd: Path,
        env: Mapping[str, str] | None = None,
        max_line: int = DEFAULT_MAX_LINE,
        handshake_timeout: float = 30.0,
        write_timeout: float = 30.0,
    ) -> Self:
        """Spawn `command` in a session of its own and shake hands.

        `on_notification(method, params)` runs in the reader and must not block. `answer(method, params)`
        returns the result for a request of the server, or raises MethodNotSupportedError. `max_line` is the
        cap of one line in bytes: a longer one is dropped, and fails only the request that it answers.
        Raises ChildLostError (did not start, ended, did not answer) or InvalidConfigError.
        """
        try:
            process = await _Child.spawn(command, cwd=cwd, env=env)
        except OSError as error:
            raise ChildLostError(f"cannot start {command[0]}: {error.strerror or error}") from error
        server = cls(
            process,
            on_notification=on_notification,
            answer=answer,
            max_line=max_line,
            write_timeout=write_timeout,
        )
        try:
            await server._handshake(handshake_timeout)
        except BaseException:
            await server.stop(grace=1.0)
            raise
        return server

    @property
    def pid(self) -> int:
        """The child's process id, which is its process group's as well."""
        return self._process.pid

    @property
    def lost(self) -> ChildLostError | None:
        """Why the child is no longer usable; None while it is."""
        return self._lost.result() if self._lost.done() else None

    async def wait_lost(self) -> ChildLostError:
        """Return the reason once the child is no longer usable."""
        return await asyncio.shield(self._lost)

    async def request(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        timeout: float,  # noqa: ASYNC109 (fails one request, cancels nothing)
    ) -> dict[str, Any]:
        """Send one request and return its result.

        Raises RpcError for an error answer, TimeoutError after `timeout` seconds, ChildLostError when the
        child is or gets lost.
        """
        if self._lost.done():
            raise self._lost.result()
        request_id = self._next_id
        self._next_id += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = (method, future)
        try:
            async with asyncio.timeout(timeout):
                await self._write({"id": request_id, "method": method, "params": params})
                result = await future
        except TimeoutError as error:
            raise TimeoutError(f"codex did not answer {method} within {timeout:g} s") from error
        finally:
            self._pending.pop(request_id, None)
            if future.done() and not future.cancelled():
                future.exception()
        if not isinstance(result, dict):
            raise RpcError(method, INTERNAL_ERROR, f"the result is no object but {type(result).__name__}")
        return result

    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Send a notification. Raises ChildLostError."""
        await self._write({"method": method} if params is None else {"method": method, "params": params})

    async def stop(self, *, grace: float = 2.0) -> None:
        """End the child: EOF on stdin, then SIGTERM, then SIGKILL, `grace` seconds apart; no orphan is left.

        codex ends 30 ms after EOF, even in the middle of a turn. What it started in its group ends with it.
        """
        self._stopping = True
        if self._process.stdin is not None:
            self._process.stdin.close()
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if await self._exited_within(grace):
                break
            self._signal_group(sign)
        await self._process.exited.wait()
        self._signal_group(signal.SIGKILL)
        self._fail(ChildLostError("codex was stopped"))
        for task in (*self._tasks, *self._answers):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._answers, return_exceptions=True)
        self._process.transport.close()

    # -- the handshake -------------------------------------------------------------------------------------

    async def _handshake(self, limit: float) -> None:
        try:
            await self.request(
                "initialize",
                {
                    "clientInfo": {"name": "codex-workspace", "title": "Codex workspace", "version": "1"},
                    # `thread/resume` without the whole history in its answer is an experimental parameter.
                    "capabilities": {"experimentalApi": True},
                },
                timeout=limit,
            )
        except (RpcError, TimeoutError) as error:
            raise ChildLostError(f"the handshake with codex failed: {error}") from error
        await self.notify("initialized")
        # A broken config.toml shows as a warning right after the first answer; one more round trip makes sure
        # that it has been read.
        with contextlib.suppress(RpcError, TimeoutError):
            account = (await self.request("account/read", {}, timeout=limit)).get("account")
            self.account = account if isinstance(account, dict) else None
        if self._config_error is not None:
            raise InvalidConfigError(self._config_error)

    # -- reading -------------------------------------------------------------------------------------------

    async def _read_stdout(self) -> None:
        try:
            await self._read_lines()
        except Exception as error:  # noqa: BLE001 (whatever ends the reader must fail those who wait)
            self._fail(ChildLostError(f"reading from codex failed: {error!r}"))
            self._signal_group(signal.SIGKILL)
            return
        # The reason is worth a short wait: EOF comes a moment before the exit status and the last of stderr.
        exited = await self._exited_within(1.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.shield(self._tasks[0])
        cause = self._exit_reason() if exited else "codex closed its output without ending"
        self._fail(ChildLostError(self._with_stderr(cause)))
        self._signal_group(signal.SIGKILL)

    async def _read_lines(self) -> None:
        """Split stdout into lines of at most `max_line` bytes; a longer one is dropped up to its end."""
        stdout = self._process.stdout
        if stdout is None:
            raise AppServerError("the child has no stdout")
        parts: list[bytes] = []
        size = 0
        while chunk := await stdout.read(_CHUNK):
            *ends, rest = chunk.split(b"\n")
            for end in ends:
                self._line(b"".join((*parts, end)), size + len(end))
                parts, size = [], 0
            size += len(rest)
            if size <= self._max_line:
                parts.append(rest)
            else:
                # Too long already: only the head is kept, which holds the id of an answer.
                parts = [b"".join((*parts, rest))[:_HEAD]]

    def _line(self, line: bytes, size: int) -> None:
        if not line.strip():
            return
        if size > self._max_line:
            self._oversized(line, size)
            return
        try:
            message = json.loads(line)
        except ValueError as error:
            log.warning("codex.malformed_line", size=size, error=str(error))
            return
        if not isinstance(message, dict):
            log.warning("codex.malformed_line", size=size, error="not an object")
            return
        # Ids of the server's requests start at 0 and are no relation of ours: "has a method" decides first.
        method = message.get("method")
        if isinstance(method, str):
            params = message.get("params")
            self._incoming(method, message.get("id"), params if isinstance(params, dict) else {})
        elif "id" in message:
            self._response(message)
        else:
            log.warning("codex.malformed_line", size=size, error="neither a method nor an id")

    def _oversized(self, line: bytes, size: int) -> None:
        log.error("codex.line_too_long", size=size, cap=self._max_line)
        if (match := _RESPONSE_ID.match(line)) and (entry := self._pending.get(int(match[1]))):
            method, future = entry
            if not future.done():
                future.set_exception(
                    RpcError(
                        method, INTERNAL_ERROR, f"the answer has {size} bytes, more than {self._max_line}"
                    )
                )

    def _response(self, message: dict[str, Any]) -> None:
        entry = self._pending.get(message["id"]) if isinstance(message["id"], int) else None
        if entry is None:
            log.info("codex.late_answer", id=message["id"])
            return
        method, future = entry
        if future.done():
            return
        error = message.get("error")
        if isinstance(error, dict):
            future.set_exception(
                RpcError(
                    method,
                    int(error.get("code", INTERNAL_ERROR)),
                    str(error.get("message", "unknown error")),
                    error.get("data"),
                )
            )
        else:
            future.set_result(message.get("result"))

    def _incoming(self, method: str, request_id: object, params: dict[str, Any]) -> None:
        if request_id is not None:
            task = asyncio.create_task(self._reply(method, request_id, params), name=f"answer {method}")
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)
            return
        if method == "configWarning" and params.get("summary") == _INVALID_CONFIG:
            self._config_error = str(params.get("details") or params.get("path") or _INVALID_CONFIG)
        try:
            self._on_notification(method, params)
        except Exception:
            log.exception("codex.notification_failed", method=method)

    async def _reply(self, method: str, request_id: object, params: dict[str, Any]) -> None:
        message: dict[str, Any] = {"id": request_id}
        try:
            message["result"] = self._answer(method, params)
        except MethodNotSupportedError as error:
            log.warning("codex.unknown_request", method=method)
            message["error"] = {"code": METHOD_NOT_FOUND, "message": str(error) or f"unknown method {method}"}
        except Exception:
            log.exception("codex.answer_failed", method=method)
            message["error"] = {"code": INTERNAL_ERROR, "message": f"the client could not answer {method}"}
        with contextlib.suppress(ChildLostError):
            await self._write(message)

    async def _read_stderr(self) -> None:
        stderr = self._process.stderr
        if stderr is None:
            return
        rest = b""
        while chunk := await stderr.read(_CHUNK):
            *lines, rest = (rest + _ANSI.sub(b"", chunk)).split(b"\n")
            for line in lines:
                self._stderr_line(line)
            rest = rest[-_CHUNK:]
        self._stderr_line(rest)

    def _stderr_line(self, line: bytes) -> None:
        if text := line.decode("utf-8", "replace").strip():
            self._stderr.append(text[:500])
            log.debug("codex.stderr", line=text[:500])

    # -- writing -------------------------------------------------------------------------------------------

    async def _write(self, message: Mapping[str, Any]) -> None:
        data = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        stdin = self._process.stdin
        async with self._write_lock:
            if self._lost.done():
                raise self._lost.result()
            if stdin is None or stdin.is_closing():
                raise ChildLostError("codex was stopped")
            try:
                stdin.write(data)
                async with asyncio.timeout(self._write_timeout):
                    await stdin.drain()
            except (BrokenPipeError, ConnectionResetError) as error:
                # EOF on stdout follows and knows the exit status; it must not wait for ever if it does not.
                async with asyncio.timeout(5.0):
                    raise await self.wait_lost() from error
            except TimeoutError as error:
                lost = ChildLostError(
                    self._with_stderr(f"codex has not read its input for {self._write_timeout:g} s")
                )
                self._fail(lost)
                self._signal_group(signal.SIGKILL)
                raise lost from error

    # -- the end -------------------------------------------------------------------------------------------

    def _fail(self, error: ChildLostError) -> None:
        if self._lost.done():
            return
        self._lost.set_result(error)
        if not self._stopping:
            log.error("codex.lost", pid=self.pid, cause=str(error))
        for _, future in self._pending.values():
            if not future.done():
                future.set_exception(error)

    async def _exited_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.exited.wait()
        return self._process.exited.is_set()

    def _exit_reason(self) -> str:
        code = self._process.returncode
        if code is not None and code < 0:
            return f"codex was killed by {signal.Signals(-code).name}"
        return f"codex ended with exit status {code}"

    def _with_stderr(self, cause: str) -> str:
        lines = list(self._stderr)[-_ERROR_LINES:]
        return f"{cause}; its last words: {' | '.join(lines)}" if lines else cause

    def _signal_group(self, sign: signal.Signals) -> None:
        # The group outlives its leader while a member lives; an empty one is gone, and so is its number's
        # use.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, sign)
