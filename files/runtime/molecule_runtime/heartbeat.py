"""Liveness: what the platform is told every 30 s."""

from __future__ import annotations


class Heartbeat:
    """What the workspace is doing, as the next beat will say."""

    def __init__(self) -> None:
        self.current_task = ""
