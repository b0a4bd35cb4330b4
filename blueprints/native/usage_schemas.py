"""Schemas of `/api/v1/usage`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from marshmallow import ValidationError, fields, validate

from blueprints.native.schemas import CostEstimated, MetaSchema, Strict
from services.ledger.sums import GROUPS

FILTER_CHARS = 128
TIME_CHARS = 40
TIME = "a date (its beginning in UTC), or RFC 3339 with a zone"


class Time(fields.Field[datetime]):
    """A time or a date → a time in UTC."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> datetime:
        text = str(value)[:TIME_CHARS]
        try:
            if len(text) == len("2026-01-31"):
                return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
            time = datetime.fromisoformat(text)
            if time.tzinfo:
                return time.astimezone(UTC)
        except (ValueError, OverflowError):
            raise ValidationError(f"{text!r} is no time; expected {TIME}") from None
        raise ValidationError(f"{text!r} has no zone; expected {TIME}, as 2026-01-31T08:00:00Z")


class Groups(fields.Field[tuple[str, ...]]):
    """Names separated by commas → the groups, in their order."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> tuple[str, ...]:
        names = [name.strip() for name in str(value).split(",")]
        if unknown := next((name for name in names if name not in GROUPS), None):
            raise ValidationError(f"{unknown[:FILTER_CHARS]!r} is no group; expected some of {', '.join(sorted(GROUPS))}")
        if "" in names:
            raise ValidationError(f"names no group; expected some of {', '.join(sorted(GROUPS))}")
        return tuple(group for group in GROUPS if group in names)


def _time(about: str, name: str) -> Time:
    return Time(data_key=name, metadata={"description": f"{about}: {TIME}", "type": "string", "example": "2026-01-31"})


def _filter(about: str) -> fields.String:
    return fields.String(validate=validate.Length(0, FILTER_CHARS), metadata={"description": about})


class UsageQuerySchema(Strict):
    group_by = Groups(
        load_default=("day",),
        metadata={
            "description": f"Some of {', '.join(GROUPS)}, separated by commas",
            "type": "string",
            "default": "day",
            "example": "key,backend",
        },
    )
    since = _time("The beginning, included; default: the day 29 days before `to`", "from")
    until = _time("The end, excluded; default: now", "to")
    key = _filter("The usage of this key; another one than your own needs an admin's key")
    backend = _filter("The usage of this backend")
    model = _filter("The usage of this model, as the answers of its runs name it; empty: those whose model is not known")


class SumsSchema(Strict):
    runs = fields.Integer(required=True, metadata={"description": "Executions of a CLI: prompts, tasks, steps, targets, attempts"})
    failures = fields.Integer(required=True, metadata={"description": "Of the runs: those that failed; cancelled ones did not"})
    input_tokens = fields.Integer(required=True, metadata={"description": "All input tokens, cached ones included"})
    output_tokens = fields.Integer(required=True)
    cached_tokens = fields.Integer(required=True, metadata={"description": "Input tokens read from the vendor's prompt cache"})
    cost_usd = fields.Float(required=True, metadata={"description": "As the CLIs report it, else by `prices` of the configuration"})
    cost_estimated = CostEstimated()
    seconds = fields.Float(required=True, metadata={"description": "How long the CLIs ran"})


class UsageRowSchema(SumsSchema):
    """The fields of the groups come first; those that were not asked for are left out."""

    day = fields.String(metadata={"description": "UTC", "example": "2026-01-31"})
    key = fields.String()
    backend = fields.String()
    model = fields.String(metadata={"description": "Empty where it is not known"})


class UsageSchema(Strict):
    since = fields.String(required=True, data_key="from")
    until = fields.String(required=True, data_key="to")
    group_by = fields.List(fields.String(validate=validate.OneOf(GROUPS)), required=True)
    usage = fields.List(fields.Nested(UsageRowSchema), required=True)
    total = fields.Nested(SumsSchema, required=True)
    meta = fields.Nested(MetaSchema, required=True)
