"""A host of a molecule scenario: reached over SSH as a user with sudo, provisioned by the real playbook.

The stand-in for the model listens on the gateway of docker's bridge, which a disposable host reaches as it
would reach the internet.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from support.workspace_container import CONFIG, docker, until

__all__ = ["Play", "VmHost"]

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300.0
UNIT = "codex-workspace.service"
_RECAP = re.compile(r"^(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Play:
    """How a run of a playbook ended. `changed` counts tasks on the host."""

    code: int
    output: str
    changed: int

    @property
    def said(self) -> str:
        """The output on one line, since Ansible wraps its messages."""
        return " ".join(self.output.split())


async def _run(*command: str, stdin: str = "", cwd: Path = ROOT) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        # Molecule asks for colours.
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate(stdin.encode())
    return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")


class VmHost:
    """One host, by its name in the scenario's inventory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.directory = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
        self.address = f"codex-workspace-host-{os.environ['MOLECULE_RUN']}-{name}"
        self._scenario = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])

    @property
    def ssh_options(self) -> list[str]:
        """What ssh needs to know, with one connection for all commands of a test run."""
        control = self.directory / f"test-{os.getpid()}-%C"
        return [
            *("-F", str(self.directory / "ssh_config")),
            *("-o", "ControlMaster=auto", "-o", f"ControlPath={control}", "-o", "ControlPersist=30"),
        ]

    async def sh(self, script: str, *, check: bool = True, stdin: str = "") -> str:
        """What a shell script prints there as root, stripped."""
        # A host may say something before it.
        mark = uuid.uuid4().hex
        remote = f"sudo -n sh -c {_quoted(f'echo {mark}; {script}')}"
        code, out, err = await _run("ssh", *self.ssh_options, self.address, remote, stdin=stdin)
        assert code == 0 or not check, f"{script}\n{out}{err}"
        return out.partition(mark)[2].strip()

    def playbook(self, *options: str, name: str = "provision") -> list[str]:
        """The command line that runs a playbook on this host and no other."""
        inventories = (
            ROOT / "inventory/build.yml",
            ROOT / "molecule/shared/inventory",
            self._scenario / "inventory/hosts.yml",
        )
        command = ["ansible-playbook", *(f"--inventory={each}" for each in inventories)]
        return [*command, str(ROOT / f"playbooks/{name}.yml"), f"--limit=localhost,{self.name}", *options]

    async def provision(self, *options: str, code: int | None = 0) -> Play:
        """Run the role on this host; it must end with `code`, where one is given."""
        return await self._play("provision", *options, code=code)

    async def conformance(self, *options: str, code: int) -> Play:
        """Run the conformance gate on this host; it must end with `code`."""
        return await self._play("conformance", *options, code=code)

    async def _play(self, name: str, *options: str, code: int | None) -> Play:
        ended, out, err = await _run(*self.playbook(*options, name=name))
        assert code is None or ended == code, f"exit code {ended}\n{out[-6000:]}{err[-2000:]}"
        recap = {row[0]: int(row[2]) for row in _RECAP.findall(out)}
        return Play(ended, out + err, recap.get(self.name, 0))

    async def show(self, *names: str) -> dict[str, str]:
        """Properties of the service."""
        shown = await self.sh(f"systemctl show {UNIT} {' '.join(f'--property={name}' for name in names)}")
        return dict(line.split("=", 1) for line in shown.splitlines())

    async def pid(self) -> int:
        """Number of the service's main process; 0 if none runs."""
        return int((await self.show("MainPID"))["MainPID"])

    async def use(self, base_url: str) -> Self:
        """Let the workspace ask the stand-in at `base_url`, from its next start on."""
        await self.sh("cat >/configs/config.yaml", stdin=CONFIG.format(base_url=base_url))
        return self

    async def ready(self) -> None:
        """Wait until a message would be worked on."""

        async def answers() -> bool:
            return '"ready":true' in await self.sh("curl -s http://127.0.0.1:8000/readyz", check=False)

        await until(answers, f"{self.name} is ready")

    async def ask(self, text: str) -> dict[str, Any]:
        """Send `text` over A2A on the host itself, and return the task."""
        message = {"messageId": str(uuid.uuid4()), "role": "user", "parts": [{"kind": "text", "text": text}]}
        body = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": message}}
        answered = await self.sh(
            "curl -sS --max-time 120 http://127.0.0.1:8000/ -H 'Content-Type: application/json' -d @- "
            '-H "Authorization: Bearer $(cat /configs/.a2a_token)"',
            stdin=json.dumps(body),
        )
        task: dict[str, Any] = json.loads(answered)["result"]
        return task

    async def answer(self, text: str) -> str:
        """Send `text` and return the answer, which must be a success."""
        task = await self.ask(text)
        assert task["status"]["state"] == "completed", task
        return str(task["artifacts"][0]["parts"][0]["text"])

    async def reboot(self) -> None:
        """As a machine does: systemd stops everything, and boots anew."""
        await docker("restart", "--time", "60", self.address)

        async def up() -> bool:
            state = await self.sh("systemctl is-system-running --wait", check=False)
            return state in ("running", "degraded")

        await until(up, f"{self.name} has booted")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
