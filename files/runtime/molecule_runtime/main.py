"""`molecule-runtime`: the boot order, from the environment to a served port, and back down.

Exit codes: 0 stopped on request; 1 the smoke run failed, or serving ended by itself; 2 the environment
cannot be used; 3 the port cannot be bound. Everything else that is wrong is served: `POST /` answers 503
with the reason, `/readyz` says it too.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

from molecule_runtime import __version__, configs_dir, logs
from molecule_runtime.boot import Boot
from molecule_runtime.environment import Environment, EnvironmentVariableError
from molecule_runtime.listener import open_listener
from molecule_runtime.smoke import smoke

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

EXIT_FAILED = 1
EXIT_ENVIRONMENT = 2
EXIT_PORT = 3

_log = logs.get_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the workspace until SIGTERM or SIGINT. Returns the exit code."""
    if "--version" in (sys.argv[1:] if arguments is None else arguments):
        sys.stdout.write(f"molecule-runtime {__version__}\n")
        return 0
    logs.configure()
    try:
        env = Environment.read()
    except EnvironmentVariableError as error:
        _log.error(f"[FAIL] {error}")
        return EXIT_ENVIRONMENT
    try:
        configs_dir.resolve()
    except OSError as error:
        _log.error(f"[FAIL] the configs directory cannot be made ({error}); set CONFIGS_DIR to one that can")
        return EXIT_ENVIRONMENT
    return asyncio.run(_run(env))


async def _run(env: Environment) -> int:
    # As PID 1 a process without a handler does not even notice SIGTERM, so the handlers come first.
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    boot = Boot(env)
    if not await boot.prepare_unless(stop):
        return 0
    if env.smoke:
        return await smoke(boot)
    try:
        listener = open_listener("0.0.0.0", boot.port)
    except OSError as error:
        _log.error(
            f"[FAIL] port {boot.port} cannot be bound ({error.strerror}); stop what uses it, or set a2a.port"
        )
        return EXIT_PORT
    return 0 if await boot.serve(listener, stop) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
