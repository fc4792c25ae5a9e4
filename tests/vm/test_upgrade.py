"""A host that is given something newer, or something that does not work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.responses_server import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from support.responses_server import ResponsesServer
    from support.vm_host import VmHost

pytestmark = pytest.mark.anyio


async def test_a_newer_payload_takes_the_place_of_the_old_one_and_the_conversation_goes_on(
    workspace: VmHost, model: ResponsesServer, files: Path
) -> None:
    model.script(Answer.text("Noted."), Answer.text("You said seven."))
    assert await workspace.answer("my number is seven") == "Noted."
    before = await workspace.pid()
    (files / "app/new_module.py").write_text('"""Of a newer version."""\n')
    (files / "bin/new-command").write_text("#!/bin/sh\n")
    played = await workspace.provision("-e", f"codex_workspace_files_dir={files}")
    assert "Payload |" in played.output
    assert "Packages |" not in played.output, "what stands below the payload is left alone"
    assert await workspace.pid() not in (0, before)
    await workspace.sh("test -f /app/new_module.py -a -x /usr/local/bin/new-command")
    assert await workspace.answer("which number?") == "You said seven."
    assert "my number is seven" in str(model.requests[-1].body["input"])

    await workspace.provision()
    await workspace.sh("test ! -e /app/new_module.py -a ! -e /usr/local/bin/new-command")


async def test_another_codex_converges_in_place(workspace: VmHost) -> None:
    before = await workspace.pid()
    await workspace.provision("-e", "codex_workspace_codex_version=0.131.0")
    assert await workspace.sh("codex --version") == "codex-cli 0.131.0"
    assert await workspace.pid() not in (0, before)
    await workspace.provision()
    assert await workspace.sh("codex --version") == "codex-cli 0.130.0"


async def test_an_upgrade_that_fails_the_smoke_test_leaves_the_old_version_running(
    workspace: VmHost, model: ResponsesServer, files: Path
) -> None:
    before, start = await workspace.pid(), await workspace.sh("sha256sum /app/*.py /usr/local/bin/*")
    (files / "app/codex_auth_refresh.py").write_text("raise SystemExit(70)\n")
    (files / "app/adapter.py").write_text("")
    failed = await workspace.provision("-e", f"codex_workspace_files_dir={files}", code=2)
    assert "FATAL: codex_auth_refresh.sh --once exited 70" in failed.said
    assert "What was there before was put back, and runs." in failed.said
    assert await workspace.pid() == before
    assert await workspace.sh("sha256sum /app/*.py /usr/local/bin/*") == start
    await workspace.sh("systemctl restart codex-workspace")
    await workspace.ready()
    model.script(Answer.text("Still here."))
    assert await workspace.answer("are you there?") == "Still here."


async def test_an_upgrade_that_does_not_start_is_taken_back_and_the_old_version_started(
    workspace: VmHost, model: ResponsesServer, files: Path
) -> None:
    before = await workspace.pid()
    (files / "app/entrypoint.py").write_text('raise SystemExit("[start] broken on purpose")\n')
    failed = await workspace.provision("-e", f"codex_workspace_files_dir={files}", code=2)
    assert "codex-workspace.service does not start. Its last words: " in failed.said
    assert "[start] broken on purpose" in failed.said
    assert "What was there before was put back, and runs." in failed.said
    assert await workspace.pid() not in (0, before)
    await workspace.ready()
    model.script(Answer.text("Still here."))
    assert await workspace.answer("are you there?") == "Still here."


async def test_below_t4_the_agent_has_no_way_to_root_and_the_unit_is_strict(
    workspace: VmHost, model: ResponsesServer
) -> None:
    await workspace.provision("-e", "codex_workspace_t4_enabled=false")
    await workspace.ready()
    await workspace.sh("! gosu agent sudo -n true && ! id -nG agent | grep -qw docker")
    model.script(Answer.text("Hello."))
    assert await workspace.answer("hello") == "Hello."
    status = await workspace.sh(f"cat /proc/{await workspace.pid()}/status")
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
