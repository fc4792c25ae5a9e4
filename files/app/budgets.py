"""Caps on tokens and money, and when a workspace that has reached one may go on.

    budgets:
      daily: {tokens: 2000000, usd: 20}

and `CODEX_WORKSPACE_BUDGET_DAILY_TOKENS`, `CODEX_WORKSPACE_BUDGET_DAILY_USD`, which win over the file. A
window is rolling: an hour, a day, 7 days, 30 days back from now, as the platform's. 0 blocks everything. A
cap that cannot be read blocks too, and says so: whoever wrote it wanted one.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal

from prices import to_decimal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["PERIODS", "Budgets", "Cap", "Entry", "Reached", "read_budgets", "spent_within"]

PERIODS: Final = {"hourly": 3600, "daily": 86400, "weekly": 7 * 86400, "monthly": 30 * 86400}
"""Seconds of each rolling window."""

_UNITS: Final = ("tokens", "usd")
_NANO: Final = 1_000_000_000
_VARIABLE: Final = "CODEX_WORKSPACE_BUDGET_"
_LIFTED: Final = frozenset({"off", "none", "unlimited"})


@dataclass(frozen=True, slots=True)
class Cap:
    """One cap. `limit` is tokens, or 1e-9 USD; `source` is where it was set."""

    period: str
    unit: Literal["tokens", "usd"]
    limit: int
    source: str = ""

    def words(self, amount: int) -> str:
        """`amount` for people: `1,234 tokens`, `1.50 USD`."""
        if self.unit == "tokens":
            return f"{amount:,} tokens"
        digits = 2 if amount % (_NANO // 100) == 0 else 6
        return f"{Decimal(amount) / _NANO:.{digits}f} USD"


@dataclass(frozen=True, slots=True)
class Entry:
    """What was spent between `start` and `end` (Unix time, s)."""

    start: float
    end: float
    tokens: int
    nano_usd: int


@dataclass(frozen=True, slots=True)
class Reached:
    """A cap that is reached. `opens_at` is the Unix time at which the window opens again, None for never."""

    cap: Cap
    spent: int
    opens_at: float | None

    def words(self, now: float) -> str:
        """Cap, spent, and when it opens again, as one sentence."""
        cap = self.cap
        what = f"The {cap.period} budget is {cap.words(cap.limit)}, and {cap.words(self.spent)} are spent"
        if self.opens_at is None:
            return f"{what}; a budget of 0 never opens ({cap.source})."
        at = datetime.fromtimestamp(self.opens_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"{what}; it opens again at {at}, in {_duration(self.opens_at - now)} ({cap.source})."


@dataclass(frozen=True, slots=True)
class Budgets:
    """All caps. `refusals` are reasons to work on nothing, `warnings` what was not understood."""

    caps: tuple[Cap, ...] = ()
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def in_money(self) -> bool:
        """Whether a cap is in USD, which only works for models with a price. 0 works without one."""
        return any(cap.unit == "usd" and cap.limit > 0 for cap in self.caps)

    def reached(self, entries: Sequence[Entry], now: float) -> Reached | None:
        """The cap that stays closed longest, of those that are reached; None where none is."""
        found = [reached for cap in self.caps if (reached := _reached(cap, entries, now)) is not None]
        return max(
            found, key=lambda one: float("inf") if one.opens_at is None else one.opens_at, default=None
        )


def spent_within(cap: Cap, entries: Iterable[Entry], now: float) -> int:
    """What was spent in the window of `cap` that ends now. An entry counts until all of it is outside."""
    since = now - PERIODS[cap.period]
    return sum(_amount(cap, entry) for entry in entries if entry.end > since)


def read_budgets(given: object, env: Mapping[str, str]) -> Budgets:
    """Read `budgets` of config.yaml, and the variables over it."""
    refusals: list[str] = []
    warnings: list[str] = []
    found: dict[tuple[str, str], Cap | str] = {}
    for period, unit, value in _from_file(given, refusals, warnings):
        found[period, unit] = _cap(period, unit, value, f"budgets.{period}.{unit}")
    for period in PERIODS:
        for unit in _UNITS:
            variable = f"{_VARIABLE}{period}_{unit}".upper()
            value = env.get(variable, "").strip()
            if value.lower() in _LIFTED:
                found.pop((period, unit), None)
            elif value:
                found[period, unit] = _cap(period, unit, value, variable)
    refusals += [problem for problem in found.values() if isinstance(problem, str)]
    caps = [cap for cap in found.values() if isinstance(cap, Cap)]
    known = {f"{_VARIABLE}{period}_{unit}".upper() for period in PERIODS for unit in _UNITS}
    warnings += [
        f"{variable} is not known and sets no cap{_meant(variable, known)}"
        for variable, value in env.items()
        if variable.startswith(_VARIABLE) and variable not in known and value.strip()
    ]
    return Budgets(tuple(caps), tuple(refusals), tuple(warnings))


def _from_file(given: object, refusals: list[str], warnings: list[str]) -> Iterable[tuple[str, str, object]]:
    if given is None:
        return
    if not isinstance(given, dict):
        refusals.append(f"budgets is {given!r}, not periods such as daily: {{tokens: 2000000}}")
        return
    for period, caps in given.items():
        if period not in PERIODS:
            warnings.append(f"budgets.{period} is not known and sets no cap{_meant(str(period), PERIODS)}")
        elif caps is None:
            warnings.append(f"budgets.{period} is empty and sets no cap")
        elif not isinstance(caps, dict):
            refusals.append(f"budgets.{period} is {caps!r}, not tokens: and usd: with a number each")
        else:
            for unit, value in caps.items():
                if unit not in _UNITS:
                    warnings.append(
                        f"budgets.{period}.{unit} is not known and sets no cap{_meant(str(unit), _UNITS)}"
                    )
                elif value is None:
                    warnings.append(f"budgets.{period}.{unit} is empty and sets no cap")
                else:
                    yield period, unit, value


def _cap(period: str, unit: str, value: object, source: str) -> Cap | str:
    """The cap; what is wrong with it in words where it cannot be read."""
    number = to_decimal(value)
    if number is None or (unit == "tokens" and number != int(number)):
        wanted = "a whole number of tokens" if unit == "tokens" else "an amount in USD"
        return f"{source} is {value!r}, not {wanted} of 0 or more"
    if unit == "tokens":
        return Cap(period, "tokens", int(number), source)
    return Cap(period, "usd", int(number * _NANO), source)


def _meant(given: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _reached(cap: Cap, entries: Sequence[Entry], now: float) -> Reached | None:
    spent = spent_within(cap, entries, now)
    if spent < cap.limit:
        return None
    left = spent
    period = PERIODS[cap.period]
    for entry in sorted(entries, key=lambda one: one.end):
        if entry.end > now - period:
            left -= _amount(cap, entry)
            if left < cap.limit:
                return Reached(cap, spent, entry.end + period)
    return Reached(cap, spent, None)


def _amount(cap: Cap, entry: Entry) -> int:
    return entry.tokens if cap.unit == "tokens" else entry.nano_usd


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    days, rest = divmod(minutes, 24 * 60)
    hours, minutes = divmod(rest, 60)
    parts = [f"{days} d"] * bool(days) + [f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes)
    return " ".join(parts[:2])
