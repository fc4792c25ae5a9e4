"""The workspace as a service of a host."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import pytest
import yaml

from support.codex_workbench import PATIENCE
from support.responses_server import Answer, Call, Gate, ResponsesServer
from support.vm_host import ROOT, UNIT, VmHost
from support.workspace_container import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

VARS = yaml.safe_load((ROOT / "molecule/vm/inventory/hosts.yml").read_text())
VARS = VARS["molecule"]["children"]["t4_hosts"]["vars"]
SECRETS: dict[str, str] = VARS["codex_workspace_service_credentials"]
AWKWARD: str = VARS["codex_workspace_service_environment"]["VM_AWKWARD"]


async def test_the_service_is_enabled_and_says_itself_that_it_serves(workspace: VmHost) -> None:
    shown = await workspace.show("Type", "ActiveState", "UnitFileState", "StatusText")
    assert (shown["Type"], shown["ActiveState"], shown["UnitFileState"]) == ("notify", "active", "enabled")
    assert shown["StatusText"] == "serving A2A on port 8000, ready"


async def test_the_main_process_and_all_others_belong_to_the_agent(workspace: VmHost) -> None:
    agent = await workspace.sh("id -u agent")
    assert await workspace.sh(f"stat -c %u /proc/{await workspace.pid()}") == agent
    group = (await workspace.show("ControlGroup"))["ControlGroup"]
    owners = await workspace.sh(
        f"for p in $(cat /sys/fs/cgroup{group}/cgroup.procs); do stat -c %u /proc/$p; done"
    )
    assert set(owners.split()) == {agent}


async def test_an_a2a_message_is_answered_by_the_real_codex(
    workspace: VmHost, model: ResponsesServer
) -> None:
    model.script(Answer.text("Hello from a host."))
    assert await workspace.answer("hello") == "Hello from a host."
    assert model.requests[0].last_user_text == "hello"


async def test_a_command_of_the_model_becomes_root_of_the_whole_host(
    workspace: VmHost, model: ResponsesServer
) -> None:
    """What the unit restricts narrows nothing of T4: the capabilities and the file system are the host's."""
    probe = "grep -h -e CapBnd -e NoNewPrivs /proc/self/status; stat -Lc %i /proc/self/ns/mnt; id -u"
    model.script(Call("exec_command", {"cmd": f"sudo -n sh -c '{probe}'"}), Answer.text("Done."))
    assert await workspace.answer("become root") == "Done."
    (output,) = model.requests[1].tool_outputs.values()
    of_the_host = await workspace.sh(f"nsenter --target 1 --mount sh -c '{probe}'")
    assert of_the_host in str(output)


async def test_settings_and_secrets_are_for_root_alone(workspace: VmHost) -> None:
    files = await workspace.sh("find /etc/codex-workspace -printf '%m %u %p\\n' | sort -k 3")
    assert files.splitlines() == [
        "700 root /etc/codex-workspace",
        "700 root /etc/codex-workspace/credentials",
        *(f"600 root /etc/codex-workspace/credentials/{name}" for name in sorted(SECRETS)),
        "600 root /etc/codex-workspace/workspace.env",
    ]


async def test_no_secret_is_in_the_unit_the_journal_or_what_systemctl_shows(workspace: VmHost) -> None:
    for command in (
        f"systemctl cat {UNIT}",
        f"systemctl show {UNIT}",
        f"systemctl status {UNIT} --full --no-pager",
        "cat /etc/codex-workspace/workspace.env",
        "journalctl --no-pager",
        "cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
    ):
        shown = await workspace.sh(command)
        assert shown
        # sshd's and sudo's lines of this test hold none of them either.
        assert [
            name for name, value in SECRETS.items() if value.splitlines()[0] in shown and len(value) >= 8
        ] == []


async def test_the_journal_tells_the_story_of_the_boot(workspace: VmHost) -> None:
    journal = await workspace.sh(f"journalctl --unit {UNIT} --boot --output cat")
    assert f"[start] workspace {workspace.name}, platform off" in journal
    assert "serving A2A" in journal


async def test_each_variable_arrives_as_it_was_given(workspace: VmHost) -> None:
    environment = await workspace.sh(f"tr '\\0' '\\n' </proc/{await workspace.pid()}/environ")
    assert f"VM_AWKWARD={AWKWARD}" in environment.splitlines()
    assert "VM_TWO_LINES=one\ntwo" in environment
    assert "STANDIN_KEY" not in environment, (
        "of a provider's credential, the runtime's environment knows nothing"
    )


async def test_the_watchdog_runs_once_where_the_agent_has_signed_in(workspace: VmHost) -> None:
    home = "/home/agent/.codex"
    tokens = dict.fromkeys(("id_token", "access_token"), "a.b.c")
    await workspace.sh(
        f"cat >{home}/auth.json && chown agent {home}/auth.json && systemctl restart {UNIT}",
        stdin=json.dumps({"auth_mode": "chatgpt", "tokens": {**tokens, "refresh_token": "r"}}),
    )
    try:
        started = f"ps --ppid {await workspace.pid()} -o args= | grep 'codex_auth_refresh.sh --supervise$'"

        async def watched() -> bool:
            return await workspace.sh(started, check=False) != ""

        await until(watched, "the watchdog runs")
        assert len((await workspace.sh(started)).splitlines()) == 1
        assert await workspace.sh("systemctl list-timers --all | grep -c codex; true") == "0"
    finally:
        await workspace.sh(f"rm {home}/auth.json && systemctl restart {UNIT}")
    await workspace.ready()


async def test_a_workspace_that_dies_is_started_again_and_goes_on(
    workspace: VmHost, model: ResponsesServer
) -> None:
    model.script(Answer.text("Noted."), Answer.text("You said blue."))
    assert await workspace.answer("my colour is blue") == "Noted."
    before = await workspace.pid()
    await workspace.sh(f"kill -KILL {before}")

    async def another() -> bool:
        return await workspace.pid() not in (0, before)

    await until(another, "systemd starts it again")
    await workspace.ready()
    assert await workspace.answer("which colour?") == "You said blue."
    assert "my colour is blue" in str(model.requests[-1].body["input"])


@pytest.fixture
async def without_an_id(workspace: VmHost) -> AsyncIterator[VmHost]:
    """A setting that no restart mends, laid over the unit as an operator would."""
    drop_in = f"/run/systemd/system/{UNIT}.d"
    script = f"mkdir -p {drop_in}; printf '[Service]\\nUnsetEnvironment=WORKSPACE_ID\\n' >{drop_in}/test.conf"
    await workspace.sh(f"{script}; systemctl daemon-reload")
    yield workspace
    await workspace.sh(f"rm -r {drop_in}; systemctl daemon-reload; systemctl restart {UNIT}")
    await workspace.ready()


async def test_what_no_restart_mends_is_not_tried_again(without_an_id: VmHost) -> None:
    await without_an_id.sh(f"systemctl restart {UNIT}", check=False)
    shown = await without_an_id.show("ActiveState", "Result", "ExecMainStatus", "NRestarts")
    assert (shown["ActiveState"], shown["ExecMainStatus"], shown["NRestarts"]) == ("failed", "2", "0")


async def test_a_stop_lets_the_workspace_end_its_turns(workspace: VmHost, model: ResponsesServer) -> None:
    gate = Gate()
    model.script(Answer(["One", gate]))
    asking = asyncio.create_task(workspace.ask("count"))
    async with asyncio.timeout(PATIENCE):
        await gate.reached()
    await workspace.sh(f"systemctl restart {UNIT}")
    task = await asking
    assert task["status"]["state"] in ("failed", "canceled")
    shown = await workspace.show("Result")
    assert shown["Result"] == "success"
    await workspace.ready()


async def test_a_second_run_changes_nothing_and_leaves_the_workspace_running(workspace: VmHost) -> None:
    before = await workspace.pid()
    assert (await workspace.provision()).changed == 0
    assert await workspace.pid() == before


async def test_a_run_that_looks_at_everything_changes_nothing_either(workspace: VmHost) -> None:
    before = await workspace.pid()
    assert (await workspace.provision("-e", "codex_workspace_cache_enabled=false")).changed == 0
    assert await workspace.pid() == before


async def test_what_somebody_changed_on_the_host_is_put_right(workspace: VmHost) -> None:
    await workspace.sh(
        "rm /etc/sudoers.d/agent-t4; echo 'broken' >>/app/adapter.py; rm -r /opt/molecule-venv/bin"
    )
    assert (await workspace.provision()).changed > 0
    await workspace.sh(
        "gosu agent sudo -n true; ! grep -q broken /app/adapter.py; workspace-python -c 'import a2a'"
    )
    await workspace.ready()


async def test_after_a_reboot_it_serves_again_and_the_conversation_goes_on(
    workspace: VmHost, model: ResponsesServer
) -> None:
    model.script(Answer.text("Noted."), Answer.text("You said green."))
    assert await workspace.answer("my other colour is green") == "Noted."
    await workspace.reboot()
    await workspace.ready()
    assert await workspace.answer("which other colour?") == "You said green."
    assert "my other colour is green" in str(model.requests[-1].body["input"])


async def test_systemd_finds_nothing_wrong_with_the_unit(workspace: VmHost) -> None:
    assert await workspace.sh(f"systemd-analyze verify /etc/systemd/system/{UNIT} 2>&1") == ""
    exposure = await workspace.sh(f"systemd-analyze security {UNIT} --no-pager | tail -n 1")
    assert re.search(r"exposure level for codex-workspace\.service: [0-9.]+", exposure)
