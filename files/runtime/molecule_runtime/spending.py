"""What the agent spends, as far as an adapter tells: for heartbeats, `/metrics` and own prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Meter", "closed", "monthly_cents", "told_by"]


class Meter(Protocol):
    """What an adapter hands to `told_by`. Nothing of it may block."""

    def monthly_cents(self) -> int | None:
        """Spent in this calendar month (UTC) in whole US cents, never less than before; None if unknown."""

    def closed(self) -> str:
        """Why nothing may be worked on now, in words; "" while something may."""

    def samples(self) -> Iterable[Any]:
        """Numbers with `kind` (`counter` or `gauge`), `name`, `help`, `labels` and `value`."""


class _Told:
    meter: Meter | None = None

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """The adapter's numbers, grouped by name as Prometheus wants them."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for sample in self.meter.samples() if self.meter is not None else ():
            if sample.name not in families:
                family = CounterMetricFamily if sample.kind == "counter" else GaugeMetricFamily
                families[sample.name] = family(sample.name, sample.help, labels=list(sample.labels))
            families[sample.name].add_metric(list(sample.labels.values()), float(sample.value))
        yield from families.values()


_TOLD = _Told()
REGISTRY.register(_TOLD)


def told_by(meter: Meter) -> None:
    """Read the spending from `meter` from now on. For adapters."""
    _TOLD.meter = meter


def monthly_cents() -> int | None:
    """As `Meter.monthly_cents`; None without one."""
    return _TOLD.meter.monthly_cents() if _TOLD.meter is not None else None


def closed() -> str:
    """As `Meter.closed`; "" without one."""
    return _TOLD.meter.closed() if _TOLD.meter is not None else ""
