"""HTTP clients that find their way out: the proxy for an address, whom to trust, and what a header can hold.

httpx reads the same variables by itself, and ends with an exception at a bracketed address in NO_PROXY, takes
no network there, and sends loopback through a proxy. Here each address is decided once, and what cannot be
used is one sentence that names the variable.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NetworkError", "client_options", "header_value", "proxy_for"]

_PORTS = {"http": 80, "https": 443}
_HEADER_TEXT = re.compile(r"[ -~]*")


class NetworkError(ValueError):
    """An address, a proxy or an authority that cannot be used. The text names the variable, and no secret."""


def client_options(url: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What an `httpx.AsyncClient` for `url` is made with. Raises NetworkError."""
    env = os.environ if env is None else env
    return {"trust_env": False, "proxy": proxy_for(url, env), "verify": _authorities(env)}


def header_value(text: str, variable: str) -> str:
    """`text` without line ends around it. Raises NetworkError for what no header can hold."""
    value = text.strip("\r\n")
    if not _HEADER_TEXT.fullmatch(value):
        raise NetworkError(
            f"{variable} has characters that cannot go into a header: give printable ASCII and nothing else"
        )
    return value


def proxy_for(url: str, env: Mapping[str, str]) -> httpx.Proxy | None:
    """The proxy on the way to `url`, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY in either spelling.

    Loopback has none. Raises NetworkError for an address or a proxy that cannot be used.
    """
    scheme, host, port = _parts(url)
    no_proxy = _first(env, "no_proxy")[1]
    if not host or _is_loopback(host) or any(_matches(each, host, port) for each in no_proxy.split(",")):
        return None
    variable, address = _first(env, f"{scheme}_proxy")
    if not address:
        variable, address = _first(env, "all_proxy")
    return _proxy(variable, address) if address else None


def _parts(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL) as error:
        raise NetworkError(f"{_shown(url)} is no address: {error}") from None
    return parts.scheme, parts.hostname or "", port or _PORTS.get(parts.scheme, 0)


def _shown(url: str) -> str:
    """`url` without user name and password."""
    return repr(re.sub("//[^/]*@", "//", url))


def _first(env: Mapping[str, str], name: str) -> tuple[str, str]:
    """Name and value of the variable in the spelling that is set; the small one counts first."""
    for spelling in (name, name.upper()):
        if value := env.get(spelling, "").strip():
            return spelling, value
    return name.upper(), ""


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY means `host`: a name and all below it, an address, a network, or `*`."""
    entry = entry.strip().lower()
    name, wanted = entry, ""
    if match := re.fullmatch(r"\[([^]]*)\](?::(\d+))?|([^:]*):(\d+)", entry):
        name, wanted = match[1] or match[3] or "", match[2] or match[4] or ""
    if not name or (wanted and int(wanted) != port):
        return False
    address = _address(host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(name, strict=False)
        except ValueError:
            return name == "*"
    name = name.removeprefix("*").removeprefix(".")
    return not name or host == name or host.endswith(f".{name}")


def _proxy(variable: str, address: str) -> httpx.Proxy:
    if "://" not in address:
        address = f"http://{address}"
    remedy = "give http://HOST:PORT, or put the host that it is not meant for into NO_PROXY"
    if address.partition("://")[0].lower().startswith("socks") and find_spec("socksio") is None:
        raise NetworkError(f"{variable} is a SOCKS proxy, which the runtime cannot use: {remedy}")
    try:
        scheme, host, _ = _parts(address)
        proxy = httpx.Proxy(address)
    except ValueError:
        raise NetworkError(f"{variable} is no address of a proxy: {remedy}") from None
    if not host or not scheme:
        raise NetworkError(f"{variable} names no host: {remedy}")
    return proxy


def _authorities(env: Mapping[str, str]) -> ssl.SSLContext | bool:
    """Whom to trust: SSL_CERT_FILE and SSL_CERT_DIR (directories with `:` between), else httpx's own."""
    file, directories = env.get("SSL_CERT_FILE", "").strip(), env.get("SSL_CERT_DIR", "").strip()
    if not file and not directories:
        return True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if file:
            context.load_verify_locations(cafile=file)
        for directory in filter(None, directories.split(":")):
            context.load_verify_locations(capath=directory)
    except OSError as error:
        which = "SSL_CERT_FILE" if file else "SSL_CERT_DIR"
        raise NetworkError(
            f"{which} cannot be used ({error.strerror or error}): give certificates in PEM, or unset it"
        ) from None
    return context
