"""OpenAI's SDK accepts the webhooks of responses as its own."""

from __future__ import annotations

import time

import openai
import pytest
from openai.types import webhooks as types

from services.runs.webhooks import signing
from services.runs.webhooks.delivery import Delivery
from services.runs.webhooks.event_types import RESPONSE_EVENTS
from services.runs.webhooks.payloads import response_payload

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CLASSES = {
    "response.completed": types.ResponseCompletedWebhookEvent,
    "response.failed": types.ResponseFailedWebhookEvent,
    "response.cancelled": types.ResponseCancelledWebhookEvent,
    "response.incomplete": types.ResponseIncompleteWebhookEvent,
}


def sent(type: str, at_s: int) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an attempt at ``at_s``."""
    delivery = Delivery(
        id="msg_1", run_id="run_1", webhook=0, host="example.com", type=type, created_at=1_700_000_000_000_000, attempts=1, claimed_until=0
    )
    body = response_payload("resp_1", delivery)
    return body, signing.headers(SECRET, delivery.id, at_s, body)


@pytest.fixture
def client() -> openai.OpenAI:
    return openai.OpenAI(api_key="any")


@pytest.mark.parametrize("type", RESPONSE_EVENTS)
def test_unwrap_returns_the_event(client: openai.OpenAI, type: str) -> None:
    body, headers = sent(type, int(time.time()))
    event = client.webhooks.unwrap(body, headers, secret=SECRET)
    assert isinstance(event, CLASSES[type])
    assert event.to_dict() == {"id": "evt_1", "object": "event", "created_at": 1_700_000_000, "type": type, "data": {"id": "resp_1"}}


def test_another_secret_or_another_body_is_refused(client: openai.OpenAI) -> None:
    body, headers = sent("response.completed", int(time.time()))
    for changed, secret in ((body, "whsec_" + "A" * 32), (body.replace(b"resp_1", b"resp_2"), SECRET)):
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(changed, headers, secret=secret)


def test_a_retry_is_accepted_because_its_time_is_new(client: openai.OpenAI) -> None:
    an_hour_ago, now = sent("response.completed", int(time.time()) - 3_600), sent("response.completed", int(time.time()))
    with pytest.raises(openai.InvalidWebhookSignatureError, match="too old"):
        client.webhooks.unwrap(*an_hour_ago, secret=SECRET)
    assert client.webhooks.unwrap(*now, secret=SECRET).id == "evt_1"
