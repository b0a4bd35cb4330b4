"""Bodies of webhook requests. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from services.runs.webhooks.delivery import Delivery

RESULT_LIMIT_BYTES = 256 * 1024
"""The longest result that is sent, as JSON."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def run_payload(run: Mapping[str, Any], delivery: Delivery) -> bytes:
    """``run``: as ``GET /api/v1/runs/{id}`` returns it. A ``result`` above the limit is left out; the receiver can get it there."""
    at = (EPOCH + timedelta(microseconds=delivery.created_at)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    data = dict(run)
    if len(orjson.dumps(data.get("result"))) > RESULT_LIMIT_BYTES:
        del data["result"]
    return orjson.dumps({"type": delivery.type, "timestamp": at, "data": data})


def response_payload(response_id: str, delivery: Delivery) -> bytes:
    """OpenAI's form. Source: openai 3.54, `types/webhooks/response_completed_webhook_event.py`."""
    return orjson.dumps(
        {
            "id": "evt_" + delivery.id.partition("_")[2],
            "object": "event",
            "created_at": delivery.created_at // 1_000_000,
            "type": delivery.type,
            "data": {"id": response_id},
        }
    )
