"""Run the controller's docker command in process: a task costs what docker takes, and no module's start."""

from __future__ import annotations

import subprocess
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Run ``docker`` with the arguments in ``argv`` (list of strings).

    Returns: ``stdout`` and ``stdout_lines``. Fails with what docker said. Does nothing in check mode.
    """

    _requires_connection = False
    _VALID_ARGS = frozenset(("argv",))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the command; it is scratch of the build, so nothing is reported as changed."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        argv = ["docker", *(str(argument) for argument in self._task.args["argv"])]
        if self._task.check_mode:
            result.update(changed=False, skipped=True)
            return result
        done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            message = f"{' '.join(argv)} exited {done.returncode}: {done.stderr.strip()}"
            raise AnsibleActionFail(message)
        result.update(changed=False, stdout=done.stdout.strip(), stdout_lines=done.stdout.split("\n")[:-1])
        return result
