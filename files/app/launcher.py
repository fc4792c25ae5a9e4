"""Runs a Python program so that no signal is lost, however early it comes: `launcher.py PROGRAM ARGUMENT...`.

The first process of a container does not even notice a signal that it has no handler for. The entry point and
the runtime need a moment until they have theirs, the runtime more than a second. Whoever executes this may
block SIGTERM and SIGINT before: they are then taken here.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_PATIENCE_SECONDS: Final = 2.0
_stopped: list[int] = []


def _stop(number: int, _frame: FrameType | None) -> None:
    # What was sent again below comes back at once where a program has threads, which block nothing.
    if _stopped:
        return
    _stopped.append(number)
    sys.stderr.write(f"[start] stopped by {signal.Signals(number).name} before the workspace was up\n")
    # The exception below may come in the middle of an import or a finalizer, be caught there, and lost. So
    # this process ends soon in any case, and the signal waits for what it may execute before that.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    os.kill(os.getpid(), number)
    last = threading.Timer(_PATIENCE_SECONDS, os._exit, (128 + number,))
    last.daemon = True
    last.start()
    sys.exit(128 + number)


if __name__ == "__main__":
    for each in SIGNALS:
        signal.signal(each, _stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
