"""Where in a running workspace secrets are found: its processes, its files, and what it shows to others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from support.workspace_container import docker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.workspace_container import WorkspaceContainer

__all__ = ["find_secrets"]

# Runs inside, and looks at the first process and its descendants only: what the engine itself starts there (a
# health check) is given the container's variables. One user cannot read another's process, not even root
# without CAP_SYS_PTRACE, so the agent looks at processes, as its commands could, and root at files.
_INSIDE = r"""
import json, os, pathlib, sys

secrets = {name: text.encode() for name, text in json.load(sys.stdin).items()}
found = []

def look(place, content):
    found.extend((name, place) for name, text in secrets.items() if text in content)

def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""

def look_at_processes():
    parents = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        if text := read(stat).decode(errors="replace"):
            parents[int(stat.parent.name)] = int(text.rpartition(")")[2].split()[1])
    family = {1}
    for _ in parents:
        family |= {pid for pid, parent in parents.items() if parent in family}
    for process in (pathlib.Path(f"/proc/{pid}") for pid in family):
        name = "the first process" if process.name == "1" else read(process / "comm").decode().strip()
        for part in ("environ", "cmdline"):
            look(f"{part} of {name}", read(process / part))
        for descriptor in (process / "fd").glob("*"):
            if os.path.exists(descriptor) and os.readlink(descriptor).startswith("/memfd:"):
                look(f"memory file of {name}", read(descriptor))

def look_at_files():
    places = "/app /configs /dev/shm /etc /home /root /run /tmp /usr/local /var/log /var/tmp /workspace"
    for top in places.split():
        for directory, _, files in os.walk(top):
            for path in (pathlib.Path(directory, file) for file in files):
                if path.is_file() and not path.is_symlink():
                    look(str(path), read(path))

look_at_files() if os.getuid() == 0 else look_at_processes()
json.dump(found, sys.stdout)
"""


async def find_secrets(workspace: WorkspaceContainer, secrets: Mapping[str, str]) -> dict[str, set[str]]:
    """The places of each secret, by its name; a secret that is nowhere has an empty set.

    A place is a path, `environ of <process>` and the like, or the name of what is shown to others.
    """
    places: dict[str, set[str]] = {name: set() for name in secrets}
    for user in ("root", "agent"):
        inside = (
            "exec",
            "--interactive",
            "--user",
            user,
            workspace.name,
            "python3",
            "-I",
            "-S",
            "-c",
            _INSIDE,
        )
        for name, place in json.loads(await docker(*inside, stdin=json.dumps(dict(secrets)).encode())):
            places[name].add(place)
    shown = {"log": await workspace.logs()}
    for path in (
        "/metrics",
        "/readyz",
        "/healthz",
        "/.well-known/agent-card.json",
        "/.well-known/agent.json",
    ):
        shown[path] = await workspace.curl(path)
    for name, secret in secrets.items():
        places[name] |= {place for place, text in shown.items() if secret in text}
    return places
