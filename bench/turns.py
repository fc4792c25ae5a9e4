#!/usr/bin/env python3
"""Measure what the workspace costs: time over a bare codex, boot, memory, and many messages at once.

Everything happens in containers of the built image, with the stand-in for the model in one of its own; no
credential. Medians, of one run. A missed target does not fail the run, since the machine may be shared; a
lost message does.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
MODEL_PORT = 9000
PATIENCE = 60.0
CONFIG = """\
name: Bench
runtime_config: {{provider: standin}}
providers:
  - name: standin
    auth_mode: openai_compat_responses
    base_url: http://{address}:{port}/v1
    auth_env: [STANDIN_KEY]
"""


@dataclass(frozen=True)
class Sizes:
    """How often each thing is done."""

    turns: int
    processes: int
    boots: int
    early: int
    late: int
    burst: int


FULL = Sizes(turns=60, processes=7, boots=7, early=200, late=1000, burst=200)
QUICK = Sizes(turns=15, processes=3, boots=3, early=50, late=200, burst=200)


@dataclass(frozen=True)
class Row:
    """A figure. `target` is the most that is wanted, None where there is only something to know."""

    what: str
    value: float
    unit: str
    target: float | None = None

    def cells(self) -> str:
        """Return its line of the Markdown table."""
        places = {"ms": 1, "s": 2, "MiB": 1, "times": 2}[self.unit]
        target = "" if self.target is None else f"at most {self.target:g} {self.unit}"
        met = "" if self.target is None else ("yes" if self.value <= self.target else "**no**")
        return f"| {self.what} | {self.value:.{places}f} {self.unit} | {target} | {met} |"


def docker(*argv: str) -> str:
    """Run a docker command and return what it printed; what it said of an error goes to stderr."""
    return subprocess.run(["docker", *argv], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class Stage:
    """The stand-in's container, and the workspaces that are run beside it. `with` it: nothing is left."""

    def __init__(self, image: str, directory: Path) -> None:
        self.image = image
        self.name = f"codex-workspace-bench-{secrets.token_hex(4)}"
        self._key = secrets.token_hex(8)
        self._tools = directory / "bench"
        self._configs = directory / "configs"
        self._made: list[str] = []

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        """Start the stand-in."""
        self._tools.mkdir()
        self._tools.joinpath("inside.py").write_bytes((ROOT / "bench/inside.py").read_bytes())
        support = self._tools / "support"
        support.mkdir()
        support.joinpath("responses_server.py").write_bytes(
            (ROOT / "tests/support/responses_server.py").read_bytes()
        )
        model = f"{self.name}-model"
        self._made.append(model)
        docker(
            *("create", "--pull", "never", "--name", model, "--entrypoint", "python3"),
            *("--env", "PYTHONPATH=/app:/bench", "--env", f"STANDIN_KEY={self._key}"),
            *(self.image, "/bench/inside.py", "serve", str(MODEL_PORT)),
        )
        docker("cp", str(self._tools), f"{model}:/")
        docker("start", model)
        address = docker(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", model
        )
        self._configs.mkdir()
        self._configs.joinpath("config.yaml").write_text(CONFIG.format(address=address, port=MODEL_PORT))

    def __exit__(self, *_: object) -> None:
        self._remove(*self._made)

    def _remove(self, *containers: str) -> None:
        subprocess.run(
            ["docker", "rm", "--force", "--volumes", *containers], capture_output=True, check=False
        )

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Workspace]:
        """Run a new workspace, as a user does, and wait for its card."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        name = f"{self.name}-{len(self._made)}"
        self._made.append(name)
        # The configuration stands in a volume before the clock starts.
        prepare = f"{name}-configs"
        self._made.append(prepare)
        docker("create", "--name", prepare, "--volume", "/configs", self.image)
        docker("cp", f"{self._configs}/.", f"{prepare}:/configs")
        started = time.monotonic()
        docker(
            *("run", "--detach", "--name", name, "--volumes-from", prepare),
            *("--publish", f"127.0.0.1:{port}:8000"),
            *(
                "--env",
                "WORKSPACE_ID=bench",
                "--env",
                "PLATFORM_URL=off",
                "--env",
                f"STANDIN_KEY={self._key}",
            ),
            self.image,
        )
        workspace = Workspace(name, port, started)
        try:
            workspace.wait_for_card()
            yield workspace
        except Exception:
            sys.stderr.write(docker("logs", "--tail", "20", name) + "\n")
            raise
        finally:
            self._remove(name, prepare)

    def inside(self, what: str, *numbers: int) -> dict[str, list[float]]:
        """Measure `what` of inside.py in a new workspace."""
        print(f"bench: {what} {' '.join(map(str, numbers))}", file=sys.stderr)
        with self.workspace() as workspace:
            docker("cp", str(self._tools), f"{workspace.name}:/")
            found: dict[str, list[float]] = json.loads(
                docker(
                    *(
                        "exec",
                        "--user",
                        "agent",
                        "--workdir",
                        "/home/agent",
                        "--env",
                        "PYTHONPATH=/app:/bench",
                    ),
                    *(workspace.name, "python3", "/bench/inside.py", what, *map(str, numbers)),
                )
            )
        return found


@dataclass
class Workspace:
    """A running workspace; `started` is when `docker run` was called."""

    name: str
    port: int
    started: float
    card: float = 0.0

    def wait_for_card(self) -> None:
        """Ask for the agent card until it is there, and note the seconds since `docker run`."""
        while time.monotonic() - self.started < PATIENCE:
            with contextlib.suppress(OSError, http.client.HTTPException):
                http_ = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
                with contextlib.closing(http_):
                    http_.request("GET", "/.well-known/agent-card.json")
                    if http_.getresponse().status == 200:
                        self.card = time.monotonic() - self.started
                        return
            time.sleep(0.01)
        raise TimeoutError(f"{self.name} has no agent card after {PATIENCE:.0f} s")

    def first_answer(self) -> float:
        """Send a message; return the seconds from `docker run` to its answer."""
        message = {"role": "user", "messageId": "1", "parts": [{"kind": "text", "text": "hello"}]}
        body = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": message}}
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        ) as http_:
            http_.request("POST", "/", json.dumps(body), {"Content-Type": "application/json"})
            answer = http_.getresponse().read().decode()
        if "answer to hello" not in answer:
            raise RuntimeError(f"the first message was answered with {answer[:500]}")
        return time.monotonic() - self.started


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """Measure everything."""
    cards, answers = [], []
    for _ in range(sizes.boots):
        print("bench: boot", file=sys.stderr)
        with stage.workspace() as workspace:
            cards.append(workspace.card)
            answers.append(workspace.first_answer())
    found = stage.inside("turns", sizes.turns, sizes.processes)
    a2a, bare, process, a2a_first, bare_first = (
        median(found[name]) for name in ("a2a", "bare", "exec", "a2a_first", "bare_first")
    )
    early, late = stage.inside("memory", sizes.early, sizes.late)["resident"]
    burst = stage.inside("burst", sizes.burst)["burst"]
    return [
        Row("a turn on a bare `codex app-server`", bare * 1e3, "ms"),
        Row("the same turn over A2A", a2a * 1e3, "ms"),
        Row("overhead of A2A", (a2a - bare) * 1e3, "ms", 10),
        Row("A2A over the bare app-server", a2a / bare, "times"),
        Row("the same with `codex exec`, a process (and its MCP server) each", process * 1e3, "ms"),
        Row("`codex exec` over A2A", process / a2a, "times"),
        Row("first delta, model to A2A client", a2a_first * 1e3, "ms"),
        Row("first delta, after the bare app-server has it", (a2a_first - bare_first) * 1e3, "ms", 10),
        Row("`docker run` to the agent card", median(cards), "s", 2.5),
        Row("`docker run` to the first answer", median(answers), "s", 3.5),
        Row(f"memory of the runtime after {sizes.early} turns", early, "MiB"),
        Row(f"memory of the runtime after {sizes.late} turns", late, "MiB", 120),
        Row(f"growth of it from turn {sizes.early} to {sizes.late}", late - early, "MiB"),
        Row(f"{sizes.burst} messages at once, all answered", max(burst), "s"),
    ]


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer turns, boots and messages")
    parser.add_argument(
        "--output", type=Path, default=ROOT / ".build/bench-turns.md", help="where the table goes"
    )
    options = parser.parse_args()
    image = os.environ.get("CODEX_WORKSPACE_IMAGE", "codex-workspace:latest")
    sizes = QUICK if options.quick else FULL
    before, started = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="codex-workspace-bench-") as directory:
        try:
            with Stage(image, Path(directory)) as stage:
                stage.start()
                rows = measure(stage, sizes)
        except subprocess.CalledProcessError as error:
            sys.exit(f"bench: docker {error.cmd[1]}: exit code {error.returncode}")
        except (OSError, RuntimeError) as error:
            sys.exit(f"bench: {error}")
    lines = [
        "| what, median | measured | target | met |",
        "|---|---|---|---|",
        *(row.cells() for row in rows),
    ]
    load = f"load {before:.1f} before and {os.getloadavg()[0]:.1f} after"
    counts = f"{sizes.turns} turns, {sizes.processes} processes, {sizes.boots} boots"
    seconds = time.monotonic() - started
    lines += ["", f"{counts}; {os.cpu_count()} cores, {load}; {seconds:.0f} s in all."]
    text = "\n".join(lines)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
