"""One process-wide flag: every further request will fail until the workspace is restarted."""

from __future__ import annotations

__all__ = ["clear_wedge", "is_wedged", "mark_wedged", "wedge_reason"]

_LIMIT = 80


class _State:
    reason: str = ""


def mark_wedged(reason: str) -> None:
    """Report the workspace as wedged. The first reason stays: it is nearest to the cause."""
    if not _State.reason:
        _State.reason = " ".join(reason.split())[:_LIMIT] or "wedged"


def clear_wedge() -> None:
    """Take the report back, after a turn was seen to succeed."""
    _State.reason = ""


def is_wedged() -> bool:
    """Whether the workspace is reported as wedged."""
    return bool(_State.reason)


def wedge_reason() -> str:
    """Why, in at most 80 characters; "" if it is not."""
    return _State.reason
