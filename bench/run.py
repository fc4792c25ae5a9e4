#!/usr/bin/env python3
"""Compare this build with a plain Dockerfile of the same layers: time and size, on one base, in one run.

Three cases, each a median: cold (nothing cached), one byte of the payload changed, nothing changed. Ratios
are what counts: on a shared machine, seconds are only good beside other seconds of the same run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "codex-workspace-bench"
CASES = ("cold", "payload", "unchanged")


def docker_json(*argv: str) -> dict[str, Any]:
    """Return the first object that a docker command prints as JSON."""
    out = subprocess.run(["docker", *argv], check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(out)[0]
    return found


@dataclass
class Builder:
    """One way to build: its name, its command line for a case, its environment, and what was measured."""

    name: str
    command: list[str]
    no_cache: list[str]
    tag: str
    env: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {case: [] for case in CASES})
    size: int = 0

    def run(self, case: str, log: Path) -> None:
        """Build once, and note the seconds that it took."""
        command = [*self.command, *(self.no_cache if case == "cold" else [])]
        started = time.monotonic()
        with log.open("ab") as output:
            subprocess.run(
                command, check=True, cwd=ROOT, env={**os.environ, **self.env}, stdout=output, stderr=output
            )
        self.seconds[case].append(time.monotonic() - started)

    def median(self, case: str) -> float:
        """Return the median of a case, in seconds."""
        return statistics.median(self.seconds[case])


def buildkit_client() -> str | None:
    """Return a docker client that drives BuildKit here: one with buildx, or one from before it was needed."""
    for client in ("docker", "/usr/bin/docker"):
        if not shutil.which(client):
            continue
        if subprocess.run([client, "buildx", "version"], capture_output=True, check=False).returncode == 0:
            return client
        version = subprocess.run([client, "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.split()[2].split(".")[0]) < 23:
            return client
    return None


def client_config() -> dict[str, str]:
    """Return the mirrors and the CA that the build takes from this machine's package clients."""
    spec = importlib.util.spec_from_file_location("client_config", ROOT / "plugins/lookup/client_config.py")
    if not spec or not spec.loader:
        sys.exit("bench: plugins/lookup/client_config.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, str] = module.read(os.environ)
    return found


def make_context(context: Path, base: str) -> list[str]:
    """Lay out the Dockerfile's context, and return the build arguments that this machine needs."""
    shutil.copytree(ROOT / "files/app", context / "app", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("bin", "runtime"):
        shutil.copytree(ROOT / "files" / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "bench/Dockerfile", context)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codex-workspace"
    shutil.copy(next(cache.glob("node-linux-*.tar")), context / "node.tar")
    config = client_config()
    (context / "ca.pem").write_bytes(Path(config["ca_file"]).read_bytes() if config["ca_file"] else b"")
    arguments = {"BASE": base}
    if config["ca_file"]:
        for name in ("SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"):
            arguments[name] = "/opt/bench-ca.pem"
    if config["pip_index_url"]:
        arguments["PIP_INDEX_URL"] = config["pip_index_url"]
    if config["npm_registry"]:
        arguments["NPM_CONFIG_REGISTRY"] = config["npm_registry"]
    return [f"--build-arg={name}={value}" for name, value in arguments.items()]


def builders(context: Path, payload: Path, base: str) -> list[Builder]:
    """Return the ways to build that this machine has: ours first."""
    arguments = make_context(context, base)
    ours = Builder(
        "ansible-playbook",
        [
            *("ansible-playbook", "build.yml", "-e", f"codex_workspace_base_image={base}"),
            *("-e", f"codex_workspace_image_name={IMAGE}", "-e", f"codex_workspace_files_dir={payload}"),
        ],
        ["-e", "codex_workspace_cache_enabled=false"],
        f"{IMAGE}:latest",
    )
    found = [ours]
    for name, client, buildkit in (
        ("docker build, classic", "docker", "0"),
        ("docker build, BuildKit", buildkit_client(), "1"),
    ):
        if client is None:
            print(f"bench: {name}: no docker client here drives it; left out", file=sys.stderr)
            continue
        tag = f"{IMAGE}-{'buildkit' if buildkit == '1' else 'classic'}:latest"
        command = [client, "build", *arguments, "--tag", tag, str(context)]
        found.append(Builder(name, command, ["--no-cache"], tag, {"DOCKER_BUILDKIT": buildkit}))
    return found


def table(results: list[Builder]) -> str:
    """Return the results as a Markdown table: medians in seconds, sizes in MB, and our share of each."""
    ours = results[0]
    lines = [
        "| | cold, s | one byte of the payload, s | nothing changed, s | image, MB |",
        "|---|---|---|---|---|",
    ]
    for builder in results:
        cells = [f"{builder.median(case):.1f}" for case in CASES]
        lines.append(f"| {builder.name} | {' | '.join(cells)} | {builder.size / 1e6:.0f} |")
    for builder in results[1:]:
        cells = [f"{ours.median(case) / builder.median(case):.2f}" for case in CASES]
        share = ours.size / builder.size
        lines.append(f"| ratio to {builder.name} | {' | '.join(cells)} | {share:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each case; their median counts")
    parser.add_argument("--output", type=Path, default=ROOT / ".build/bench.md", help="where the table goes")
    options = parser.parse_args()
    inspection = docker_json("image", "inspect", "codex-workspace:latest")
    labels = inspection["Config"]["Labels"]
    base, version = (labels[f"org.opencontainers.image.{name}"] for name in ("base.name", "version"))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    log = options.output.with_suffix(".log")
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="codex-workspace-bench-") as directory:
        context, payload = Path(directory) / "context", Path(directory) / "files"
        context.mkdir()
        shutil.copytree(ROOT / "files", payload, ignore=shutil.ignore_patterns("__pycache__"))
        results = builders(context, payload, base)
        try:
            for _ in range(options.repeat):
                for case in CASES:
                    if case == "payload":
                        byte = secrets.token_hex(8)  # one that no cache has seen
                        for tree in (context / "app", payload / "app"):
                            (tree / "__init__.py").write_text(f'"""Changed by the benchmark: {byte}."""\n')
                    for builder in results:
                        builder.run(case, log)
                        print(f"{builder.name}, {case}: {builder.seconds[case][-1]:.1f} s", file=sys.stderr)
            for builder in results:
                builder.size = int(str(docker_json("image", "inspect", builder.tag)["Size"]))
        finally:
            tags = [builder.tag for builder in results]
            subprocess.run(
                ["docker", "image", "rm", *tags, f"{IMAGE}:{version}"], capture_output=True, check=False
            )
    text = table(results)
    options.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
