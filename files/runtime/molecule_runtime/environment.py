"""What the container's environment says, checked before any of it enters a URL, a header or a path."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DeliveryMode", "Environment", "EnvironmentVariableError"]

DeliveryMode = Literal["push", "poll"]

_WORKSPACE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
_WITHOUT_PLATFORM = {"off", "none"}
_URL_TEXT = re.compile(r"[!-~]+")
_ON, _OFF = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._\[\]:-]+")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?")


class EnvironmentVariableError(ValueError):
    """An environment variable that the workspace cannot start with."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The container's variables as values. `platform_url` is None in a workspace on its own."""

    workspace_id: str
    platform_url: str | None
    org_id: str = ""
    config_path: Path = Path("/configs")
    adapter_module: str = ""
    workspace_url: str = ""
    hostname: str = ""
    delivery_mode: DeliveryMode | None = None
    log_level: str = ""
    log_json: bool = False
    smoke: bool = False
    require_auth: bool | None = None
    a2a_origins: frozenset[str] = frozenset()
    a2a_hosts: frozenset[str] = frozenset()

    @classmethod
    def read(cls, env: Mapping[str, str] | None = None) -> Environment:
        """Read and check `env` (default: the process's). Raises EnvironmentVariableError, with the remedy."""
        env = os.environ if env is None else env
        delivery = env.get("MOLECULE_DELIVERY_MODE", "")
        if delivery not in ("", "push", "poll"):
            raise EnvironmentVariableError(
                f"MOLECULE_DELIVERY_MODE is {delivery!r}: it must be push or poll; unset it for push"
            )
        log_level = env.get("LOG_LEVEL", "").upper()
        platform = platform_url(env)
        return cls(
            workspace_id=workspace_id(env),
            platform_url=platform,
            org_id=env.get("MOLECULE_ORG_ID", "").strip(),
            config_path=Path(env.get("WORKSPACE_CONFIG_PATH") or "/configs"),
            adapter_module=env.get("ADAPTER_MODULE", ""),
            workspace_url=env.get("MOLECULE_WORKSPACE_URL", "").strip(),
            hostname=env.get("HOSTNAME") or socket.gethostname(),
            delivery_mode=delivery or None,  # type: ignore[arg-type]  # narrowed by the check above
            log_level=log_level,
            log_json=env.get("LOG_FORMAT", "").lower() == "json",
            smoke=env.get("MOLECULE_SMOKE_MODE", "") not in ("", "0", "false"),
            require_auth=require_auth(env, with_platform=platform is not None),
            a2a_origins=_listed(env, "CODEX_WORKSPACE_A2A_ORIGINS", _ORIGIN, "https://pages.example"),
            a2a_hosts=_listed(env, "CODEX_WORKSPACE_A2A_HOSTS", _HOST, "workspace.example"),
        )

    @property
    def problem(self) -> str:
        """What is wrong, and can be said to who asks: the workspace serves it. "" where nothing is."""
        try:
            parts = urlsplit(self.workspace_url)
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_url = False
        if not self.workspace_url or (is_url and _URL_TEXT.fullmatch(self.workspace_url)):
            return ""
        return (
            f"MOLECULE_WORKSPACE_URL is {self.workspace_url[:80]!a}: it must be http://HOST[:PORT] or "
            "https://..., as the platform reaches this workspace; unset it for the host name of the container"
        )

    def external_url(self, port: int) -> str:
        """The URL that the platform dials: MOLECULE_WORKSPACE_URL verbatim, else `http://<hostname>:<port>`.

        A loopback address becomes `localhost`: the platform's guard against request forgery refuses
        127.0.0.1 at registration, and lets the name through.
        """
        if self.workspace_url and not self.problem:
            return self.workspace_url
        host = "localhost" if self.hostname.startswith("127.") or self.hostname == "::1" else self.hostname
        return f"http://{host}:{port}"


def workspace_id(env: Mapping[str, str]) -> str:
    """WORKSPACE_ID, checked: it becomes part of URLs and headers. Raises EnvironmentVariableError."""
    value = env.get("WORKSPACE_ID", "")
    if not value:
        raise EnvironmentVariableError(
            "WORKSPACE_ID is not set: pass the id of this workspace, e.g. -e WORKSPACE_ID=my-agent"
        )
    if not _WORKSPACE_ID.fullmatch(value):
        raise EnvironmentVariableError(
            f"WORKSPACE_ID is {value!r}: allowed are 1 to 128 of a-z, 0-9 and '-', not starting with '-'"
        )
    return value


def platform_url(env: Mapping[str, str]) -> str | None:
    """PLATFORM_URL without a trailing slash; the one default where it is unset; None for `off` or `none`."""
    value = env.get("PLATFORM_URL", "").strip().rstrip("/")
    if value.lower() in _WITHOUT_PLATFORM:
        return None
    if not value:
        in_docker = Path("/.dockerenv").exists() or bool(env.get("DOCKER_VERSION"))
        return "http://host.docker.internal:8080" if in_docker else "http://localhost:8080"
    try:
        parts = urlsplit(value)
    except ValueError:
        return value  # as one whose port is no number: the client says what is wrong, and it is served
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EnvironmentVariableError(
            f"PLATFORM_URL is {value!r}: it must be http://HOST[:PORT] or https://..., or off for no platform"
        )
    return value


def require_auth(env: Mapping[str, str], *, with_platform: bool) -> bool | None:
    """MOLECULE_A2A_REQUIRE_AUTH; None where it is not set, or says nothing that the platform knows.

    Without a platform it is the operator's own, and a typing error in it must not leave a port open: raises
    EnvironmentVariableError.
    """
    value = env.get("MOLECULE_A2A_REQUIRE_AUTH", "").strip().lower()
    if value in _ON:
        return True
    if value in _OFF:
        return False
    if value and not with_platform:
        raise EnvironmentVariableError(
            f"MOLECULE_A2A_REQUIRE_AUTH is {value!r}: give 1 to ask for a bearer at POST /, or 0 for none"
        )
    return None


def _listed(env: Mapping[str, str], name: str, form: re.Pattern[str], example: str) -> frozenset[str]:
    """The values of a list that is separated by commas or blanks, in lower case."""
    values = env.get(name, "").lower().replace(",", " ").split()
    for value in values:
        if not form.fullmatch(value):
            raise EnvironmentVariableError(
                f"{name} holds {value[:200]!r}: give values such as {example}, separated by commas"
            )
    return frozenset(values)
