"""Ask whether a URL answers: from the controller in process, or from the target."""

from __future__ import annotations

import http.client
from typing import Any

from ansible.module_utils.urls import open_url
from ansible.plugins.action import ActionBase

SECONDS = 10


class ActionModule(ActionBase):
    """Send a HEAD request.

    Arguments: ``url``; ``from_controller``, whether the controller asks, which takes no module, or the
    target.

    Returns: ``status``, the HTTP status, -1 where nothing answered; ``msg``, what went wrong, or empty. Does
    not fail, and works in check mode.
    """

    _VALID_ARGS = frozenset(("url", "from_controller"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send it, and say what came back."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        url = self._task.args["url"]
        if self._task.args["from_controller"]:
            status, message = ask(url)
        else:
            arguments = {"url": url, "method": "HEAD", "timeout": SECONDS}
            done = self._execute_module("ansible.builtin.uri", arguments, task_vars=task_vars)
            status = done.get("status", -1)
            message = done.get("msg", "") if done.get("failed") else ""
        result.update(changed=False, status=status, msg=message)
        return result


def ask(url: str) -> tuple[int, str]:
    """Return the status of a HEAD request and what went wrong; see `ActionModule`."""
    try:
        with open_url(url, method="HEAD", timeout=SECONDS) as response:
            return response.status, ""
    # An HTTPError is one of OSError too, and knows its status.
    except (OSError, ValueError, http.client.HTTPException) as error:
        return getattr(error, "code", -1), str(getattr(error, "reason", error) or error)
