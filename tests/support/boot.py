"""The real `start.sh`, its fixed paths moved below a directory; codex and the runtime are stand-ins."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Boot", "Machine"]

_FILES = Path(__file__).parents[2] / "files"
_PLATFORM_PACKAGES = {
    "x86_64": "codex-linux-x64/vendor/x86_64-unknown-linux-musl",
    "aarch64": "codex-linux-arm64/vendor/aarch64-unknown-linux-musl",
}
_CODEX = '#!/bin/sh\necho "codex-cli 0.130.0"\n'
# What the runtime does with its environment, and all that can be seen of it from outside.
_RUNTIME = """\
#!{python}
import json, os, sys
sys.path.insert(0, {app!r})
from credentials import environment
seen = dict(os.environ)
with open({record!r}, "w") as file:
    given = environment()
    json.dump({{"environment": seen, "given": given, "after": dict(os.environ), "pid": os.getpid()}}, file)
"""

# Writes its arguments, its environment and its open files.
_WATCHDOG = (
    '#!/bin/bash\n{{ echo "$@"; env; ls -l /proc/$$/fd; }} >"{record}.new"\nmv "{record}.new" "{record}"\n'
)


@dataclass(frozen=True)
class Boot:
    """How a boot ended. `lines` are those of the entry point, without their mark."""

    code: int
    output: str
    log: str

    @property
    def lines(self) -> list[str]:
        """What the entry point said."""
        mark = "[start] "
        return [line.removeprefix(mark) for line in self.log.splitlines() if line.startswith(mark)]


class Machine:
    """`run` boots it. As root the agent is root as well, unless `env` names another."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.configs, self.workspace, self.socket = root / "configs", root / "workspace", root / "docker.sock"
        self.home = root / "home"
        self.codex_home = self.home / ".codex"
        self.bin = root / "bin"
        self._record = root / "record.json"
        self._started: list[subprocess.Popen[str]] = []
        for directory in (self.configs, self.home, self.bin, root / "files/bin"):
            directory.mkdir(parents=True)
        for source, copy in (("app", root / "files/app"), ("config_document", root / "packages")):
            shutil.copytree(_FILES / source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("start.sh", "workspace-python"):
            (root / "files/bin" / name).symlink_to(_FILES / "bin" / name)
        self._move("entrypoint.py", "/configs", "/workspace", "/var/run/docker.sock")
        self._move("boot_secrets.py", "/configs/secrets.d/load.sh")
        self._move("inbound_bearer.py", "/proc/self/status", "/host")
        self.may(0)
        self.python = self.bin / "python3"
        self.python.symlink_to(sys.executable)
        self.put("bin/codex", "#!/usr/bin/env node\n")
        package = f"bin/node_modules/@openai/{_PLATFORM_PACKAGES[platform.machine()]}"
        self.codex = self.put(f"{package}/codex/codex", _CODEX)
        self.put(
            "bin/molecule-runtime",
            _RUNTIME.format(python=sys.executable, app=str(_FILES / "app"), record=str(self._record)),
        )

        self.watchdog = root / "watchdog.txt"
        self.put("files/bin/codex_auth_refresh.sh", _WATCHDOG.format(record=self.watchdog))

    def _move(self, name: str, *paths: str) -> None:
        text = (_FILES / "app" / name).read_text()
        for path in paths:
            assert text.count(f'"{path}') == 1
            text = text.replace(f'"{path}', f'"{self.root}/{path.removeprefix("/var/run").removeprefix("/")}')
        (self.root / "files/app" / name).write_text(text)

    def put(self, path: str, content: str) -> Path:
        """Write an executable file."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(0o755)
        return file

    def may(self, capabilities: int) -> None:
        """Bound what can be done in the container, as a set of capabilities: --privileged gives all."""
        status = self.root / "proc/self/status"
        status.parent.mkdir(parents=True, exist_ok=True)
        status.write_text(f"Name:\tpython3\nCapBnd:\t{capabilities:016x}\nSeccomp:\t0\n")

    def load(self, script: str) -> None:
        """Put it where the platform puts its secrets."""
        (self.configs / "secrets.d").mkdir(exist_ok=True)
        (self.configs / "secrets.d/load.sh").write_text(script)

    def environment(self, **env: str) -> dict[str, str]:
        """What the container gives to its first process."""
        return {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            # The stand-in for the image's one Python: its packages are those of this one.
            "PYTHONPATH": f"{self.root}/packages:{Path(yaml.__file__).parents[1]}",
            "HOME": str(self.home),
            "CODEX_HOME": str(self.codex_home),
            "WORKSPACE_CONFIG_PATH": str(self.configs),
            "WORKSPACE_ID": "ws-1",
            "PLATFORM_URL": "off",
            **({"CODEX_WORKSPACE_AGENT_USER": "root"} if os.geteuid() == 0 else {}),
            **env,
        }

    def start(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Boot with `command`, or with the runtime, and wait for nothing."""
        process = subprocess.Popen(
            [self.root / "files/bin/start.sh", *command],
            env=self.environment(**(env or {})),
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """End what a failed test has left running."""
        for process in self._started:
            process.kill()
            process.communicate()

    def run(self, *command: str, **env: str) -> Boot:
        """Boot with `command`, or with the runtime's stand-in, to its end."""
        process = self.start(*command, env=env)
        output, log = process.communicate(timeout=60)
        return Boot(process.returncode, output, log)

    def shell(self, script: str, **env: str) -> Boot:
        """What `script` of a shell does with start.sh, its `$0`."""
        done = subprocess.run(
            ["sh", "-c", script, str(self.root / "files/bin/start.sh")],
            env=self.environment(**env),
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return Boot(done.returncode, done.stdout, done.stderr)

    def seen(self) -> dict[str, Any]:
        """What the runtime's stand-in saw: `environment`, what it was `given`, its environment `after`."""
        record: dict[str, Any] = json.loads(self._record.read_text())
        return record
