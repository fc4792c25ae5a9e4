"""Write the small files of a build on the controller, in one step and for its owner alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Write files and make directories, or remove them all with ``state: absent``.

    Arguments: ``path`` (an existing directory), ``files`` (dict of name and content; each is written with
    mode 0600, since an address may hold a password), ``directories`` (list of names; each gets mode 1777).
    """

    _requires_connection = False
    _VALID_ARGS = frozenset(("path", "files", "directories", "state"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write what the arguments say. Nothing is reported as changed: it is all scratch."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        root = Path(self._task.args["path"])
        if self._task.args.get("state") == "absent":
            shutil.rmtree(root)
            result.update(changed=False)
            return result
        for name, content in self._task.args["files"].items():
            descriptor = os.open(root / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(content or "")  # a template that renders to nothing comes as None
        for name in self._task.args["directories"]:
            (root / name).mkdir(parents=True)
            (root / name).chmod(0o1777)
        result.update(changed=False)
        return result
