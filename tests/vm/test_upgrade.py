"""A host that is given something newer, or something that does not work."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.codex_workbench import PATIENCE
from support.responses_server import Answer, Gate, ResponsesServer
from support.vm_host import ROOT, VmHost
from support.workspace_container import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

LOCK = "/run/codex-workspace.lock"
FREE = f"flock --nonblock {LOCK} true"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A copy of the payload, to be changed."""
    return shutil.copytree(
        ROOT / "files", tmp_path / "files", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )


@pytest.fixture
async def as_before(workspace: VmHost) -> AsyncIterator[VmHost]:
    """The host, which is what it was when the test has ended."""
    yield workspace
    await workspace.provision()
    await workspace.ready()


async def begun(vm: VmHost, gate: Gate) -> asyncio.Task[str]:
    """A turn that stands at the gate."""
    asking = asyncio.create_task(vm.answer("count"))
    async with asyncio.timeout(PATIENCE):
        await gate.reached()
    return asking


async def held(vm: VmHost) -> bool:
    return await vm.sh(f"{FREE} && echo free", check=False) != "free"


async def test_a_newer_payload_takes_the_place_of_the_old_one_and_the_conversation_goes_on(
    as_before: VmHost, model: ResponsesServer, files: Path
) -> None:
    model.script(Answer.text("Noted."), Answer.text("You said seven."))
    assert await as_before.answer("my number is seven") == "Noted."
    before = await as_before.pid()
    (files / "app/new_module.py").write_text('"""Of a newer version."""\n')
    (files / "bin/new-command").write_text("#!/bin/sh\n")
    played = await as_before.provision("-e", f"codex_workspace_files_dir={files}")
    assert "Payload |" in played.output
    assert "Packages |" not in played.output, "what stands below the payload is left alone"
    assert await as_before.pid() not in (0, before)
    await as_before.sh("test -f /app/new_module.py -a -x /usr/local/bin/new-command")
    assert await as_before.answer("which number?") == "You said seven."
    assert "my number is seven" in str(model.requests[-1].body["input"])

    await as_before.provision()
    await as_before.sh("test ! -e /app/new_module.py -a ! -e /usr/local/bin/new-command")


async def test_another_codex_converges_in_place(as_before: VmHost) -> None:
    before = await as_before.pid()
    await as_before.provision("-e", "codex_workspace_codex_version=0.131.0")
    assert await as_before.sh("codex --version") == "codex-cli 0.131.0"
    assert await as_before.pid() not in (0, before)
    await as_before.provision()
    assert await as_before.sh("codex --version") == "codex-cli 0.130.0"


async def test_an_upgrade_that_fails_the_smoke_test_leaves_the_old_version_running(
    as_before: VmHost, model: ResponsesServer, files: Path
) -> None:
    before, start = await as_before.pid(), await as_before.sh("sha256sum /app/*.py /usr/local/bin/*")
    (files / "app/codex_auth_refresh.py").write_text("raise SystemExit(70)\n")
    (files / "app/adapter.py").write_text("")
    failed = await as_before.provision("-e", f"codex_workspace_files_dir={files}", code=2)
    assert "FATAL: codex_auth_refresh.sh --once exited 70" in failed.said
    assert "What was there before was put back, and runs." in failed.said
    assert await as_before.pid() == before
    assert await as_before.sh("sha256sum /app/*.py /usr/local/bin/*") == start
    await as_before.sh("systemctl restart codex-workspace")
    await as_before.ready()
    model.script(Answer.text("Still here."))
    assert await as_before.answer("are you there?") == "Still here."


async def test_an_upgrade_that_does_not_start_is_taken_back_and_the_old_version_started(
    as_before: VmHost, model: ResponsesServer, files: Path
) -> None:
    before = await as_before.pid()
    (files / "app/entrypoint.py").write_text('raise SystemExit("[start] broken on purpose")\n')
    failed = await as_before.provision("-e", f"codex_workspace_files_dir={files}", code=2)
    assert "codex-workspace.service does not start. Its last words: " in failed.said
    assert "[start] broken on purpose" in failed.said
    assert "What was there before was put back, and runs." in failed.said
    assert await as_before.pid() not in (0, before)
    await as_before.ready()
    model.script(Answer.text("Still here."))
    assert await as_before.answer("are you there?") == "Still here."


async def test_what_somebody_changed_on_the_host_is_put_right(as_before: VmHost) -> None:
    await as_before.sh("rm /etc/sudoers.d/agent-t4; echo 'broken' >>/app/adapter.py; rm -r /opt/molecule-venv/bin")
    assert (await as_before.provision()).changed > 0
    await as_before.sh("gosu agent sudo -n true; ! grep -q broken /app/adapter.py; workspace-python -c 'import a2a'")
    await as_before.ready()


async def test_a_restart_waits_for_the_turn_and_meanwhile_no_other_run_may_change_the_host(
    as_before: VmHost, model: ResponsesServer, files: Path
) -> None:
    gate = Gate()
    model.script(Answer(["One", gate, " two."]))
    asking = await begun(as_before, gate)
    before = await as_before.pid()
    (files / "app/new_module.py").write_text('"""Of a newer version."""\n')
    change = ("-e", f"codex_workspace_files_dir={files}")
    first = asyncio.create_task(as_before.provision(*change))
    await until(lambda: held(as_before), "the first run has the lock")

    second = await as_before.provision(*change, "-e", "codex_workspace_lock_wait_seconds=0", code=2)
    assert "another run has been changing this host since" in second.said
    assert not first.done()
    assert await as_before.pid() == before

    gate.open()
    assert await asking == "One two."
    assert (await first).code == 0
    assert await as_before.pid() not in (0, before)


async def test_a_run_that_was_killed_leaves_no_lock_and_the_next_one_repairs_the_host(
    as_before: VmHost, model: ResponsesServer, files: Path
) -> None:
    gate = Gate()
    model.script(Answer(["One", gate, " two."]))
    asking = await begun(as_before, gate)
    before = await as_before.pid()
    (files / "app/new_module.py").write_text('"""Of a newer version."""\n')
    run = await asyncio.create_subprocess_exec(
        *as_before.playbook("-e", f"codex_workspace_files_dir={files}"),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await until(lambda: held(as_before), "the run has the lock")

    async def unpacked() -> bool:
        return await as_before.sh("test -f /app/new_module.py && echo yes", check=False) == "yes"

    await until(unpacked, "the new payload is there")
    run.send_signal(signal.SIGKILL)
    await run.wait()

    async def free() -> bool:
        return not await held(as_before)

    await until(free, "the lock is free")
    gate.open()
    assert await asking == "One two."
    assert await as_before.pid() == before
    await as_before.sh("test -d /var/lib/codex-workspace/previous")
    assert (await as_before.provision()).changed > 0
    await as_before.sh("test ! -e /app/new_module.py -a ! -e /var/lib/codex-workspace/previous")


async def test_below_t4_the_agent_has_no_way_to_root_and_the_unit_is_strict(
    as_before: VmHost, model: ResponsesServer
) -> None:
    await as_before.provision("-e", "codex_workspace_t4_enabled=false")
    await as_before.ready()
    await as_before.sh("! gosu agent sudo -n true && ! id -nG agent | grep -qw docker")
    model.script(Answer.text("Hello."))
    assert await as_before.answer("hello") == "Hello."
    status = await as_before.sh(f"cat /proc/{await as_before.pid()}/status")
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
