#!/usr/bin/env python3
"""Measure runs of playbooks/provision.yml that have nothing to do: over SSH, on 1, 2 and 4 disposable hosts.

Wall time is a median; CPU seconds are those of the controller and its ssh clients. The hosts are containers
of this machine, so both share its cores: with more of them, the curve is flatter.
"""

from __future__ import annotations

import argparse
import os
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COUNTS = (1, 2, 4)
INVENTORIES = ("inventory/build.yml", "molecule/shared/inventory", "bench/inventory")


@dataclass(frozen=True)
class Run:
    """One run of a playbook: wall seconds, and CPU seconds of all its processes here."""

    seconds: float
    cpu: float


def play(playbook: str, hosts: int, log: Path, env: dict[str, str]) -> Run:
    """Run a playbook on the first `hosts` hosts. Raises CalledProcessError."""
    limit = ",".join(["localhost", *(f"bench-{number + 1}" for number in range(hosts))])
    inventories = [f"--inventory={ROOT / inventory}" for inventory in INVENTORIES]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with log.open("ab") as output:
        subprocess.run(
            ["ansible-playbook", *inventories, ROOT / playbook, "--limit", limit],
            check=True, cwd=ROOT, env=env, stdout=output, stderr=output,
        )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(time.monotonic() - started, cpu)


def table(first: Run, runs: dict[int, list[Run]]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        f"First run, {max(COUNTS)} hosts at once: {first.seconds:.0f} s.",
        "",
        "| hosts | nothing to do, s | of one host's time | controller's CPU, s a host |",
        "|---|---|---|---|",
    ]
    one = statistics.median(run.seconds for run in runs[1])
    for count, measured in runs.items():
        seconds = statistics.median(run.seconds for run in measured)
        cpu = statistics.median(run.cpu for run in measured) / count
        lines.append(f"| {count} | {seconds:.1f} | {seconds / one:.2f} | {cpu:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Make the hosts, measure, print and write the table, remove the hosts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each case; their median counts")
    parser.add_argument(
        "--output", type=Path, default=ROOT / ".build/bench-hosts.md", help="where the table goes"
    )
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    log = options.output.with_suffix(".log")
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="codex-workspace-bench-") as directory:
        env = {
            **os.environ,
            "MOLECULE_RUN": secrets.token_hex(5),
            "MOLECULE_EPHEMERAL_DIRECTORY": directory,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        }
        most = max(COUNTS)
        try:
            play("molecule/shared/create.yml", most, log, env)
            play("molecule/shared/prepare.yml", most, log, env)
            first = play("playbooks/provision.yml", most, log, env)
            runs: dict[int, list[Run]] = {count: [] for count in COUNTS}
            for _ in range(options.repeat):
                for count, measured in runs.items():
                    measured.append(play("playbooks/provision.yml", count, log, env))
                    print(f"{count} hosts: {measured[-1].seconds:.1f} s", file=sys.stderr)
        except subprocess.CalledProcessError as error:
            sys.exit(f"bench: a playbook failed (exit code {error.returncode}): see {log}")
        finally:
            play("molecule/shared/destroy.yml", most, log, env)
    text = table(first, runs)
    options.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
