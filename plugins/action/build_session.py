"""Name a build, and see to it that nothing of it outlives the playbook, however the playbook ends."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Ansible runs no `always` when it is interrupted or killed. This waits beside it and tidies up after it,
# until all has been quiet for a while: a killed playbook leaves its last module running, which may be about
# to start a container.
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


def bare_client(target: Path, client: dict[str, Any]) -> None:
    """Make a configuration of the docker client that reaches the same engine and does nothing else.

    The client lays the proxies of its ``config.json`` over the environment of each container that it makes,
    passwords too, and an image keeps the environment of the container that it is committed of.

    Args:
        target: The directory to make, for its owner alone.
        client: What the lookup ``docker_client`` returns.
    """
    target.mkdir(mode=0o700)
    # Contexts, certificates and plugins stay where they are.
    source = Path(client["directory"])
    try:
        entries = [entry for entry in source.iterdir() if entry.name != "config.json"]
    except OSError:  # there is no such directory, or not for this user: the client has nothing of it either
        entries = []
    for entry in entries:
        (target / entry.name).symlink_to(entry.absolute())
    descriptor = os.open(target / "config.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(client["reach"], file)


class ActionModule(ActionBase):
    """Start a build's session.

    Returns: ``build_id``, the name of the build's volume and, with a hyphen, the prefix of its containers'
    names; ``directory``, a new directory on the controller that goes with the build; in it ``scratch``, an
    empty one, and ``client``, a configuration of the docker client that adds nothing to containers.
    """

    _requires_connection = False
    _VALID_ARGS: frozenset[str] = frozenset()

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Choose the name, and start the reaper in a session of its own."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        build_id = f"codex-workspace-build-{secrets.token_hex(5)}"
        directory = Path(tempfile.mkdtemp(prefix=f"{build_id}-"))
        subprocess.Popen(
            ["sh", "-c", REAPER, "reaper", str(os.getppid()), build_id, str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        scratch, client = directory / "scratch", directory / "client"
        scratch.mkdir()
        (found,) = self._shared_loader_obj.lookup_loader.get("docker_client").run([])
        bare_client(client, found)
        result.update(
            changed=False,
            build_id=build_id,
            directory=str(directory),
            scratch=str(scratch),
            client=str(client),
        )
        return result
