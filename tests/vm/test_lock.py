"""Runs that meet, and runs that end before their end."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from support.codex_workbench import PATIENCE
from support.responses_server import Answer, Gate
from support.vm_host import ROOT
from support.workspace_container import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.responses_server import ResponsesServer
    from support.vm_host import VmHost

pytestmark = pytest.mark.anyio

FREE = "flock --nonblock /run/codex-workspace.lock true"


async def begun(vm: VmHost, gate: Gate) -> asyncio.Task[str]:
    """A turn that stands at the gate."""
    asking = asyncio.create_task(vm.answer("count"))
    async with asyncio.timeout(PATIENCE):
        await gate.reached()
    return asking


async def held(vm: VmHost) -> bool:
    return await vm.sh(f"{FREE} && echo free", check=False) != "free"


async def test_a_restart_waits_for_the_turn_and_meanwhile_no_other_run_may_change_the_host(
    workspace: VmHost, model: ResponsesServer, files: Path
) -> None:
    gate = Gate()
    model.script(Answer(["One", gate, " two."]))
    asking = await begun(workspace, gate)
    before = await workspace.pid()
    (files / "app/new_module.py").write_text('"""Of a newer version."""\n')
    change = ("-e", f"codex_workspace_files_dir={files}")
    first = asyncio.create_task(workspace.provision(*change))
    await until(lambda: held(workspace), "the first run has the lock")

    second = await workspace.provision(*change, "-e", "codex_workspace_lock_wait_seconds=0", code=2)
    assert "another run has been changing this host since" in second.said
    assert not first.done()
    assert await workspace.pid() == before

    gate.open()
    assert await asking == "One two."
    assert (await first).code == 0
    assert await workspace.pid() not in (0, before)


async def test_a_run_that_was_killed_leaves_no_lock_and_the_next_one_repairs_the_host(
    workspace: VmHost, model: ResponsesServer, files: Path
) -> None:
    gate = Gate()
    model.script(Answer(["One", gate, " two."]))
    asking = await begun(workspace, gate)
    before = await workspace.pid()
    (files / "app/newer_module.py").write_text('"""Of a newer version."""\n')
    run = await asyncio.create_subprocess_exec(
        *workspace.playbook("-e", f"codex_workspace_files_dir={files}"),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await until(lambda: held(workspace), "the run has the lock")

    async def unpacked() -> bool:
        return await workspace.sh("test -f /app/newer_module.py && echo yes", check=False) == "yes"

    await until(unpacked, "the new payload is there")
    run.send_signal(signal.SIGKILL)
    await run.wait()

    async def free() -> bool:
        return not await held(workspace)

    await until(free, "the lock is free")
    gate.open()
    assert await asking == "One two."
    assert await workspace.pid() == before
    await workspace.sh("test -d /var/lib/codex-workspace/previous")
    assert (await workspace.provision()).changed > 0
    await workspace.sh("test ! -e /app/newer_module.py -a ! -e /var/lib/codex-workspace/previous")
