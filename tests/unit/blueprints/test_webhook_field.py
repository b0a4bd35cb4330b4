"""The request field `webhook`."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
import pytest

from blueprints.validation import invalid_request
from blueprints.webhook_field import ResponseWebhookSchema, WebhookSchema, to_webhook
from services.errors import InvalidRequest
from services.runs.record import Webhook
from services.runs.webhooks.event_types import RUN_EVENTS

URL = "https://example.com/hook"
OURS, THEIRS = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + "A" * 32


class BodySchema(ma.Schema):
    webhook = ma.fields.Nested(WebhookSchema)


class ResponseBodySchema(ma.Schema):
    webhook = ma.fields.Nested(ResponseWebhookSchema)


def loaded(webhook: Any, schema: type[ma.Schema] = BodySchema, default_secret: str | None = OURS) -> Webhook:
    """As a route does it."""
    try:
        body = schema().load({"webhook": webhook})
    except ma.ValidationError as error:
        raise invalid_request(error.messages, schema()) from None
    return to_webhook(body["webhook"], default_secret=default_secret, allowed_hosts=["ci.internal"])


@pytest.mark.parametrize(
    ("webhook", "stored"),
    [
        ({"url": URL}, Webhook(url=URL, secret=OURS)),
        ({"url": URL, "secret": THEIRS}, Webhook(url=URL, secret=THEIRS)),
        ({"url": URL, "events": ["run.failed", "run.failed"]}, Webhook(url=URL, secret=OURS, events=("run.failed",))),
        ({"url": "http://ci.internal/"}, Webhook(url="http://ci.internal/", secret=OURS)),
    ],
)
def test_url_events_and_secret_are_stored(webhook: Any, stored: Webhook) -> None:
    assert loaded(webhook) == stored


def test_a_response_has_events_of_its_own() -> None:
    assert loaded({"url": URL, "events": ["response.incomplete"]}, ResponseBodySchema).events == ("response.incomplete",)
    with pytest.raises(InvalidRequest):
        loaded({"url": URL, "events": ["run.failed"]}, ResponseBodySchema)


@pytest.mark.parametrize(
    ("webhook", "field"),
    [
        ({}, "webhook.url"),
        ({"url": 1}, "webhook.url"),
        ({"url": ""}, "webhook.url"),
        ({"url": "http://example.com/"}, "webhook.url"),
        ({"url": "https://127.1/"}, "webhook.url"),
        ({"url": URL, "events": []}, "webhook.events"),
        ({"url": URL, "events": "run.failed"}, "webhook.events"),
        ({"url": URL, "events": ["run.failed", "run.exploded"]}, "webhook.events"),
        ({"url": URL, "events": ["response.completed"]}, "webhook.events"),
        ({"url": URL, "events": ["run.failed"] * 99}, "webhook.events"),
        ({"url": URL, "events": [1]}, "webhook.events[0]"),
        ({"url": URL, "secret": ""}, "webhook.secret"),
        ({"url": URL, "secret": "hunter2"}, "webhook.secret"),
        ({"url": URL, "secret": None}, "webhook.secret"),
        ({"url": URL, "secrets": OURS}, "webhook.secrets"),
        ([], "webhook"),
    ],
)
def test_a_mistake_is_told_with_its_field(webhook: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        loaded(webhook)
    assert caught.value.field == field
    assert "hunter2" not in caught.value.message


def test_an_unknown_event_is_named_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r"'run\.exploded' is not an event") as caught:
        loaded({"url": URL, "events": ["run.exploded"]})
    assert all(name in caught.value.message for name in RUN_EVENTS)


def test_without_any_secret_the_setting_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"runs\.webhook_secret") as caught:
        loaded({"url": URL}, default_secret=None)
    assert caught.value.field == "webhook.secret"
    assert loaded({"url": URL, "secret": THEIRS}, default_secret=None).secret == THEIRS


def test_the_secret_is_in_no_representation() -> None:
    assert OURS not in repr(loaded({"url": URL}))
