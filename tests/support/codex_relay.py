"""Runs a command and writes down every line between it and us: `codex_relay RECORD COMMAND...`.

Each entry is `{"from": "client" | "server", "message": {...}}`. Lines pass unchanged and in order.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO


def _pump(source: IO[bytes], target: IO[bytes], record: IO[str], lock: threading.Lock, name: str) -> None:
    for line in source:
        with lock:
            record.write(json.dumps({"from": name, "message": json.loads(line)}) + "\n")
            record.flush()
        target.write(line)
        target.flush()
    target.close()


def main() -> None:
    """Relay until the command ends, and end like it."""
    path, *command = sys.argv[1:]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    lock = threading.Lock()
    with Path(path).open("a", encoding="utf-8") as record:
        up = threading.Thread(
            target=_pump, args=(sys.stdin.buffer, child.stdin, record, lock, "client"), daemon=True
        )
        up.start()
        _pump(child.stdout, sys.stdout.buffer, record, lock, "server")
        up.join(timeout=5)
    sys.exit(child.wait())


if __name__ == "__main__":
    main()
