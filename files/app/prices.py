"""What a model's tokens cost: `prices` of config.yaml, in USD for a million tokens. No price is ever guessed.

    prices:
      some-model: {input: 1.25, cached_input: 0.125, output: 10, as_of: 2026-08-14}

Input that the model had cached costs `cached_input`, or as much as other input where that is not given. An
entry without both `input` and `output`, or with one that is no number, prices nothing, and says so.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usage import Tokens

__all__ = ["Price", "PriceTable", "read_prices", "to_decimal"]

_AMOUNTS: Final = ("input", "cached_input", "output")
_KEYS: Final = (*_AMOUNTS, "as_of")
_NANO_PER_MICRO: Final = 1000


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens, and the day on which that was so ("" where nobody said)."""

    input: Decimal
    cached_input: Decimal
    output: Decimal
    as_of: str = ""

    def nano_usd(self, tokens: Tokens) -> int:
        """What `tokens` cost, in 1e-9 USD. USD for a million tokens are micro-USD for one."""
        cached = min(tokens.cached, tokens.input)
        micro = (
            self.input * (tokens.input - cached) + self.cached_input * cached + self.output * tokens.output
        )
        return int((micro * _NANO_PER_MICRO).to_integral_value(ROUND_HALF_UP))


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices by model, upper and lower case alike. `problems` says what could not be read."""

    prices: Mapping[str, Price] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def of(self, *names: str | None) -> Price | None:
        """The price of the first of `names` (of one model) that has one."""
        return next((price for name in names if name and (price := self.prices.get(name.lower()))), None)


def read_prices(given: object) -> PriceTable:
    """Read `prices`. What cannot be read prices nothing; each case is one of `problems`."""
    if given is None:
        return PriceTable()
    if not isinstance(given, dict):
        return PriceTable(problems=(f"prices is {given!r}, not a table of models; there are no prices",))
    prices: dict[str, Price] = {}
    problems: list[str] = []
    for model, entry in given.items():
        if entry is None:
            continue
        found = _price(str(model), entry, problems)
        if found is not None:
            prices[str(model).lower()] = found
    return PriceTable(prices, tuple(problems))


def to_decimal(value: object) -> Decimal | None:
    """A number that is not negative, from YAML or a variable; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value).strip().replace("_", ""))
    except InvalidOperation:
        return None
    return number if number.is_finite() and number >= 0 else None


def _price(model: str, entry: Any, problems: list[str]) -> Price | None:
    if not isinstance(entry, dict):
        problems.append(f"prices.{model} is {entry!r}, not keys such as input and output; it has no price")
        return None
    for key in entry:
        if key not in _KEYS:
            close = difflib.get_close_matches(str(key), _KEYS, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            problems.append(f"prices.{model}.{key} is not known and not used{meant}")
    amounts: dict[str, Decimal] = {}
    for key in _AMOUNTS:
        if entry.get(key) is None:
            continue
        number = to_decimal(entry[key])
        if number is None:
            problems.append(
                f"prices.{model}.{key} is {entry[key]!r}, not USD for a million tokens; {model} has no price"
            )
            return None
        amounts[key] = number
    if "input" not in amounts or "output" not in amounts:
        problems.append(f"prices.{model} needs both input and output; it has no price")
        return None
    return Price(
        amounts["input"],
        amounts.get("cached_input", amounts["input"]),
        amounts["output"],
        _as_of(model, entry.get("as_of"), problems),
    )


def _as_of(model: str, given: object, problems: list[str]) -> str:
    if given is None:
        return ""
    if isinstance(given, date):
        return given.isoformat()[:10]
    try:
        return date.fromisoformat(str(given).strip()).isoformat()
    except ValueError:
        problems.append(f"prices.{model}.as_of is {given!r}, not a date such as 2026-08-14")
        return ""
