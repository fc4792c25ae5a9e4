"""Ask a target about itself with one shell script, which needs no Python there."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Run a script and read the lines ``name=value`` that it prints.

    Arguments: ``script``, for the target's shell. It must change nothing: it runs in check mode, too.

    Returns: each ``name`` with its value, a string. Fails where the script does, with its ``stdout`` and
    ``msg``, what it said.
    """

    _VALID_ARGS = frozenset(("script",))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run it, and return what it found."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        # Ansible puts `&& sleep 0` after it, which must not begin a line.
        done = self._low_level_execute_command(self._task.args["script"].rstrip())
        if done["rc"] != 0:
            message = done["stderr"].strip() or f"it exited {done['rc']}"
            result.update(failed=True, changed=False, rc=done["rc"], stdout=done["stdout"], msg=message)
            return result
        pairs = (line.partition("=") for line in done["stdout_lines"])
        result.update({name: value for name, separator, value in pairs if separator}, changed=False)
        return result
