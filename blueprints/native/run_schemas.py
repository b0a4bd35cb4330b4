"""Schemas of `/api/v1/runs`, and of the request fields of background runs."""

from __future__ import annotations

from marshmallow import fields, validate

from blueprints.native.owner_fields import Owner, OwnerFilter
from blueprints.native.schemas import NO_CONTROL_CHARACTERS, MetaSchema, Pattern, Strict
from blueprints.request_fields import EVENT_NUMBER_LIMIT
from services.runs.record import KINDS, STATUSES
from services.runs.rows import LISTED_BYTES

MAX_LIMIT = 200
WAIT_LIMIT_S = 60.0
ID_CHARS = 64


class RunErrorSchema(Strict):
    code = fields.String(required=True)
    message = fields.String(required=True)


class RunSchema(Strict):
    """One execution of a request. Every field but `owner` is always present, null where there is nothing."""

    id = fields.String(required=True, metadata={"example": "run_0123456789abcdef01234567"})
    owner = Owner()
    kind = fields.String(required=True, validate=validate.OneOf(KINDS))
    background = fields.Boolean(required=True, metadata={"description": "Whether it goes on when its client leaves"})
    title = fields.String(allow_none=True, required=True)
    tags = fields.List(fields.String(), required=True)
    metadata = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    position = fields.Integer(allow_none=True, required=True, metadata={"description": "Place in the queue while `queued`; 1 is next"})
    priority = fields.Integer(required=True, metadata={"description": "0 is first, 9 is last"})
    attempt = fields.Integer(required=True)
    session_id = fields.String(allow_none=True, required=True)
    backend = fields.String(allow_none=True, required=True)
    model = fields.String(allow_none=True, required=True)
    last_tool = fields.String(allow_none=True, required=True, metadata={"description": "The name of the agent's latest tool call"})
    created_at = fields.String(required=True)
    started_at = fields.String(allow_none=True, required=True, metadata={"description": "Of the latest attempt"})
    ended_at = fields.String(allow_none=True, required=True)
    result = fields.Dict(
        allow_none=True,
        required=True,
        metadata={
            "description": "The answer of the synchronous call. Null in a list if its JSON is longer than "
            f"{LISTED_BYTES // 1024} KiB; `GET /runs/{{id}}` always returns it"
        },
    )
    error = fields.Nested(RunErrorSchema, allow_none=True, required=True)


class RunAnswerSchema(RunSchema):
    meta = fields.Nested(MetaSchema, required=True)


class RunListSchema(Strict):
    runs = fields.List(fields.Nested(RunSchema), required=True)
    next_cursor = fields.String(allow_none=True, required=True)
    meta = fields.Nested(MetaSchema, required=True)


class RunQuerySchema(Strict):
    status = fields.String(validate=validate.OneOf(STATUSES))
    kind = fields.String(validate=validate.OneOf(KINDS))
    session_id = fields.String(
        validate=[validate.Length(1, ID_CHARS), Pattern(NO_CONTROL_CHARACTERS, error="must not contain control characters")],
        metadata={"description": "A whole session id"},
    )
    owner = OwnerFilter()
    limit = fields.Integer(load_default=50, validate=validate.Range(1, MAX_LIMIT))
    cursor = fields.String(validate=validate.Length(1, 200), metadata={"description": "`next_cursor` of the page before"})


class WaitQuerySchema(Strict):
    wait = fields.Float(
        load_default=0.0,
        validate=validate.Range(0),
        metadata={"description": f"Seconds to wait for the end of the run, or for its next question; at most {WAIT_LIMIT_S:g} count"},
    )


class EventsQuerySchema(Strict):
    after = fields.Integer(
        validate=validate.Range(0, EVENT_NUMBER_LIMIT),
        metadata={"description": "Number of the last event seen; without, all events are sent. `Last-Event-ID` takes precedence"},
    )
