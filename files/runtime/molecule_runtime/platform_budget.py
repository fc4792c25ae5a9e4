"""402 of the platform: a workspace has reached its budget there, and takes no messages until it opens again.

The answer is `{"error": "workspace budget limit exceeded", "exceeded_periods": ["monthly"]}`. It comes to
whoever sends to that workspace, also to itself. Trying again changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["exceeded_periods", "pause_seconds", "refusal"]

_SECONDS: Final = {"hourly": 3600.0, "daily": 86400.0, "weekly": 7 * 86400.0, "monthly": 30 * 86400.0}


def exceeded_periods(status: int | None, body: Any) -> list[str] | None:
    """The periods whose budget is used up, [] where it names none; None for an answer of another kind."""
    if status != 402:
        return None
    periods = body.get("exceeded_periods") if isinstance(body, dict) else None
    return [period for period in periods if isinstance(period, str)] if isinstance(periods, list) else []


def refusal(periods: Sequence[str]) -> str:
    """The refusal in words."""
    which = f"its {' and its '.join(periods)} budget" if periods else "its budget"
    return f"HTTP 402: the workspace has used up {which} on the platform; do not try again before that opens"


def pause_seconds(periods: Sequence[str]) -> float:
    """How long to say nothing: the longest window that is used up, since all must open; the longest of all
    where none is known."""
    known = [_SECONDS[period] for period in periods if period in _SECONDS]
    return max(known) if known and len(known) == len(periods) else max(_SECONDS.values())
