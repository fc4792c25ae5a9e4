"""Ask a target about itself with one shell script, which needs no Python there."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Run a script as `target_shell` does, and read the lines ``name=value`` that it prints.

    Arguments: ``script``. It must change nothing: it runs in check mode, too.

    Returns: each ``name`` with its value, a string. Fails where the script does, with its ``rc`` and
    ``stdout``, ``started``, whether it began, and ``msg``, what it said.
    """

    _VALID_ARGS = frozenset(("script",))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run it, and return what it found."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        shell = self._shared_loader_obj.action_loader.get(
            "target_shell",
            task=self._task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        done = shell.execute(self._task.args["script"], task_vars or {})
        if done["rc"] != 0:
            message = done["stderr"].strip() or f"it exited {done['rc']}"
            found = {name: done[name] for name in ("started", "rc", "stdout")}
            result.update(failed=True, changed=False, msg=message, **found)
            return result
        pairs = (line.partition("=") for line in done["stdout_lines"])
        result.update({name: value for name, separator, value in pairs if separator}, changed=False)
        return result
