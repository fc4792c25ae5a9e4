"""A CODEX_HOME for tests, and the real watchdog run in it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.token_endpoint import jwt

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
ENTRY = ROOT / "files/bin/codex_auth_refresh.sh"
APP = ROOT / "files/app"
PATIENCE_SECONDS = 60

REFRESH_TOKEN = "rt-secret-first"
DAY = 86_400


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.01)


def rfc3339(seconds: float) -> str:
    """Write a time as codex does, with nine decimals."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + ".123456789Z"


def access_token(expires_in: float) -> str:
    """Return a secret access token that expires in so many seconds."""
    return jwt({"exp": int(time.time() + expires_in), "secret": "at-secret"})


def auth_document(*, expires_in: float = 60, age: float = DAY, **tokens: Any) -> dict[str, Any]:
    """Return a subscription's auth.json, due for a refresh by default; `...` removes a token field."""
    fields: dict[str, Any] = {
        "id_token": jwt({"email": "user@example.com", "secret": "id-secret"}),
        "access_token": access_token(expires_in),
        "refresh_token": REFRESH_TOKEN,
        "account_id": "account-1",
        "later_field": {"kept": True},
        **tokens,
    }
    return {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {name: value for name, value in fields.items() if value is not ...},
        "last_refresh": rfc3339(time.time() - age),
        "unknown": [1, 2.5, "\u00fc"],
    }


def children(pid: int) -> list[int]:
    """Return the live children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(parent) == pid and state != "Z":
                found.append(int(entry.name))
    return found


class Home:
    """CODEX_HOME with the watchdog's view of it."""

    def __init__(self, path: Path, url: str = "http://127.0.0.1:9/nobody") -> None:
        self.path = path
        self.started: list[Process] = []
        self.auth = path / "auth.json"
        self.status_file = path / "auth-refresh-status.json"
        self.other_status_file = path / "auth_refresh_status.json"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(path.parent),
            "CODEX_HOME": str(path),
            "CODEX_PYTHON": sys.executable,
            "CODEX_REFRESH_TOKEN_URL_OVERRIDE": url,
        }

    def write(self, document: object) -> None:
        """Write auth.json as codex does: in place, truncated first."""
        self.path.mkdir(exist_ok=True)
        self.auth.write_text(document if isinstance(document, str) else json.dumps(document))

    def document(self) -> dict[str, Any]:
        """Return what is in auth.json."""
        document: dict[str, Any] = json.loads(self.auth.read_text())
        return document

    def status(self) -> dict[str, Any]:
        """Return what is in the status files, which nobody else may read and which say the same."""
        for path in (self.status_file, self.other_status_file):
            assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        assert self.status_file.read_bytes() == self.other_status_file.read_bytes()
        status: dict[str, Any] = json.loads(self.status_file.read_text())
        return status

    def start(self, *arguments: str, command: list[str] | None = None, **environment: str) -> Process:
        """Start the watchdog; its output can be watched."""
        # A shell cannot catch what was ignored when it started, as SIGHUP is below nohup.
        signals = [str(shutil.which("env")), "--default-signal=HUP,INT,TERM"]
        process = Process(
            [*signals, *(command or [str(ENTRY), *arguments])], {**self.environment, **environment}
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        """End what a failed test has left running."""
        for process in self.started:
            process.process.kill()

    def run(
        self, *arguments: str, command: list[str] | None = None, **environment: str
    ) -> tuple[int, str, str]:
        """Run the watchdog to its end: exit code, the last line's result, everything that it wrote."""
        return self.start(*arguments, command=command, **environment).result()


def module_with(**constants: object) -> list[str]:
    """Return a command that runs the module with other limits than its own."""
    changes = "".join(f"m.{name} = {value!r}; " for name, value in constants.items())
    code = f"import sys; sys.path.insert(0, {str(APP)!r}); import codex_auth_refresh as m; {changes}"
    return [sys.executable, "-c", f"{code}sys.exit(m.main())"]


def leftovers(home: Home) -> set[str]:
    """Return the names in CODEX_HOME that no round should leave behind."""
    known = {"auth.json", "auth.json.lock", "auth-refresh-status.json", "auth_refresh_status.json"}
    return {path.name for path in home.path.iterdir()} - known


class Process:
    """A running watchdog. Its output is read all the time, through a pipe."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._lines: list[str] = []
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            self._lines.extend(output)

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self.process.pid

    def log(self) -> str:
        """Return everything that it has written so far."""
        return "".join(self._lines)

    def result(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, the last line's result, everything that it wrote."""
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        finally:
            self.process.kill()
            self._reader.join(PATIENCE_SECONDS)
        lines = self.log().splitlines()
        word = lines[-1].removeprefix("codex_auth_refresh: ").split(" ")[0] if lines else ""
        return code, word, self.log()
