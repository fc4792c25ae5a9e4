"""Load plugins in Ansible's main process that each of its workers would load anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.plugins import loader
from ansible.plugins.callback import CallbackBase

if TYPE_CHECKING:
    from ansible.playbook import Playbook

DOCUMENTATION = r"""
name: preload
type: aggregate
short_description: Load plugins before workers are forked
description:
  - Ansible forks a worker for each task of each host. A worker has what the main process has loaded, and
    loads the rest by itself - modules of Python, and the documentation of connections, which has options.
  - That is a fifth of the controller's CPU time in a run that finds nothing to do.
  - Loads what the playbooks of this repository use. Nothing depends on it.
requirements: [enabled in C(callbacks_enabled)]
"""

USED = {
    loader.connection_loader: ["ansible.builtin.ssh", "community.docker.docker"],
    loader.shell_loader: ["ansible.builtin.sh"],
    loader.become_loader: ["ansible.builtin.sudo"],
    loader.lookup_loader: [
        f"ansible.builtin.{name}" for name in ("env", "file", "fileglob", "template", "varnames")
    ],
    loader.action_loader: [
        *(f"ansible.builtin.{name}" for name in ("assert", "fail", "set_fact")),
        *("image_layers", "probe", "settings", "target_shell", "unpack"),
    ],
}


class CallbackModule(CallbackBase):
    """See DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "preload"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        """Load them. One that is not installed is passed over: who needs it says so."""
        for plugins, names in USED.items():
            for name in names:
                plugins.get(name, class_only=True)
        # Filters and tests come by the file, and most files are Ansible's own.
        for plugins in (loader.filter_loader, loader.test_loader):
            list(plugins.all())
