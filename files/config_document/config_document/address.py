"""Addresses as people and platforms write them."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["is_http_url"]


def is_http_url(text: str) -> bool:
    """Whether `text` is an address that a request can be sent to: http or https, a host, a port if any."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # Read, since only that checks it.
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, text))
