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
