"""Run the controller's docker command in process: a task costs what docker takes, and no module's start."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Run ``docker`` with the arguments in ``argv`` (list of strings).

    ``config`` is a directory that stands in for the client's own configuration. Whoever makes a container
    that is committed gives that of `build_session`: the client adds what the user's own says.

    With ``wait: false`` the command goes on by itself, for what nothing waits for: its result is not known.

    Returns: ``rc``, ``stdout``, ``stdout_lines`` and ``at``, the time of the start in seconds of the epoch.
    Fails with what docker said. Does nothing in check mode, unless the task says ``check_mode: false``.
    """

    _requires_connection = False
    _VALID_ARGS = frozenset(("argv", "config", "wait"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the command; it is scratch of the build, so nothing is reported as changed."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        result["at"] = time.time()
        argv = ["docker", *(str(argument) for argument in self._task.args["argv"])]
        config = self._task.args.get("config")
        env = {**os.environ, "DOCKER_CONFIG": config} if config else None
        if self._task.check_mode:
            result.update(changed=False, skipped=True)
            return result
        if not self._task.args.get("wait", True):
            quiet = subprocess.DEVNULL
            subprocess.Popen(argv, env=env, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
            result.update(changed=False)
            return result
        try:
            done = subprocess.run(
                argv, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
            )
        except FileNotFoundError:
            result.update(failed=True, rc=127, msg="there is no docker command on PATH")
            return result
        if done.returncode != 0:
            # Not raised: a task may decide by `failed_when` what it makes of it.
            result.update(
                failed=True, msg=f"{' '.join(argv[:2])} exited {done.returncode}: {done.stderr.strip()}"
            )
        result.update(
            changed=False,
            rc=done.returncode,
            stdout=done.stdout.strip(),
            stdout_lines=done.stdout.split("\n")[:-1],
        )
        return result
