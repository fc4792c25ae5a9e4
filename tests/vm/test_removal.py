"""What stays on a host from which the role takes itself away. Runs last: there is no workspace afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.vm_host import ROOT

if TYPE_CHECKING:
    from support.vm_host import VmHost

pytestmark = pytest.mark.anyio

ABSENT = ("-e", "codex_workspace_state=absent")
LISTING = (ROOT / "tests/support/host_files.sh").read_text()
# The agent's account and files, what an engine wrote, and the note of what the role made.
DATA = (
    *("/configs", "/workspace", "/home/agent", "/var/lib/codex-workspace", "/etc/docker", "/etc/cni"),
    *("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid"),
)


async def test_a_host_without_its_workspace_keeps_the_data_and_nothing_else(vm: VmHost) -> None:
    before = (vm.directory / f"{vm.name}.files").read_text().split("\n")
    await vm.sh("echo mine >/workspace/mine && echo mine >/usr/local/bin/of-somebody-else")
    assert (await vm.provision(*ABSENT)).changed == 1
    assert await vm.sh("cat /workspace/mine; ls -A /configs | head -n 1") != ""
    after = (await vm.sh(LISTING)).split("\n")
    differences = {line.split()[-1] for line in {line.strip() for line in before} ^ set(after) if line}
    differences.remove("/usr/local/bin/of-somebody-else")
    assert sorted(path for path in differences if not path.startswith(DATA)) == []
    assert await vm.sh("systemctl list-units --all 'codex-workspace*' --no-legend") == ""


async def test_a_second_removal_changes_nothing(vm: VmHost) -> None:
    assert (await vm.provision(*ABSENT)).changed == 0


async def test_a_purge_takes_the_data_that_the_role_made_a_place_for(vm: VmHost) -> None:
    assert (await vm.provision(*ABSENT, "-e", "codex_workspace_purge=true")).changed == 1
    await vm.sh("! getent passwd agent && test ! -e /configs -a ! -e /workspace -a ! -e /home/agent")
    await vm.sh("test ! -e /var/lib/codex-workspace -a ! -e /etc/docker")
