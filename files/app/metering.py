"""Counts what codex says that it has spent, and says when the workspace has to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from budgets import Reached, spent_within
from usage import NONE, Spent, Tokens, grown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from budgets import Budgets
    from prices import PriceTable
    from usage_ledger import UsageLedger

__all__ = ["Counted", "Meter", "Sample"]

log = structlog.get_logger(__name__)

_NANO_PER_CENT: Final = 10_000_000
_NANO_PER_USD: Final = 100 * _NANO_PER_CENT


@dataclass(frozen=True, slots=True)
class Counted:
    """What is new. `thread` is the conversation's, also where one of its sub-agents spent it."""

    thread: str
    spent: Spent


@dataclass(frozen=True, slots=True)
class Sample:
    """One number for `/metrics`. `kind` is `counter` or `gauge`."""

    kind: str
    name: str
    help: str
    labels: dict[str, str]
    value: float


class Meter:
    """The usage of all threads. `model` is the one that was chosen, until codex names it.

    Its owner says which threads there are (`thread`), and passes codex's notifications on (`take`). All of it
    is memory: it never waits.
    """

    def __init__(
        self, ledger: UsageLedger, prices: PriceTable, budgets: Budgets, *, model: str | None = None
    ) -> None:
        self._ledger = ledger
        self._prices = prices
        self._budgets = budgets
        self._model = model or ""
        self._models: dict[str, str] = {}
        self._parents: dict[str, str] = {}
        self._inherited: dict[str, Tokens | None] = {}
        self._just_loaded: set[str] = set()
        self._reached: Reached | None = None
        self._looked = False
        self._counted: dict[str, Spent] = {}
        self._on_closed: list[Callable[[], None]] = []
        for problem in (*prices.problems, *budgets.warnings):
            log.warning("usage.configuration", problem=problem)
        for problem in budgets.refusals:
            log.error("usage.budget_unreadable", problem=problem)

    def when_closed(self, tell: Callable[[], None]) -> None:
        """Call `tell` each time that a cap is reached."""
        self._on_closed.append(tell)

    # -- what codex says -----------------------------------------------------------------------------------

    def thread(self, thread: str, model: str | None, *, resumed: bool) -> None:
        """A thread was loaded into a codex process."""
        if model:
            self._models[thread] = self._model = model
        if resumed:
            self._just_loaded.add(thread)
        else:
            self._ledger.begin(thread)

    def take(self, method: str, params: dict[str, Any]) -> Counted | None:
        """A notification of codex; what it adds to the usage, None for nothing."""
        if method == "thread/tokenUsage/updated":
            return self._usage(params)
        if method == "model/rerouted":
            self._models[str(params.get("threadId"))] = str(params.get("toModel"))
        elif method in ("item/started", "item/completed"):
            self._sub_agent(params.get("item"))
        return None

    def _sub_agent(self, item: object) -> None:
        """codex tells of a sub-agent's thread only by the call that made it."""
        if not isinstance(item, dict) or item.get("type") != "collabAgentToolCall":
            return
        parent = str(item.get("senderThreadId"))
        for child in map(str, item.get("receiverThreadIds") or ()):
            if child not in self._parents:
                self._parents[child] = parent
                self._inherited[child] = self._ledger.total(parent)
                self._models[child] = item.get("model") or self._models.get(parent, self._model)

    def _usage(self, params: dict[str, Any]) -> Counted | None:
        thread, usage = str(params.get("threadId")), params.get("tokenUsage")
        total = Tokens.read(usage.get("total")) if isinstance(usage, dict) else None
        if not isinstance(usage, dict) or total is None:
            log.warning("usage.unreadable", thread=thread)
            return None
        last = Tokens.read(usage.get("last")) or NONE
        before = self._ledger.total(thread)
        if before is None:
            before = self._first_sight(thread, total, last)
        elif before == total:
            self._just_loaded.discard(thread)
            return None
        new = grown(before, total, last, just_loaded=thread in self._just_loaded)
        self._just_loaded.discard(thread)
        model = self._models.get(thread, self._model)
        price = self._prices.of(model)
        spent = Spent(new, model, price.nano_usd(new) if price is not None else None)
        self._ledger.add(thread, total, spent)
        if new == NONE:
            return None
        self._counted[model] = self._counted.get(model, Spent(model=model)) + spent
        self._looked = False
        if self.closed():
            for tell in self._on_closed:
                tell()
        return Counted(self._conversation(thread), spent)

    def _first_sight(self, thread: str, total: Tokens, last: Tokens) -> Tokens:
        """The sum before the first notification of a thread that the ledger does not know."""
        if thread in self._just_loaded:
            # A resumed one, and the ledger was lost: its past was spent before the ledger began.
            log.warning("usage.thread_unknown", thread=thread, tokens=total.total)
            return total
        if total == self._inherited.get(thread):
            # A sub-agent that was given its parent's history begins with the sum that its parent had.
            return total
        return total.less(last)

    def _conversation(self, thread: str) -> str:
        seen = {thread}
        while (parent := self._parents.get(thread)) is not None and parent not in seen:
            seen.add(thread := parent)
        return thread

    # -- budgets -------------------------------------------------------------------------------------------

    def closed(self) -> str:
        """Why nothing may be worked on now, in words; "" while something may. Cheap: asked at every event."""
        if self._budgets.refusals:
            return "A budget cannot be read: " + "; ".join(self._budgets.refusals) + "."
        if self._budgets.in_money and self._model and self._prices.of(self._model) is None:
            return (
                f"A budget in USD is set, and {self._model} has no price: give it one in prices of "
                "config.yaml, or set the budget in tokens."
            )
        now = self._ledger.now()
        reached = self._reached
        opens_at = reached.opens_at if reached is not None else None
        if not self._looked or (opens_at is not None and now >= opens_at):
            self._reached = self._budgets.reached(self._ledger.entries(), now) if self._budgets.caps else None
            self._looked = True
            if self._reached is not None and reached is None:
                log.warning("usage.budget_reached", reason=self._reached.words(now))
        return self._reached.words(now) if self._reached is not None else ""

    # -- what is told --------------------------------------------------------------------------------------

    def note(self) -> str:
        """What an operator should know, in one line: a closed budget, a ledger in trouble; "" for nothing."""
        return " ".join(filter(None, (self.closed(), self._ledger.problem)))

    def monthly_cents(self) -> int | None:
        """What this calendar month (UTC) has cost in whole cents; None where that is not known."""
        nano = self._ledger.month_nano_usd()
        return nano // _NANO_PER_CENT if nano is not None else None

    def samples(self) -> Iterator[Sample]:
        """Numbers for `/metrics`; counters since the process began."""
        yield from self._counters()
        if (cents := self.monthly_cents()) is not None:
            yield _gauge(
                "molecule_monthly_spend_cents", "Spent in this calendar month (UTC), whole US cents.", cents
            )
        entries, now = self._ledger.entries(), self._ledger.now()
        for cap in self._budgets.caps:
            spent, labels = spent_within(cap, entries, now), {"period": cap.period, "unit": cap.unit}
            unit = 1 if cap.unit == "tokens" else _NANO_PER_USD
            for name, text, value in (
                ("cap", "The budget of a period, in tokens or US dollars.", cap.limit),
                ("spent", "Spent of the budget in its window.", spent),
                ("remaining", "Left of the budget in its window.", max(0, cap.limit - spent)),
            ):
                yield _gauge(f"molecule_budget_{name}", text, value / unit, labels)
        closed, ledger = bool(self.closed()), self._ledger
        yield _gauge("molecule_budget_closed", "1 while a budget lets no message be worked on.", closed)
        yield _gauge("molecule_usage_ledger_damaged", "1 if part of it was unreadable.", ledger.damaged)
        yield _gauge("molecule_usage_ledger_written", "0 while it cannot be written.", ledger.written)

    def _counters(self) -> Iterator[Sample]:
        text = "Tokens since the process began; cached_input is part of input, reasoning_output of output."
        kinds = ("input", "cached_input", "output", "reasoning_output")
        for model, spent in self._counted.items():
            for kind, value in zip(kinds, spent.tokens.as_list(), strict=True):
                yield Sample("counter", "molecule_tokens", text, {"kind": kind, "model": model}, value)
        text = "Spent since the process began, in US cents; no model without a price."
        for model, spent in self._counted.items():
            if spent.nano_usd is not None:
                cents = spent.nano_usd / _NANO_PER_CENT
                yield Sample("counter", "molecule_spend_cents", text, {"model": model}, cents)


def _gauge(name: str, text: str, value: float, labels: dict[str, str] | None = None) -> Sample:
    return Sample("gauge", name, text, labels or {}, value)
