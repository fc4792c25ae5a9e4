"""Every kind of answer that a peer or the proxy before it may give."""

from __future__ import annotations

from typing import Any

import pytest

from molecule_runtime.peers import Answer, PeerError, Queued, read_answer


@pytest.mark.parametrize(
    "result",
    [
        {"kind": "message", "parts": [{"kind": "text", "text": "hi"}]},
        {"parts": [{"type": "text", "text": "hi"}]},
        {
            "kind": "task",
            "status": {"state": "completed"},
            "artifacts": [{"parts": [{"kind": "text", "text": "hi"}]}],
        },
        {"kind": "task", "status": {"state": "completed", "message": {"parts": [{"text": "hi"}]}}},
        {"message": {"parts": [{"text": "hi"}]}},
        {"task": {"status": {"state": "TASK_STATE_COMPLETED"}, "artifacts": [{"parts": [{"text": "hi"}]}]}},
        {"kind": "task", "status": {"state": "input-required", "message": {"parts": [{"text": "hi"}]}}},
    ],
)
def test_the_text_is_found_in_every_shape_of_a_result(result: dict[str, Any]) -> None:
    assert read_answer(200, {"jsonrpc": "2.0", "id": 1, "result": result}) == Answer("hi")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (202, {"queued": True, "queue_id": "q", "queue_depth": 1, "message": "queued"}),
        (200, {"status": "queued", "delivery_mode": "poll", "method": "message/send"}),
        (200, {"status": "queued", "delivery_mode": "push-async", "method": "message/send"}),
        (503, {"error": "busy", "busy": True, "retry_after": 30}),
    ],
)
def test_a_task_that_was_queued_has_not_failed(status: int, body: dict[str, Any]) -> None:
    assert read_answer(status, body) == Queued()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (
            200,
            {"error": {"code": -32603, "message": "no quota", "data": "why"}},
            "JSON-RPC error -32603: no quota: why",
        ),
        (503, {"error": "restarting", "restarting": True}, "HTTP 503: restarting"),
        (
            402,
            {"error": "workspace budget limit exceeded", "exceeded_periods": ["daily", "monthly"]},
            "used up its daily and its monthly budget on the platform; do not try again",
        ),
        (402, {"error": "budget"}, "used up its budget"),
        (402, None, "used up its budget"),
        (402, {"exceeded_periods": "monthly"}, "used up its budget"),
        (502, None, "HTTP 502 without a JSON object"),
        (200, {"result": None}, "neither a result nor an error"),
        (
            200,
            {
                "result": {
                    "kind": "task",
                    "status": {"state": "failed", "message": {"parts": [{"text": "no"}]}},
                }
            },
            "the task is failed: no",
        ),
        (
            200,
            {"result": {"task": {"status": {"state": "TASK_STATE_WORKING"}}}},
            "the task is working: no reason",
        ),
    ],
)
def test_a_failure_says_which(status: int, body: Any, message: str) -> None:
    with pytest.raises(PeerError, match=message):
        read_answer(status, body)
