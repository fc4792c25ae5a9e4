"""Secrets taken out of text before it leaves the process."""

from __future__ import annotations

import re

__all__ = ["MASK", "redact", "shortened"]

MASK = "[redacted]"

_SECRETS = re.compile(
    r"""
      \bsk-[A-Za-z0-9_-]{16,}                                    # OpenAI and its look-alikes
    | \bgh[pousr]_[A-Za-z0-9]{20,} | \bgithub_pat_[A-Za-z0-9_]{20,}
    | \bglpat-[A-Za-z0-9_-]{16,}
    | \bxox[abprs]-[A-Za-z0-9-]{10,}
    | \bAKIA[0-9A-Z]{16}\b
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*  # JWT
    | \brt_[A-Za-z0-9_.-]{20,}                                   # OpenAI refresh token
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{8,}")
_ASSIGNED = re.compile(
    r"(?i)(\b[A-Z0-9_]*(?:api_?key|token|secret|password|passwd)\b[\"']?\s*[:=]\s*[\"']?)([^\s\"',;&]{6,})"
)
_URL_USER = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")


def redact(text: str) -> str:
    """Replace what looks like a key, token, bearer, private key or a URL's password with `[redacted]`."""
    text = _SECRETS.sub(MASK, text)
    text = _BEARER.sub(rf"\1{MASK}", text)
    text = _URL_USER.sub(rf"\1{MASK}@", text)
    return _ASSIGNED.sub(rf"\1{MASK}", text)


def shortened(text: str, limit: int = 200) -> str:
    """At most `limit` characters of `text`, and how long it is where it was cut."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
