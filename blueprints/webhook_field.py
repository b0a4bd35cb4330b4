"""The request field ``webhook``: its schema, and what is stored of it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from blueprints.request_fields import Array
from blueprints.strict_schema import Strict
from services.errors import InvalidRequest
from services.runs.record import Webhook
from services.runs.webhooks.address import URL_LIMIT_CHARS, check_url
from services.runs.webhooks.event_types import RESPONSE_EVENTS, RUN_EVENTS
from services.runs.webhooks.signing import EXPECTED, to_key


class EventTypes(Array):
    """Names of event types. Unknown ones are reported for the whole list."""

    def __init__(self, known: Collection[str], **more: Any) -> None:
        super().__init__(fields.String(metadata={"enum": list(known)}), least=1, most=len(known), **more)
        self._known = known

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **more: Any) -> list[Any]:
        found = super()._deserialize(value, attr, data, **more)
        if unknown := [name for name in found if name not in self._known]:
            raise ma.ValidationError(f"{unknown[0][:64]!r} is not an event; expected {', '.join(self._known)}")
        return found


class WebhookSchema(Strict):
    """Where to send signed events of this run (https://www.standardwebhooks.com)."""

    url = fields.String(
        required=True,
        validate=validate.Length(1, URL_LIMIT_CHARS),
        metadata={"description": "https, and no private address", "example": "https://example.com/hooks/clinvk"},
    )
    events = EventTypes(RUN_EVENTS, metadata={"description": "The events to send; default: all of these"})
    secret = fields.String(load_only=True, metadata={"description": f"Signs the events: {EXPECTED}. Default: `runs.webhook_secret`"})


class ResponseWebhookSchema(WebhookSchema):
    """Where to send signed events of this response, as OpenAI's own webhooks."""

    events = EventTypes(RESPONSE_EVENTS, metadata={"description": "The events to send; default: all of these"})


def to_webhook(field: Mapping[str, Any], *, default_secret: str | None, allowed_hosts: Collection[str]) -> Webhook:
    """``field``: validated by one of the schemas. Raises InvalidRequest for a URL that is not sent to, and for a bad or missing secret."""
    check_url(field["url"], allowed_hosts)
    secret = field.get("secret")
    if secret is None:
        secret = default_secret
    if not secret:
        raise InvalidRequest(
            "webhook.secret: is required, because this server has no default (the setting runs.webhook_secret)",
            field="webhook.secret",
            issue="is required",
        )
    to_key(secret)
    return Webhook(url=field["url"], events=tuple(dict.fromkeys(field.get("events", ()))), secret=secret)
