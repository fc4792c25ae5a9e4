"""What the runtime offers an adapter beyond the public base, and what stands in where it offers nothing.

The adapter imports `molecule_runtime.adapters.base` alone, which every A2A runtime of the platform has. All
else is looked for here, name by name, when it is used: the bundled runtime has all of it, the platform's own
some, partly under other names.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import inspect
import logging
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from platform_api import PlatformApi, platform_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from metering import Meter
    from molecule_runtime.adapters.base import AdapterHealth

__all__ = [
    "MASK",
    "SecretsClient",
    "activity_writer",
    "agent_failing",
    "agent_started",
    "auth_headers",
    "bearer",
    "configs_dir",
    "configure_log",
    "delegation_results",
    "health",
    "platform_api",
    "queue_changed",
    "reporter_of_turns",
    "secrets_client",
    "spending_told_by",
    "tool_active",
    "without_secrets",
]

log = structlog.get_logger(__name__)

_FAILURES_BEFORE_WEDGED: Final = 3
_CONFIGS: Final = Path("/configs")
MASK: Final = "[redacted]"
"""What stands in place of a secret."""

# Bearers, and what keys and tokens of the vendors, of git servers and of OAuth look like.
_TOKEN: Final = re.compile(
    r"(?i)\bbearer\s+[\w.~+/=-]{8,}"
    r"|\b(?:sk-|rt_|gh[a-z]_|github_pat_|glpat-|xox[a-z]-|eyJ)[\w.-]{16,}"
    r"|(?<=://)[^/\s@]+@"
)


@functools.cache
def _offered(module: str, name: str) -> Any:
    """`name` of the runtime's `module`; None under a runtime that has no such thing."""
    full = f"molecule_runtime.{module}"
    try:
        return getattr(importlib.import_module(full), name, None)
    except Exception as error:  # noqa: BLE001 (whatever a runtime's module does, the adapter goes on without it)
        if not (isinstance(error, ModuleNotFoundError) and full.startswith(error.name or "?")):
            log.warning("runtime.not_used", module=full, reason=f"{type(error).__name__}: {error}")
        return None


def _called(*places: tuple[str, str]) -> Callable[..., Any]:
    """The first of `places` (module, name) that the runtime offers; a function without effect for none."""
    return next((found for place in places if (found := _offered(*place))), lambda *_: None)


# -- where things are ----------------------------------------------------------------------------------------


def configs_dir() -> Path:
    """The directory of the workspace's credentials and state. Raises OSError where it cannot be made.

    As the runtime resolves it, since both must find the same token; else `$CONFIGS_DIR`, else a writable
    `/configs`, else `~/.molecule-workspace`.
    """
    if resolve := _offered("configs_dir", "resolve"):
        return Path(resolve())
    if given := os.environ.get("CONFIGS_DIR", ""):
        path = Path(given)
    elif _CONFIGS.is_dir() and os.access(_CONFIGS, os.W_OK):
        return _CONFIGS
    else:
        path = Path.home() / ".molecule-workspace"
    path.mkdir(mode=0o755 if given else 0o700, parents=True, exist_ok=True)
    return path


def auth_headers() -> dict[str, str]:
    """What a call to the platform is signed with; empty before the platform has issued a token."""
    if headers := _offered("platform_auth", "auth_headers"):
        return dict(headers())
    try:
        token = (configs_dir() / ".auth_token").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        token = ""
    return {"Authorization": f"Bearer {token}"} if token else {}


def bearer() -> str:
    """The token that calls to the platform carry now; "" without one."""
    return auth_headers().get("Authorization", "").removeprefix("Bearer ")


def platform_api(
    env: Mapping[str, str], workspace_id: str, base_url: str | None = None
) -> PlatformApi | None:
    """The platform of this workspace, at `base_url` or else PLATFORM_URL; None without one.

    Raises ValueError for a PLATFORM_URL that is no URL.
    """
    base_url = base_url or platform_url(env)
    if base_url is None or not workspace_id:
        return None
    organisation = env.get("MOLECULE_ORG_ID", "").strip()
    routing = {"X-Molecule-Org-Id": organisation} if organisation else {}
    options = _offered("network", "client_options")
    return PlatformApi(
        base_url.rstrip("/"),
        workspace_id,
        lambda: {**auth_headers(), **routing},
        options=options(base_url, env) if options else {},
    )


class SecretsClient(Protocol):
    """Reads the workspace's secrets."""

    async def secrets(self) -> dict[str, str]:
        """The secrets by name."""

    async def aclose(self) -> None:
        """Close its connections."""


def secrets_client(api: PlatformApi, env: Mapping[str, str], heartbeat: object) -> SecretsClient:
    """One that recovers from a revoked token, and may register for a first one, where the runtime has it.

    A new workspace has no token before it has registered, which the runtime does after the set-up; with what,
    only the client of its own `heartbeat` knows.
    """
    client = _offered("platform", "PlatformClient")
    if not hasattr(client, "secrets"):
        return api
    own = getattr(heartbeat, "client", None)
    registration = own.registration if isinstance(own, client) and own.base_url == api.base_url else None
    made: SecretsClient = client(
        api.base_url, api.workspace_id, env.get("MOLECULE_ORG_ID", ""), registration=registration
    )
    return made


def activity_writer(api: PlatformApi, heartbeat: object) -> Callable[[dict[str, Any]], Awaitable[bool]]:
    """A function that tells the platform one row of activity, and whether it was taken.

    Through the client of the runtime's own `heartbeat`, which recovers from a revoked token, where there is
    one for the same platform.
    """
    own = getattr(heartbeat, "client", None)
    client = _offered("platform", "PlatformClient")
    if client is None or not isinstance(own, client) or own.base_url != api.base_url:
        return api.activity

    async def write(row: dict[str, Any]) -> bool:
        return bool(await own.activity(**row))

    return write


# -- the log -------------------------------------------------------------------------------------------------


def configure_log(level: str) -> None:
    """Log to stderr from `level` on, without secrets, unless the runtime has decided how to log."""
    if structlog.is_configured():
        return
    known = logging.getLevelNamesMapping()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            lambda _logger, _method, event: {
                name: without_secrets(value) if isinstance(value, str) else value
                for name, value in event.items()
            },
            structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, pad_level=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(known.get(level.upper(), logging.INFO)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


# -- what is told --------------------------------------------------------------------------------------------


def delegation_results() -> str:
    """Results of delegated tasks that the runtime has kept for the next prompt; "" for none."""
    return str(_called(("executor_helpers", "read_delegation_results"))() or "")


def agent_started(starts: int) -> None:
    """A codex child runs; `starts` counts them, 1 for the first."""
    _called(("wedge", "clear_wedge"), ("runtime_wedge", "clear_wedge"))()
    if starts > 1:
        _called(("metrics", "child_restarted"))()


def agent_failing(failures: int, problem: str) -> None:
    """A codex child could not be started, `failures` times in a row."""
    if failures >= _FAILURES_BEFORE_WEDGED:
        _called(("wedge", "mark_wedged"), ("runtime_wedge", "mark_wedged"))(
            f"codex does not start: {problem}"
        )


def queue_changed(waiting: int) -> None:
    """So many messages wait for a turn."""
    _called(("metrics", "set_queue_depth"))(waiting)


def reporter_of_turns(heartbeat: object) -> Callable[[str], None]:
    """A function to call with what a turn is about when it begins, and with "" when it ends.

    The platform's own runtime counts the turns that its executors report, and sends each report at once; with
    none it takes a working agent for an idle one. The reports go out one after another and delay no turn. A
    runtime that counts turns by itself needs none.
    """
    report = _offered("executor_helpers", "set_current_task")
    if heartbeat is None or hasattr(heartbeat, "turn_started") or not inspect.iscoroutinefunction(report):
        return lambda _about: None
    last: asyncio.Task[None] | None = None

    async def send(about: str, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        try:
            await report(heartbeat, about)
        except Exception as error:  # noqa: BLE001 (a report that fails must not harm the turn)
            log.warning("turn.not_reported", reason=f"{type(error).__name__}: {error}")

    def told(about: str) -> None:
        nonlocal last
        last = asyncio.create_task(send(without_secrets(about), last), name="report of a turn")

    return told


def spending_told_by(meter: Meter) -> None:
    """The runtime reads from `meter` what its heartbeats, `/metrics` and own prompts need of the spending."""
    _called(("spending", "told_by"))(meter)


def tool_active() -> None:
    """A tool of the agent has begun or ended: the turn is alive, however long it is silent.

    The runtime names a file in MOLECULE_TOOL_ACTIVITY_FILE and looks at its time.
    """
    if name := os.environ.get("MOLECULE_TOOL_ACTIVITY_FILE", ""):
        with contextlib.suppress(OSError):  # a sign of life is nothing that a turn may fail for
            Path(name).touch(mode=0o600)


def health(*, ready: bool, detail: str = "") -> AdapterHealth:
    """The answer to a runtime that asks for the agent's health."""
    answer: AdapterHealth = _offered("adapters.base", "AdapterHealth")(ready=ready, detail=detail)
    return answer


def without_secrets(text: str) -> str:
    """`text` for a user: what an endpoint or codex said may quote a key."""
    redact = _offered("redaction", "redact")
    return str(redact(text)) if redact else _TOKEN.sub(MASK, text)
