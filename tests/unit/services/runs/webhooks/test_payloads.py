"""Bodies of webhook requests, and which events are sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.runs.record import Webhook
from services.runs.webhooks.delivery import Delivery
from services.runs.webhooks.event_types import event_type, event_types, wanted
from services.runs.webhooks.payloads import RESULT_LIMIT_BYTES, response_payload, run_payload


def delivery(type: str) -> Delivery:
    return Delivery(
        id="msg_1", run_id="run_1", webhook=0, host="example.com", type=type, created_at=1_700_000_000_123_456, attempts=1, claimed_until=0
    )


def sent(run: dict[str, Any]) -> Any:
    return json.loads(run_payload(run, delivery("run.completed")))


def test_a_run_is_sent_as_it_is_with_type_and_time() -> None:
    run = {"id": "run_1", "status": "completed", "result": {"output": "é"}, "error": None}
    assert sent(run) == {"type": "run.completed", "timestamp": "2023-11-14T22:13:20.123Z", "data": run}


@pytest.mark.parametrize(("excess", "is_sent"), [(0, True), (1, False)])
def test_a_result_above_the_limit_is_left_out(excess: int, is_sent: bool) -> None:
    run = {"id": "run_1", "result": {"output": "x" * (RESULT_LIMIT_BYTES - len('{"output":""}') + excess)}}
    assert ("result" in sent(run)["data"]) is is_sent
    assert "result" in run


def test_a_response_is_sent_in_the_form_of_openai() -> None:
    assert json.loads(response_payload("resp_1", delivery("response.completed"))) == {
        "id": "evt_1",
        "object": "event",
        "created_at": 1_700_000_000,
        "type": "response.completed",
        "data": {"id": "resp_1"},
    }


def test_all_events_are_wanted_unless_some_are_named() -> None:
    everything, some = (Webhook(url="", secret="", events=events) for events in ((), ("run.failed",)))
    assert wanted(everything, "run.completed")
    assert wanted(some, "run.failed")
    assert not wanted(some, "run.completed")


@pytest.mark.parametrize(
    ("kind", "what", "type"),
    [
        ("prompt", "completed", "run.completed"),
        ("chat", "approval_required", "run.approval_required"),
        ("response", "cancelled", "response.cancelled"),
        ("response", "incomplete", "response.incomplete"),
    ],
)
def test_responses_have_types_of_their_own(kind: Any, what: str, type: str) -> None:
    assert event_type(kind, what) == type
    assert type in event_types(kind)
