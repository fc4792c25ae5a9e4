"""The platform, as far as the adapter itself talks to it: secrets, attachments, what the agent does.

Which token a call carries is the runtime's business (`runtime_hooks.auth_headers`), and changes: it is asked
anew for each call.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["PlatformApi", "platform_url"]

_SECONDS: Final = 30.0
_ACTIVITY_SECONDS: Final = 5.0


def platform_url(env: Mapping[str, str]) -> str | None:
    """PLATFORM_URL without a trailing slash, its default where it is unset, None where it is `off` or `none`.

    Raises ValueError for what is no URL.
    """
    value = env.get("PLATFORM_URL", "").strip().rstrip("/")
    if value.lower() in ("off", "none"):
        return None
    if not value:
        in_container = Path("/.dockerenv").exists() or bool(env.get("DOCKER_VERSION"))
        return f"http://{'host.docker.internal' if in_container else 'localhost'}:8080"
    try:
        scheme = urlsplit(value).scheme
    except ValueError:
        scheme = ""
    if scheme not in ("http", "https"):
        raise ValueError(f"PLATFORM_URL is {value!r}: it must be http://HOST[:PORT] or https://..., or off")
    return value


@dataclass(frozen=True, slots=True)
class PlatformApi:
    """The routes of one workspace, below `/workspaces/<id>/`."""

    base_url: str
    workspace_id: str
    headers: Callable[[], Mapping[str, str]]
    transport: httpx.AsyncBaseTransport | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """What else a client is made with, such as the proxy on the way."""

    def client(self, seconds: float = _SECONDS) -> httpx.AsyncClient:
        """A client for paths relative to the workspace, with the credentials of now. `seconds` each step."""
        return httpx.AsyncClient(
            base_url=f"{self.base_url.rstrip('/')}/workspaces/{self.workspace_id}/",
            headers=dict(self.headers()),
            transport=self.transport,
            timeout=seconds,
            **self.options,
        )

    async def secrets(self) -> dict[str, str]:
        """The workspace's secrets by name. Raises httpx.HTTPError, and ValueError for another answer."""
        async with self.client() as client:
            response = await client.get("secrets/values")
        response.raise_for_status()
        answer = response.json()
        if not isinstance(answer, dict):
            raise ValueError(f"secrets/values is a {type(answer).__name__}, not names and values")  # noqa: TRY004 (bad data, no bug)
        return {name: value for name, value in answer.items() if isinstance(value, str)}

    async def activity(self, row: Mapping[str, str]) -> bool:
        """Tell one row of activity; whether it was taken. Raises nothing: nothing depends on it."""
        try:
            async with self.client(_ACTIVITY_SECONDS) as client, asyncio.timeout(_ACTIVITY_SECONDS):
                return (await client.post("activity", json=dict(row))).is_success
        except (httpx.HTTPError, TimeoutError):
            return False

    async def aclose(self) -> None:
        """Nothing is kept open between calls."""
