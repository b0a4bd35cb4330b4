"""`/api/v1/usage`: what the runs of a key, or of all keys, have used."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import jsonify
from marshmallow import RAISE

from blueprints.context import services
from blueprints.current_request import request_id, scope
from blueprints.marks import can_fail
from blueprints.native.translate import meta
from blueprints.native.usage_schemas import UsageQuerySchema, UsageSchema
from blueprints.times import EPOCH, to_time
from blueprints.validation import Blueprint
from services.errors import InvalidRequest, RightMissing
from services.ledger.entry import DAY_US
from services.ledger.sums import Key, Question, Sums, total

blp = Blueprint("usage", __name__, url_prefix="/api/v1/usage", description="What runs have used")

DEFAULT_DAYS = 30
ROWS_LIMIT = 50_000


@blp.route("", methods=["GET"])
@blp.arguments(UsageQuerySchema(), location="query", unknown=RAISE)
@blp.response(200, UsageSchema())
@can_fail("permission_denied", "backend_unavailable")
def get_usage(query: dict[str, Any]) -> Any:
    """Get the sums of runs, tokens, cost and time: yours, or with an admin's key everybody's."""
    question = to_question(query, datetime.now(UTC))
    sums = services().ledger.ask(question)
    if len(sums) > ROWS_LIMIT:
        message = f"the answer has {len(sums)} rows, and {ROWS_LIMIT} are the limit: shorten the time, group by less, or filter"
        raise InvalidRequest(message, field="group_by", issue="too many rows")
    return jsonify(
        {
            "from": to_time(question.since),
            "to": to_time(question.until),
            "group_by": list(question.groups),
            "usage": [{**_of_group(question, key), **_of_sums(one)} for key, one in sums.items()],
            "total": _of_sums(total(sums)),
            "meta": meta(request_id()),
        }
    )


def to_question(query: Mapping[str, Any], now: datetime) -> Question:
    """Raises InvalidRequest, and RightMissing for another owner's usage."""
    until = query.get("until") or now
    since = query.get("since") or until.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DEFAULT_DAYS - 1)
    if since < EPOCH or since > until:
        raise InvalidRequest("from is later than to, or earlier than 1970", field="from", issue="not before `to`")
    asked = query.get("key")
    if asked is not None and not scope().includes(asked):
        raise RightMissing(f"a key sees its own usage, and only an admin's key that of {asked!r}", right="role", value=asked)
    return Question(
        since=_microseconds(since),
        until=_microseconds(until),
        groups=query["group_by"],
        owner=asked if asked is not None else scope().owner,
        backend=query.get("backend"),
        model=query.get("model"),
    )


def _microseconds(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1)


def _of_group(question: Question, key: Key) -> dict[str, Any]:
    named = dict(zip(question.groups, key, strict=True))
    return named | ({"day": to_time(named["day"] * DAY_US)[:10]} if "day" in named else {})


def _of_sums(sums: Sums) -> dict[str, Any]:
    return {
        "runs": sums["runs"],
        "failures": sums["failures"],
        "input_tokens": sums["input_tokens"],
        "output_tokens": sums["output_tokens"],
        "cached_tokens": sums["cached_tokens"],
        "cost_usd": round(sums["cost_usd"], 9),
        **({"cost_estimated": True} if sums["estimates"] else {}),
        "seconds": sums["duration_ms"] / 1000,
    }
