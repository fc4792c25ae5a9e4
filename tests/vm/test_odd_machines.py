"""Machines whose logins speak, whose programs speak German, and whose administrators have been there.

None of it is an answer to the role: a run finds nothing to do, or does what it would do elsewhere.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.vm_host import VmHost

pytestmark = pytest.mark.anyio

# What sudo says where the host's own name is not known, and where a file of somebody else is broken; what a
# profile says, on both streams and without an end of its line; words that a careless reader takes for facts.
NOISE = """
set -eu
cp /home/admin/.bashrc /root/bashrc; cp /etc/environment /root/environment; cp /etc/hosts /root/hosts
sed -i '1i echo "changed"; echo "release=99"; printf "uid=7"; umask 077; echo "warning: setlocale" >&2' \
  /home/admin/.bashrc
printf 'LANG=de_DE.UTF-8\\nLC_ALL=de_DE.UTF-8\\nLANGUAGE=de\\n' >>/etc/environment
sed "/$(hostname)/d" /root/hosts >/etc/hosts
echo 'Defaults umask=0077, umask_override' >/etc/sudoers.d/of-somebody-else
echo 'broken ALL=(' >/etc/sudoers.d/of-somebody-else-broken
mount -o remount,hidepid=2 /proc
echo 'MaxSessions 1' >/etc/ssh/sshd_config.d/one.conf && systemctl reload ssh
printf 'omit=optional\\nbin-links=false\\n' >/root/.npmrc
"""
QUIET = """
cp /root/bashrc /home/admin/.bashrc; cp /root/environment /etc/environment; cp /root/hosts /etc/hosts
mount -o remount,hidepid=0 /proc
rm /etc/sudoers.d/of-somebody-else* /etc/ssh/sshd_config.d/one.conf /root/.npmrc && systemctl reload ssh
"""
# The role's state on a file system of its own, as where /var is one.
STATE = "/var/lib/codex-workspace"
MOVE = f"cp -a {STATE} /root/state && mount -t tmpfs -o mode=700 tmpfs {STATE} && cp -a /root/state/. {STATE}"
MOVE_BACK = f"""
rm -rf /root/state && cp -a {STATE} /root/state && umount {STATE}
rm -rf {STATE} && mv /root/state {STATE}
"""


@pytest.fixture
async def noisy(workspace: VmHost) -> AsyncIterator[VmHost]:
    await workspace.sh(NOISE)
    yield workspace
    await workspace.sh(QUIET)


async def test_no_noise_changes_a_decision(noisy: VmHost) -> None:
    await noisy.provision()  # Another test may have left it otherwise.
    before = await noisy.pid()
    assert (await noisy.provision()).changed == 0
    assert (await noisy.provision("-e", "codex_workspace_cache_enabled=false")).changed == 0
    assert await noisy.pid() == before


async def test_an_installation_anew_is_the_agents_to_run_and_takes_only_its_own_scratch_away(
    noisy: VmHost,
) -> None:
    """All of codex and Python, where root's umask is 077 and links do not reach the state's file system."""
    await noisy.sh(MOVE)
    await noisy.sh("mkdir /srv/own && echo keep >/srv/own/keep && echo keep >/srv/keep && chmod 755 /srv")
    await noisy.sh("rm -r /opt/molecule-venv /usr/lib/node_modules/@openai /usr/bin/codex")
    listing = await noisy.sh("find /srv | sort")
    environment = {"WORKSPACE_ID": noisy.name, "PLATFORM_URL": False, "TIER": 4}
    try:
        played = await noisy.provision(
            *("-e", "codex_workspace_scratch=/srv"),
            *("-e", json.dumps({"codex_workspace_service_environment": environment})),
        )
        assert played.changed > 0
        assert await noisy.sh("find /srv | sort") == listing
        await noisy.sh("rm -r /srv/own /srv/keep")
        assert await noisy.sh("gosu agent codex --version") == "codex-cli 0.130.0"
        written = await noisy.sh("cat /etc/codex-workspace/workspace.env")
        assert 'PLATFORM_URL="off"' in written
        assert 'TIER="4"' in written
        await noisy.ready()
    finally:
        await noisy.sh(MOVE_BACK)
    assert (await noisy.provision()).changed > 0, "the variables of before"
    await noisy.ready()


async def test_what_was_there_is_put_back_over_file_systems(noisy: VmHost, files: Path) -> None:
    before = await noisy.sh(
        "find /app -type f -name '*.py' | sort | xargs sha256sum; readlink -f /usr/bin/codex"
    )
    (files / "app/adapter.py").write_text("")
    (files / "app/codex_auth_refresh.py").write_text("raise SystemExit(70)\n")
    await noisy.sh(MOVE)
    try:
        failed = await noisy.provision("-e", f"codex_workspace_files_dir={files}", code=2)
    finally:
        await noisy.sh(MOVE_BACK)
    assert "What was there before was put back, and runs." in failed.said
    assert before == await noisy.sh(
        "find /app -type f -name '*.py' | sort | xargs sha256sum; readlink -f /usr/bin/codex"
    )
