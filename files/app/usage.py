"""Tokens as codex reports them: totals of a thread that grow, repeat, and sometimes begin anew.

codex sends `thread/tokenUsage/updated` with the sum over the thread after each answer of the model, and
repeats the last one when a turn begins. So only what a sum has grown by is new. A resumed thread begins with
the sum of its recording; when a conversation no longer fits into the model, codex puts zeros in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NONE", "Spent", "Tokens", "grown"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Numbers of tokens. `cached` is the part of `input`, and `reasoning` the part of `output`."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    @classmethod
    def read(cls, given: object) -> Tokens | None:
        """From codex's `{inputTokens, cachedInputTokens, outputTokens, reasoningOutputTokens}`.

        None for anything that is no such object. What is missing, or no number of tokens, counts as 0.
        """
        if not isinstance(given, dict):
            return None
        return cls(
            _count(given, "inputTokens"),
            _count(given, "cachedInputTokens"),
            _count(given, "outputTokens"),
            _count(given, "reasoningOutputTokens"),
        )

    @property
    def total(self) -> int:
        """Input and output, which hold the other two."""
        return self.input + self.output

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.cached + other.cached,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )

    def less(self, other: Tokens) -> Tokens:
        """The difference, at least 0 of each."""
        pairs = zip(self.as_list(), other.as_list(), strict=True)
        return Tokens(*(max(0, mine - theirs) for mine, theirs in pairs))

    def as_list(self) -> list[int]:
        """`[input, cached, output, reasoning]`."""
        return [self.input, self.cached, self.output, self.reasoning]


NONE = Tokens()


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens, by which model, and what they cost in 1e-9 USD; None where there is no price for it all."""

    tokens: Tokens = NONE
    model: str = ""
    nano_usd: int | None = 0

    def __add__(self, other: Spent) -> Spent:
        known = self.nano_usd is not None and other.nano_usd is not None
        return Spent(
            self.tokens + other.tokens,
            other.model or self.model,
            (self.nano_usd or 0) + (other.nano_usd or 0) if known else None,
        )

    def as_metadata(self) -> dict[str, Any]:
        """What an answer says of its usage; `cost_usd` only where it is known."""
        tokens = self.tokens
        cost = {"cost_usd": round(self.nano_usd / 1e9, 9)} if self.nano_usd is not None else {}
        return {
            "input_tokens": tokens.input,
            "cached_input_tokens": tokens.cached,
            "output_tokens": tokens.output,
            "reasoning_output_tokens": tokens.reasoning,
            "total_tokens": tokens.total,
            "model": self.model,
            **cost,
        }


def grown(before: Tokens, total: Tokens, last: Tokens, *, just_loaded: bool) -> Tokens:
    """What is new in `total`, the thread's sum, after `before`. `last` is what codex gives the last answer.

    A sum that has shrunk began anew. Just after the thread was loaded, that is a recording which was behind
    what codex had already reported when it was killed: nothing is new. Later the sum is new where the last
    answer is all of it; zeros are codex's way to say that the conversation no longer fits into the model.
    """
    if total.input >= before.input and total.output >= before.output:
        return total.less(before)
    if just_loaded or total != last:
        return NONE
    return total


def _count(given: Mapping[str, Any], key: str) -> int:
    value = given.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
