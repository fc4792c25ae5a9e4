"""Who may talk to the workspace: the bearers that `POST /` takes, and what a browser may not do.

A page that somebody has open in a browser can send requests to whatever that machine reaches: to `localhost`
with its own `Origin`, as a plain form without asking first, or under a name of its own that it lets point to
an address of ours (DNS rebinding). So what a browser marks as another site's is refused on every route that
acts or tells, a message has to be declared as JSON, which no form can, and a name that is none of ours is
refused where nothing but the address protects.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from molecule_runtime import platform_auth
from molecule_runtime.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["OWN_TOKEN", "Access", "AccessGate", "own_names", "unauthorized"]

OWN_TOKEN = "CODEX_WORKSPACE_A2A_TOKEN"  # noqa: S105 (the name of a variable)
"""The bearer of a workspace that has no platform to hand out secrets."""

_PUBLIC = frozenset({"/healthz", "/readyz", "/.well-known/agent-card.json", "/.well-known/agent.json"})
"""Probes and cards are for everybody."""

_PRIVATE_SUFFIXES = ("localhost", "local", "internal", "home.arpa", "svc")
"""Ends of names that nobody can register: RFC 6761, 6762, 8375, ICANN's, and Kubernetes' short form."""

_JSON = re.compile(r"application/(json|[a-z0-9!#$&^_.-]+\+json)", re.IGNORECASE)
_IN_KUBERNETES = re.compile(r"[^.]+\.svc\..+")
_RESOLVER = Path("/etc/resolv.conf")


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of one workspace.

    `required` says whether `POST /` asks for a bearer: the platform's inbound secret, or `own_token` where
    there is one. `origins` are pages that may use it from a browser, `hosts` names by which it is reached.
    """

    required: bool = False
    own_token: str = field(default="", repr=False)
    origins: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()

    def admits(self, header: str | None) -> bool:
        """Whether the `Authorization` header carries a bearer that may give orders. In constant time."""
        return platform_auth.bearer_matches(header, self.own_token) or platform_auth.inbound_authorized(
            header
        )

    def may_read(self, header: str | None) -> bool:
        """Whether it may read what others have said: who may give orders, or holds the workspace's token."""
        return self.admits(header) or platform_auth.bearer_matches(header, platform_auth.get_token())


def own_names(urls: Iterable[str], names: Iterable[str], resolver: Path = _RESOLVER) -> frozenset[str]:
    """Names of this machine: the hosts of `urls`, `names`, and, with a dot before, the zones that it is in.

    A zone is what the resolver completes names with. Of `agents.svc.cluster.local` the first label is one
    too: Kubernetes calls a workspace `workspace.agents`.
    """
    found = {urlsplit(url).hostname or "" for url in urls} | {name.lower() for name in names}
    try:
        lines = resolver.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    for words in (line.split() for line in lines):
        if words and words[0] in ("search", "domain"):
            zones = [word.strip(".").lower() for word in words[1:]]
            found |= {f".{zone}" for zone in zones if zone}
            found |= {f".{zone.partition('.')[0]}" for zone in zones if _IN_KUBERNETES.fullmatch(zone)}
    return frozenset(found - {""})


class AccessGate:
    """The first thing that a request meets. What it lets through, each route may still refuse."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, 403 or 415 with the reason before a byte of the body is read, or pass on."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        path, headers = scope["path"], Headers(scope=scope)
        if path in _PUBLIC:
            return None
        if reason := self._foreign_page(headers):
            return JSONResponse({"error": reason}, status_code=403)
        return self._no_message(headers) if path == "/" and scope["method"] == "POST" else None

    def _no_message(self, headers: Headers) -> JSONResponse | None:
        """Why `POST /` is refused. Who has a bearer is no page, whatever name it has reached us by."""
        if not self._access.admits(headers.get("authorization")):
            if self._access.required:
                return unauthorized()
            if reason := self._foreign_host(headers):
                return JSONResponse({"error": reason}, status_code=403)
        kind = headers.get("content-type", "")
        if not _JSON.fullmatch(kind.partition(";")[0].strip()):
            given = f"Content-Type is {shortened(kind)!r}" if kind else "there is no Content-Type"
            return JSONResponse({"error": f"{given}: send application/json"}, status_code=415)
        return None

    def _foreign_page(self, headers: Headers) -> str:
        """Why a browser's request is refused; "" for one of a page of ours, and for what is no browser's.

        Only browsers send Origin and Sec-Fetch-Site, and no page can change them. (Sec-Fetch-Mode comes from
        node's fetch as well.)
        """
        origins, sites = headers.getlist("origin"), headers.getlist("sec-fetch-site")
        if not origins and not sites:
            return ""
        if origins and all(_canonical(origin) in self._access.origins for origin in origins):
            return ""
        for origin in origins:
            if not _same_host(origin, headers.getlist("host")):
                return (
                    f"requests of the page {shortened(origin)!r} are refused: name it in "
                    "CODEX_WORKSPACE_A2A_ORIGINS to allow it"
                )
        if any(site.strip().lower() not in ("same-origin", "none") for site in sites):
            return "requests that a browser sends for another site are refused"
        return self._foreign_host(headers)

    def _foreign_host(self, headers: Headers) -> str:
        for host in headers.getlist("host"):
            if not self._is_ours(host):
                return (
                    f"the name {shortened(host)!r} is not known here: name it in CODEX_WORKSPACE_A2A_HOSTS, "
                    "or reach the workspace by its address"
                )
        return ""

    def _is_ours(self, host: str) -> bool:
        """Whether a name cannot be an attacker's: an address, one without a dot, a private or a known one."""
        name = _host_name(host)
        if name is None:
            return False
        if _is_address(name) or "." not in name or name in self._access.hosts:
            return True
        zones = {zone for zone in self._access.hosts if zone.startswith(".")}
        return any(name.endswith(f".{suffix}") for suffix in _PRIVATE_SUFFIXES) or any(
            name.endswith(zone) for zone in zones
        )


def unauthorized() -> JSONResponse:
    """401, as the platform's runtimes answer it."""
    return JSONResponse(
        {"error": "unauthorized"}, status_code=401, headers={"WWW-Authenticate": 'Bearer realm="workspace"'}
    )


def _host_name(host: str) -> str | None:
    """The name in a Host header, in lower case, without port; None where it is no name."""
    try:
        parts = urlsplit(f"//{host.strip()}")
        found, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return found.rstrip(".") if found and parts.netloc == host.strip() and "@" not in host else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same_host(origin: str, hosts: list[str]) -> bool:
    """Whether `origin` is the address that was asked, by either scheme: a proxy may have ended TLS."""
    return bool(hosts) and all(
        _canonical(origin) in (f"http://{host.strip().lower()}", f"https://{host.strip().lower()}")
        for host in hosts
    )


def _canonical(origin: str) -> str:
    return origin.strip().rstrip("/").lower()
