"""Print `UID MODE PATH` of the token that a process of the workspace finds.

Arguments: the PID of the main process, or its PID and a word in the command line of the one child that is
meant. The process's own Python is asked, in the process's own environment and as its own user.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_RESOLVE = "from molecule_runtime import configs_dir; print(configs_dir.resolve())"


def main() -> int:
    """Look at the token. Returns 1 where not exactly one child is meant; a token that is missing raises."""
    pid, *words = sys.argv[1:]
    process = Path("/proc", pid)
    if words:
        children = [each for each in descendants(process) if words[0] in entries(each / "cmdline")]
        if len(children) != 1:
            sys.stderr.write(f"there are {len(children)} processes of {words[0]}\n")
            return 1
        (process,) = children
    resolved = subprocess.run(
        [entries(process / "cmdline")[0], "-c", _RESOLVE],
        env=dict(entry.split("=", 1) for entry in entries(process / "environ")),
        user=process.stat().st_uid,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    token = Path(resolved.stdout.strip(), ".auth_token")
    found = token.stat()
    sys.stdout.write(f"{found.st_uid} {found.st_mode & 0o7777:o} {token}\n")
    return 0


def entries(file: Path) -> list[str]:
    """The strings of a file of /proc, each of which ends with a zero byte."""
    return file.read_text("utf-8", "surrogateescape").split("\0")[:-1]


def descendants(process: Path) -> list[Path]:
    """Directories in /proc of all that a process has started, itself or through others."""
    pids = [pid for listing in process.glob("task/*/children") for pid in listing.read_text().split()]
    children = [Path("/proc", pid) for pid in pids]
    return [*children, *(each for child in children for each in descendants(child))]


sys.exit(main())
