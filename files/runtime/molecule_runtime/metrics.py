"""What `/metrics` tells: numbers only, no prompt, no answer, no secret, no peer's name."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

from molecule_runtime import platform_auth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request

__all__ = ["Metrics", "child_restarted", "register_ages", "serve", "set_queue_depth"]

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types for it


class Metrics:
    """The runtime's own instruments, on one registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.turns = Counter("molecule_turns", "Turns finished, by outcome.", ["outcome"], registry=registry)
        self.running = Gauge(
            "molecule_turns_running", "Turns that have started and not ended.", registry=registry
        )
        self.duration = Histogram(
            "molecule_turn_seconds",
            "From a message's arrival to its end.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_output = Histogram(
            "molecule_turn_first_output_seconds",
            "From a message's arrival to the first piece of its answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue = Gauge("molecule_turns_queued", "Messages that wait for a turn.", registry=registry)
        self.child_restarts = Counter(
            "molecule_child_restarts", "Times the agent's process was replaced.", registry=registry
        )
        self.heartbeats = Counter(
            "molecule_heartbeats", "Heartbeats sent, by result.", ["result"], registry=registry
        )


METRICS = Metrics()


class _Ages:
    """Gauges that are computed when they are read; absent where there is nothing to measure."""

    def __init__(self) -> None:
        self.credential_issued_at: Callable[[], float | None] = lambda: None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if (issued := self.credential_issued_at()) is not None:
            yield GaugeMetricFamily(
                "molecule_credential_age_seconds",
                "Seconds since the model credential was issued or refreshed.",
                value=max(0.0, time.time() - issued),
            )
        try:
            written = platform_auth.token_path().stat().st_mtime
        except OSError:
            return
        yield GaugeMetricFamily(
            "molecule_platform_token_age_seconds",
            "Seconds since the workspace's platform token was written.",
            value=max(0.0, time.time() - written),
        )


_AGES = _Ages()
REGISTRY.register(_AGES)


def register_ages(credential_issued_at: Callable[[], float | None]) -> None:
    """Let the age of the model credential be read from the adapter."""
    _AGES.credential_issued_at = credential_issued_at


def child_restarted() -> None:
    """Count one replacement of the agent's process. For adapters."""
    METRICS.child_restarts.inc()


def set_queue_depth(waiting: int) -> None:
    """Say how many messages wait for a turn. For adapters."""
    METRICS.queue.set(waiting)


async def serve(_: Request) -> Response:
    """`GET /metrics` in the Prometheus text format."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
