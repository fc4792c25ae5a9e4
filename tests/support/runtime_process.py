"""`molecule-runtime` as a process of its own, for tests: started, waited for, stopped, its log kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from molecule_runtime.listener import open_listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

__all__ = ["RuntimeProcess", "free_port", "run_runtime"]

_REPOSITORY = Path(__file__).resolve().parents[2]
_PYTHONPATH = os.pathsep.join(
    str(_REPOSITORY / part) for part in ("files/runtime", "files/config_document", "files/app", "tests")
)


@dataclass
class RuntimeProcess:
    """A running workspace. `log` grows while it runs."""

    process: asyncio.subprocess.Process
    url: str
    log: list[str] = field(default_factory=list)
    grown: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def says(self, text: str) -> None:
        """Wait for a line with `text`."""
        async with asyncio.timeout(30), self.grown:
            await self.grown.wait_for(lambda: any(text in line for line in self.log))

    async def ready(self) -> httpx.Response:
        """The first answer of `/readyz`, as soon as the port is open. Fails if the process ends before."""
        async with httpx.AsyncClient(base_url=self.url) as http, asyncio.timeout(30):
            while True:
                try:
                    return await http.get("/readyz")
                except httpx.TransportError:
                    if self.process.returncode is not None:
                        raise AssertionError("\n".join(self.log)) from None
                    await asyncio.sleep(0.02)

    async def stop(self, number: int = signal.SIGTERM, seconds: float = 10.0) -> int:
        """Send the signal; the exit code. Fails if it takes longer than a container gets."""
        self.process.send_signal(number)
        async with asyncio.timeout(seconds):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def run_runtime(
    directory: Path, port: int, environment: Mapping[str, str]
) -> AsyncIterator[RuntimeProcess]:
    """Run the console script's module with nothing but `environment` and what Python needs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "molecule_runtime.main",
        cwd=directory,
        env={"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONPATH": _PYTHONPATH, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    running = RuntimeProcess(process, f"http://127.0.0.1:{port}")
    reading = asyncio.create_task(_read(running))
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await reading


async def _read(running: RuntimeProcess) -> None:
    assert running.process.stdout is not None
    while line := await running.process.stdout.readline():
        async with running.grown:
            running.log.append(line.decode().rstrip())
            running.grown.notify_all()


def free_port() -> int:
    """A port that was free a moment ago."""
    with open_listener("127.0.0.1", 0) as listener:
        port: int = listener.getsockname()[1]
        return port
