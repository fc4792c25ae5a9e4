"""The conformance gate as a user runs it, on the disposable host of molecule/t4, which sets the variables."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """What a run of the gate came to.

    Attributes:
        code: Exit code of the playbook.
        output: All that it printed.
        failed: By host, the names of the assertions that its JUnit XML calls failed.
        assertions: By host, how many assertions its JUnit XML has.
    """

    code: int
    output: str
    failed: dict[str, set[str]]
    assertions: dict[str, int]


def image_id(name: str) -> str:
    """The ID of an image of this machine's engine, which is the same on every engine."""
    argv = ["docker", "image", "inspect", "--format", "{{.Id}}", name]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


class Gate:
    """`playbooks/conformance.yml` and the host that it looks at."""

    def __init__(self, reports: Path) -> None:
        self.host = os.environ["CONFORMANCE_HOST"]
        self.address = os.environ["CONFORMANCE_ADDRESS"]
        self.inventories = os.environ["CONFORMANCE_INVENTORIES"].split(":")
        self.image = image_id(os.environ["CONFORMANCE_IMAGE"])
        self._ssh = ["ssh", *shlex.split(os.environ["CONFORMANCE_SSH_OPTIONS"]), self.address]
        self._reports = reports

    def ssh(self, command: str, stdin: str = "") -> str:
        """What a command of the host's root prints, stripped. A failure is an error."""
        argv = [*self._ssh, f"sudo sh -euc {shlex.quote(command)}"]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def state(self) -> str:
        """All that a run of the gate could leave on the host."""
        engine = (
            "docker ps --all --format '{{.Names}}'; docker volume ls --quiet; docker image ls --all --quiet"
        )
        return self.ssh(f"{{ {engine}; find /tmp /var/tmp -name 'codex-workspace-*'; }} | sort")

    def run(self, *options: str, inventories: list[str] | None = None, **variables: str) -> Outcome:
        """Run the gate; `variables` are those of the playbook without the prefix of their names."""
        for report in self._reports.iterdir():
            report.unlink()
        given = {"report_dir": str(self._reports), **variables}
        argv = ["ansible-playbook", *(f"--inventory={one}" for one in inventories or self.inventories)]
        argv += [f"--extra-vars=codex_workspace_conformance_{name}={value}" for name, value in given.items()]
        done = subprocess.run(
            [*argv, *options, "playbooks/conformance.yml"],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        reports = {report.stem: ElementTree.parse(report) for report in self._reports.iterdir()}
        cases = {host: report.findall(".//testcase") for host, report in reports.items()}
        return Outcome(
            done.returncode,
            done.stdout + done.stderr,
            {
                host: {str(case.get("name")) for case in those if case.find("failure") is not None}
                for host, those in cases.items()
            },
            {host: len(those) for host, those in cases.items()},
        )


@pytest.fixture(scope="session")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    return Gate(tmp_path_factory.mktemp("reports"))
