"""Why a turn failed, in words for the person who asked.

The kinds are few and stable; codex's own wording stands behind the sentence, since it names the endpoint and
the status. The table below is what codex 0.130.0 was seen to send (CODEX.md 3.3).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

__all__ = ["FailureKind", "TurnFailure", "turn_failure"]


class FailureKind(StrEnum):
    """What went wrong, as a label for metrics and for clients that branch on it."""

    UNAUTHORIZED = "unauthorized"
    QUOTA = "quota"
    RATE_LIMITED = "rate_limited"
    CONTEXT_TOO_LONG = "context_too_long"
    OVERLOADED = "overloaded"
    NETWORK = "network"
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    INPUT = "input"
    TIMEOUT = "timeout"
    CHILD_LOST = "child_lost"
    CONFIGURATION = "configuration"
    BUDGET = "budget"
    OTHER = "other"


_SENTENCES: Final = {
    FailureKind.UNAUTHORIZED: "The model endpoint refused the credential (unauthorized).",
    FailureKind.QUOTA: "The account's quota is used up.",
    FailureKind.RATE_LIMITED: "Too many requests for the model endpoint, or the quota is used up.",
    FailureKind.CONTEXT_TOO_LONG: "The conversation is longer than the model's context.",
    FailureKind.OVERLOADED: "The model endpoint is overloaded; try again later.",
    FailureKind.NETWORK: "The network connection to the model endpoint failed.",
    FailureKind.NOT_FOUND: "The model endpoint does not know this model or address (not found).",
    FailureKind.REFUSED: "The model endpoint refused the request.",
    FailureKind.INPUT: "The message cannot be sent to the agent.",
    FailureKind.TIMEOUT: "The turn took too long and was interrupted.",
    FailureKind.CHILD_LOST: "The codex process was lost while it worked on this message; send it again.",
    FailureKind.CONFIGURATION: "The workspace is not configured correctly.",
    FailureKind.BUDGET: "The workspace's budget is used up.",
    FailureKind.OTHER: "The turn failed.",
}

_BY_INFO: Final = {
    "contextWindowExceeded": FailureKind.CONTEXT_TOO_LONG,
    "usageLimitExceeded": FailureKind.QUOTA,
    "serverOverloaded": FailureKind.OVERLOADED,
    "internalServerError": FailureKind.OVERLOADED,
    "unauthorized": FailureKind.UNAUTHORIZED,
    "cyberPolicy": FailureKind.REFUSED,
    "badRequest": FailureKind.INPUT,
    "httpConnectionFailed": FailureKind.NETWORK,
    "responseStreamConnectionFailed": FailureKind.NETWORK,
    "responseStreamDisconnected": FailureKind.NETWORK,
}

_BY_STATUS: Final = {
    401: FailureKind.UNAUTHORIZED,
    402: FailureKind.QUOTA,
    403: FailureKind.UNAUTHORIZED,
    404: FailureKind.NOT_FOUND,
    413: FailureKind.CONTEXT_TOO_LONG,
    429: FailureKind.RATE_LIMITED,
    400: FailureKind.REFUSED,
}

# Most failures come as "other", and only their text tells them apart.
_BY_TEXT: Final = (
    (
        re.compile(r"insufficient_quota|exceeded your current quota|usage limit", re.IGNORECASE),
        FailureKind.QUOTA,
    ),
    (re.compile(r"missing environment variable|not logged in", re.IGNORECASE), FailureKind.UNAUTHORIZED),
    (
        re.compile(r"log out and sign in again|failed to refresh token", re.IGNORECASE),
        FailureKind.UNAUTHORIZED,
    ),
    (
        re.compile(r"context_length_exceeded|context window|maximum context", re.IGNORECASE),
        FailureKind.CONTEXT_TOO_LONG,
    ),
    (re.compile(r"rate.?limit", re.IGNORECASE), FailureKind.RATE_LIMITED),
    (
        re.compile(r"stream disconnected|error sending request|idle timeout|connection", re.IGNORECASE),
        FailureKind.NETWORK,
    ),
    (re.compile(r"overloaded|high demand", re.IGNORECASE), FailureKind.OVERLOADED),
)
_STATUS: Final = re.compile(r"(?:unexpected status|last status:)\s+(\d{3})")
# A follower's codex asks an address on loopback for new tokens, where there may be none (token_desk.py).
_FOLLOWER: Final = re.compile(
    r"http://127\.0\.0\.1:\d+/follower|access token could not be refreshed\. Please log out"
)
_OF_A_FOLLOWER: Final = (
    "the tokens of the account have expired, and there are no newer ones. Where this workspace does not "
    "refresh them itself (CODEX_AUTH_REFRESH_OWNER is not 1), see whether who does can sign in, or set it to "
    "1 if the account is this workspace's own"
)


@dataclass(frozen=True, slots=True)
class TurnFailure:
    """A kind and the detail behind it; `text` is the sentence for people."""

    kind: FailureKind
    detail: str = ""

    @property
    def text(self) -> str:
        """One paragraph: what happened, then codex's own words where there are any."""
        sentence = _SENTENCES[self.kind]
        return f"{sentence} Detail: {self.detail}" if self.detail else sentence


def turn_failure(error: dict[str, Any] | None) -> TurnFailure:
    """Classify the `error` object of a failed turn: `{message, codexErrorInfo, additionalDetails}`."""
    if error is None:
        return TurnFailure(FailureKind.OTHER, "codex gave no reason")
    message = str(error.get("message") or "")
    details = str(error.get("additionalDetails") or "")
    text = f"{message} {details}".strip()
    if _FOLLOWER.search(text):
        return TurnFailure(FailureKind.UNAUTHORIZED, _OF_A_FOLLOWER)
    kind = _kind(error.get("codexErrorInfo"), text)
    refused = _refusal(message)
    if refused is not None and kind is FailureKind.OTHER:
        kind = FailureKind.REFUSED
    return TurnFailure(kind, refused or text)


def _refusal(message: str) -> str | None:
    """The endpoint's own words, where codex passes the body of a 400 on as it came."""
    try:
        inner = json.loads(message)["error"]["message"]
    except (ValueError, TypeError, KeyError):
        return None
    return str(inner) or None


def _kind(info: object, text: str) -> FailureKind:
    name, status = _info(info)
    if status is None and (match := _STATUS.search(text)):
        status = int(match[1])
    if name in _BY_INFO and name not in ("badRequest", "internalServerError"):
        kind = _BY_INFO[name]
        # A connection that failed with a status failed for what the status says.
        return _by_status(status) or kind if kind is FailureKind.NETWORK else kind
    for pattern, kind in _BY_TEXT[:4]:
        if pattern.search(text):
            return kind
    if by_status := _by_status(status):
        return by_status
    if name in _BY_INFO:
        return _BY_INFO[name]
    return next((kind for pattern, kind in _BY_TEXT if pattern.search(text)), FailureKind.OTHER)


def _info(info: object) -> tuple[str, int | None]:
    """`codexErrorInfo` is a word, or an object of one key whose value may hold an HTTP status."""
    if isinstance(info, str):
        return info, None
    if isinstance(info, dict) and info:
        name, value = next(iter(info.items()))
        status = value.get("httpStatusCode") if isinstance(value, dict) else None
        return str(name), status if isinstance(status, int) else None
    return "", None


def _by_status(status: int | None) -> FailureKind | None:
    if status is None:
        return None
    return _BY_STATUS.get(status) or (FailureKind.OVERLOADED if status >= 500 else None)
