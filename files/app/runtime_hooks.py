"""What the bundled runtime offers beyond the common contract; each does nothing under a runtime without it.

The image also works with `molecule-ai-workspace-runtime` from a private index, which has other helpers.
"""

from __future__ import annotations

__all__ = ["agent_failing", "agent_started", "queue_changed", "tool_active", "without_secrets"]

try:
    from molecule_runtime.executor_helpers import touch_tool_activity
    from molecule_runtime.metrics import child_restarted, set_queue_depth
    from molecule_runtime.redaction import redact
    from molecule_runtime.wedge import clear_wedge, mark_wedged
except ImportError:

    def touch_tool_activity() -> None:
        """No activity file here."""

    def child_restarted() -> None:
        """No counter here."""

    def set_queue_depth(waiting: int) -> None:
        """No gauge here."""

    def redact(text: str) -> str:
        """Nothing is known here of what a secret looks like."""
        return text

    def mark_wedged(reason: str) -> None:
        """No heartbeat that could say so here."""

    def clear_wedge() -> None:
        """No heartbeat that could say so here."""


_FAILURES_BEFORE_WEDGED = 3


def agent_started(starts: int) -> None:
    """A codex child runs; `starts` counts them, 1 for the first."""
    clear_wedge()
    if starts > 1:
        child_restarted()


def agent_failing(failures: int, problem: str) -> None:
    """A codex child could not be started, `failures` times in a row."""
    if failures >= _FAILURES_BEFORE_WEDGED:
        mark_wedged(f"codex does not start: {problem}")


def queue_changed(waiting: int) -> None:
    """So many messages wait for a turn."""
    set_queue_depth(waiting)


def tool_active() -> None:
    """A tool of the agent has begun or ended: the turn is alive, however long it is silent."""
    touch_tool_activity()


def without_secrets(text: str) -> str:
    """`text` for a user: what an endpoint or codex said may quote a key."""
    return redact(text)
