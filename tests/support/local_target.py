"""Tasks of this repository's plugins on this machine, as Ansible runs them on a target."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from support.plugins import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Target"]


class Target:
    """Runs playbooks of tasks; `root` is a directory for them, and for what they make."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(
        self, *tasks: dict[str, Any], check: bool = False, vars_files: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Run the tasks in one playbook, with the variables of these files, and return what each reports."""
        report = self.root / "report.json"
        steps: list[dict[str, Any]] = []
        for number, task in enumerate(tasks):
            steps.append({**task, "register": f"task{number}", "ignore_errors": True})
        results = ", ".join(f"task{number}" for number in range(len(tasks)))
        steps.append(
            {
                "ansible.builtin.copy": {"content": "{{ [" + results + "] | to_json }}", "dest": str(report)},
                "check_mode": False,
            }
        )
        play = self.root / "play.yml"
        variables = {"vars_files": list(vars_files)} if vars_files else {}
        play.write_text(
            json.dumps([{"hosts": "localhost", "gather_facts": False, **variables, "tasks": steps}])
        )
        python = f"--extra-vars=ansible_python_interpreter={sys.executable}"
        command = ["ansible-playbook", "--connection=local", "--inventory=localhost,", python, str(play)]
        done = subprocess.run(
            [*command, *(["--check"] if check else [])],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found: list[dict[str, Any]] = json.loads(report.read_text())
        return found
