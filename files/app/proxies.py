"""The variables by which programs find their way through a network: proxies, and authorities to trust.

What the runtime has, its children have, by these names. Loopback never goes through a proxy: what is said
there is said to this machine alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NETWORK_VARIABLES", "past_the_proxy"]

_PROXIES: Final = tuple(
    spelling for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for spelling in (name, name.lower())
)
_EXCEPTIONS: Final = ("NO_PROXY", "no_proxy")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

NETWORK_VARIABLES: Final = (
    *_PROXIES,
    *_EXCEPTIONS,
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "CODEX_CA_CERTIFICATE",
)


def past_the_proxy(env: Mapping[str, str]) -> dict[str, str]:
    """NO_PROXY with loopback in it, in both spellings: a program reads one. Empty without a proxy."""
    if not any(env.get(name, "").strip() for name in _PROXIES):
        return {}
    given = [each.strip() for name in _EXCEPTIONS for each in env.get(name, "").split(",")]
    value = ",".join(dict.fromkeys([*filter(None, given), *_LOOPBACK]))
    return dict.fromkeys(_EXCEPTIONS, value)
