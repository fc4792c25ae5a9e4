from __future__ import annotations

from typing import Any

import pytest

from failures import FailureKind, TurnFailure, turn_failure
from token_desk import NO_DESK

_TOO_MANY = {"responseTooManyFailedAttempts": {"httpStatusCode": 429}}
_DISCONNECTED = "stream disconnected before completion:"

# (message, codexErrorInfo) as codex 0.130.0 was seen to send them.
_SEEN: list[tuple[str, Any, FailureKind]] = [
    ("unexpected status 401 Unauthorized: bad key, url: http://x", "other", FailureKind.UNAUTHORIZED),
    ("unexpected status 403 Forbidden: no", "other", FailureKind.UNAUTHORIZED),
    ("unexpected status 404 Not Found: no", "other", FailureKind.NOT_FOUND),
    ("exceeded retry limit, last status: 429 Too Many Requests", _TOO_MANY, FailureKind.RATE_LIMITED),
    ("We're currently experiencing high demand", "internalServerError", FailureKind.OVERLOADED),
    ("unexpected status 503 Service Unavailable", "other", FailureKind.OVERLOADED),
    (f"{_DISCONNECTED} stream closed before response.completed", "other", FailureKind.NETWORK),
    (f"{_DISCONNECTED} error sending request for url (http://x)", "other", FailureKind.NETWORK),
    (f"{_DISCONNECTED} idle timeout waiting for SSE", "other", FailureKind.NETWORK),
    ("too long", "contextWindowExceeded", FailureKind.CONTEXT_TOO_LONG),
    ("no more", "usageLimitExceeded", FailureKind.QUOTA),
    ("busy", "serverOverloaded", FailureKind.OVERLOADED),
    ("Please log out and sign in again.", "unauthorized", FailureKind.UNAUTHORIZED),
    ("Failed to refresh token: 400 Bad Request: x", "other", FailureKind.UNAUTHORIZED),
    ("Missing environment variable: `MOCK_KEY`.", "other", FailureKind.UNAUTHORIZED),
    ("Rate limit reached", "other", FailureKind.RATE_LIMITED),
    ("input must not be empty", "badRequest", FailureKind.INPUT),
    ("Reconnecting", {"responseStreamDisconnected": {"httpStatusCode": 404}}, FailureKind.NOT_FOUND),
    ("gone", {"httpConnectionFailed": {"httpStatusCode": None}}, FailureKind.NETWORK),
    ("something new", {"unheardOf": {}}, FailureKind.OTHER),
    ("something new", None, FailureKind.OTHER),
]  # fmt: skip


@pytest.mark.parametrize(("message", "info", "kind"), _SEEN)
def test_what_codex_says_is_sorted_into_a_kind_that_people_understand(
    message: str, info: object, kind: FailureKind
) -> None:
    failure = turn_failure({"message": message, "codexErrorInfo": info, "additionalDetails": None})
    assert failure.kind is kind
    assert message in failure.text


def test_the_body_of_a_refusal_is_shown_as_its_message() -> None:
    body = '{"error": {"message": "Unsupported value", "type": "invalid_request_error"}}'
    failure = turn_failure({"message": body, "codexErrorInfo": "other"})
    assert (failure.kind, failure.detail) == (FailureKind.REFUSED, "Unsupported value")


@pytest.mark.parametrize("body", ["[1]", '{"error": "x"}', '{"error": {"message": ""}}', "{"])
def test_other_json_is_shown_as_it_is(body: str) -> None:
    assert turn_failure({"message": body}).detail == body


def test_a_failure_without_a_reason_says_so() -> None:
    assert "gave no reason" in turn_failure(None).text


@pytest.mark.parametrize("kind", list(FailureKind))
def test_every_kind_has_a_sentence(kind: FailureKind) -> None:
    assert TurnFailure(kind).text.endswith((".", ";", "again."))


def test_a_follower_whose_tokens_have_expired_is_told_whose_business_that_is() -> None:
    (url,) = NO_DESK.values()
    failure = turn_failure({"message": f"error sending request for url ({url})", "codexErrorInfo": "other"})
    assert failure.kind is FailureKind.UNAUTHORIZED
    assert "refresh them itself (CODEX_AUTH_REFRESH_OWNER" in failure.text
    assert url not in failure.text
