"""Name a build, and see to it that nothing of it outlives the playbook, however the playbook ends."""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
from typing import Any

from ansible.plugins.action import ActionBase

# Ansible runs no `always` when it is interrupted or killed. This waits beside it and tidies up after it,
# until all has been quiet for a while: a killed playbook leaves its last module running, which may be about to
# start a container.
REAPER = """
while kill -0 "$1" 2>/dev/null; do sleep 1; done
rm -rf "$3"
quiet=0
while [ "$quiet" -lt 10 ]; do
  quiet=$((quiet + 1))
  containers=$(docker ps --all --quiet --filter "name=^$2-")
  test -z "$containers" || { docker rm --force $containers; quiet=0; }
  docker volume rm --force "$2"
  sleep 1
done
"""


class ActionModule(ActionBase):
    """Start a build's session.

    Returns: ``build_id``, the name of the build's volume and, with a hyphen, the prefix of its containers'
    names; ``scratch``, a new directory on the controller that goes with the build.
    """

    _requires_connection = False
    _VALID_ARGS: frozenset[str] = frozenset()

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Choose the name, and start the reaper in a session of its own."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        build_id = f"codex-workspace-build-{secrets.token_hex(5)}"
        scratch = tempfile.mkdtemp(prefix=f"{build_id}-")
        subprocess.Popen(
            ["sh", "-c", REAPER, "reaper", str(os.getppid()), build_id, scratch],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        result.update(changed=False, build_id=build_id, scratch=scratch)
        return result
