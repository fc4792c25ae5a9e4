"""What workers need is loaded before they are forked, and every name in that list is a plugin."""

from __future__ import annotations

import os
import subprocess
import sys

from support.plugins import ROOT

SCRIPT = """
import sys
from ansible import constants
from ansible.plugins import loader
from ansible.plugins.loader import init_plugin_loader

init_plugin_loader()
loader.action_loader.add_directory("roles/codex_workspace/action_plugins")
preload = loader.callback_loader.get("preload")
unknown = [name for plugins, names in sys.modules[type(preload).__module__].USED.items() for name in names
           if not plugins.find_plugin(name)]
name = "ansible_collections.ansible.builtin.plugins.connection.ssh"
known = [constants.config.has_configuration_definition("connection", name)]
preload.v2_playbook_on_start(None)
known.append(constants.config.has_configuration_definition("connection", name))
print(*unknown, *known, any(module.startswith("ansible.plugins.filter.core") for module in sys.modules))
"""


def test_every_plugin_of_the_list_is_there_and_a_connections_options_are_known_afterwards() -> None:
    env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["False", "True", "True"], done.stdout + done.stderr
