"""A real `ansible-playbook build.yml`, what it said, and what it left on the engine."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.plugins import ROOT
from support.watchdog import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

LAYERS = ("packages", "nodejs", "agent", "t4", "codex", "runtime", "payload", "smoke")
BUILD_SECONDS = 1800
SESSION = re.compile(r"\bcodex-workspace-build-[0-9a-f]{10}\b")
ERROR = re.compile(r"^\[ERROR\]: (.*?)^(?:Origin:|task path:|fatal:)", re.DOTALL | re.MULTILINE)
FAILURES = re.compile(r"\bfailed=(\d+)")
IMAGE_ID = re.compile(r"\bimage_id: (sha256:[0-9a-f]{64})\b")
SUMMARY_ROW = re.compile(rf"^\s+({'|'.join(LAYERS)})\s+(reused|built)\s", re.MULTILINE)


def docker(*args: str, check: bool = True) -> str:
    """Run the Docker client and return what it prints, stripped."""
    done = subprocess.run(["docker", *args], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0 or not check, f"docker {' '.join(args)}: {done.stderr}"
    return done.stdout.strip()


def inspect(image: str) -> dict[str, Any]:
    """Return what the engine says of an image."""
    found: dict[str, Any] = json.loads(docker("image", "inspect", image))[0]
    return found


def play(
    directory: Path, tasks: list[dict[str, Any]], *, host: str = "localhost", **variables: Any
) -> tuple[int, str]:
    """Run tasks of this repository's plugins and role; return exit code and output.

    Args:
        directory: Where the playbook is written.
        tasks: The tasks.
        host: A running container, or localhost.
        variables: Variables of the play.
    """
    container = {
        "ansible_connection": "community.docker.docker",
        "ansible_python_interpreter": "/usr/local/bin/python3",
    }
    connection = {"ansible_connection": "local"} if host == "localhost" else container
    book = {"hosts": host, "gather_facts": False, "vars": {**connection, **variables}, "tasks": tasks}
    (directory / "play.yml").write_text(json.dumps([book]))
    done = subprocess.run(
        ["ansible-playbook", "--inventory", f"{host},", directory / "play.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout


@dataclass
class Build:
    """One run of the playbook, finished or still going on."""

    image: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        """All that was printed so far."""
        return self.log.read_text(errors="replace")

    @property
    def end(self) -> str:
        """The last lines that were printed, for the message of a failed test."""
        return "\n".join(self.output.splitlines()[-60:])

    @property
    def session(self) -> str:
        """Name of the build's volume and prefix of its containers; empty when nothing was started."""
        found = SESSION.search(self.output)
        return found.group() if found else ""

    @property
    def errors(self) -> list[str]:
        """The errors as a reader sees them, each on one line."""
        return [" ".join(text.split()) for text in ERROR.findall(self.output)]

    @property
    def layers(self) -> dict[str, str]:
        """State of each layer in the summary: reused or built."""
        return dict(SUMMARY_ROW.findall(self.output))

    @property
    def image_ids(self) -> list[str]:
        """The images that the run committed, in order."""
        return list(dict.fromkeys(IMAGE_ID.findall(self.output)))

    @property
    def containers(self) -> list[str]:
        """Names of the build's containers that are on the engine now."""
        if not self.session:
            return []
        return docker("ps", "--all", "--filter", f"name=^{self.session}", "--format", "{{.Names}}").split()

    def has_no_container(self) -> bool:
        """Whether no container of the build is on the engine now."""
        return not self.containers

    def left_behind(self) -> list[str]:
        """Tags, containers, volumes and files that the run left, the build's cache apart."""
        left = docker("image", "ls", self.image, "--format", "{{.Repository}}:{{.Tag}}").split()
        if self.session:
            left += self.containers
            left += docker("volume", "ls", "--quiet", "--filter", f"name=^{self.session}$").split()
            left += [str(path) for path in Path(tempfile.gettempdir()).glob(f"{self.session}*")]
        return left

    def kill(self, number: signal.Signals) -> None:
        """Signal the playbook and whatever is in its process group, and see it end."""
        os.killpg(self.process.pid, number)
        self.process.wait(BUILD_SECONDS)

    def refusal_without_engine(self) -> str:
        """Return the one error that the run ended with, before it started anything on an engine."""
        error = self._error()
        assert self.session == "", self.end
        assert re.findall(r"changed=[1-9]", self.output) == [], self.end
        return error

    def refusal(self, *, after_start: bool = False) -> str:
        """Return the one error that the run ended with, having left nothing behind.

        Args:
            after_start: Whether the error needs a look into a container, so that a build has been started.
        """
        error = self._error()
        assert bool(self.session) == after_start, self.end
        assert self.left_behind() == []
        return error

    def _error(self) -> str:
        assert self.process.returncode == 2, self.end
        assert sum(int(count) for count in FAILURES.findall(self.output)) == 1, self.end
        assert len(self.errors) == 1, self.end
        return self.errors[0]


@dataclass
class Builder:
    """Runs builds, each with an image name of its own, and removes what they made when it is closed."""

    directory: Path
    settings: dict[str, Any] = field(default_factory=dict)
    builds: list[Build] = field(default_factory=list)
    images: list[str] = field(default_factory=list)

    def start(
        self,
        settings: Mapping[str, Any] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        root: Path = ROOT,
        verbosity: str = "-v",
    ) -> Build:
        """Start a build in a process group of its own.

        Args:
            settings: Variables of the build, laid over those of the builder.
            env: Environment variables, laid over this process's own.
            prefix: A command that runs the rest of the command line.
            root: The checkout to run it in.
            verbosity: Ansible's option for it; the session and the images are seen from ``-v`` on.
        """
        unique = f"codex-workspace-test-{secrets.token_hex(5)}"
        given = {"codex_workspace_image_name": unique, **self.settings, **(settings or {})}
        variables = self.directory / f"{unique}.json"
        variables.write_text(json.dumps(given))
        log = self.directory / f"{unique}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*prefix, "ansible-playbook", "build.yml", verbosity, "--extra-vars", f"@{variables}"],
                cwd=root,
                env={**os.environ, "ANSIBLE_NOCOLOR": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        build = Build(str(given["codex_workspace_image_name"]), process, log)
        self.builds.append(build)
        return build

    def run(self, settings: Mapping[str, Any] | None = None, **options: Any) -> Build:
        """Run a build to its end."""
        build = self.start(settings, **options)
        build.process.wait(BUILD_SECONDS)
        return build

    def payload(self, name: str, files: Mapping[str, str | None] | None = None) -> dict[str, Any]:
        """Return the settings of a copy of the payload.

        Args:
            name: What tells this payload from every other one.
            files: Content of files below it; None removes one.
        """
        copy = self.directory / f"files-{secrets.token_hex(5)}"
        shutil.copytree(ROOT / "files", copy, ignore=shutil.ignore_patterns("__pycache__"))
        for path, content in {"app/marker.txt": name, **(files or {})}.items():
            if content is None:
                (copy / path).unlink()
            else:
                (copy / path).write_text(content)
        return {"codex_workspace_files_dir": str(copy)}

    def derive(self, script: str) -> str:
        """Return the name of a base in which a script was run as root."""
        tag = f"codex-workspace-test-base:{secrets.token_hex(5)}"
        container = docker("create", self.settings["codex_workspace_base_image"], "sh", "-euc", script)
        docker("start", "--attach", container)
        docker("commit", "--change", 'CMD ["python3"]', container, tag)
        docker("rm", container)
        self.images.append(tag)
        return tag

    def close(self) -> None:
        """Remove tags and layers of the builds. A layer that another image stands on stays."""
        for build in reversed(self.builds):
            if build.process.poll() is None:
                build.kill(signal.SIGKILL)
            if build.session:
                wait_until(build.has_no_container, "the build's containers are gone")
            for tag in docker("image", "ls", build.image, "--format", "{{.Repository}}:{{.Tag}}").split():
                docker("image", "rm", "--no-prune", tag)
            for image in reversed(build.image_ids):
                docker("image", "rm", "--no-prune", image, check=False)
        for image in self.images:
            docker("image", "rm", "--no-prune", image)
