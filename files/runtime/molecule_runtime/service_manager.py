"""Tells systemd how far the workspace has come (`Type=notify`); nothing where no service manager listens."""

from __future__ import annotations

import os
import socket

from molecule_runtime import logs

__all__ = ["ServiceManager"]

_log = logs.get_logger(__name__)


class ServiceManager:
    """The service manager that started this process, if one did.

    NOTIFY_SOCKET is taken out of the environment: what the agent starts is no part of the service's state.
    """

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")

    def tell(self, *states: str) -> None:
        """Send assignments such as `READY=1` in one datagram. A manager that has gone is logged."""
        if not self._address:
            return
        # A name in the abstract namespace is written with @ in the place of its zero byte.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendto("\n".join(states).encode(), address)
        except OSError as error:
            _log.warning(f"[WARN] the service manager at {self._address} was not told {states[0]}: {error}")
