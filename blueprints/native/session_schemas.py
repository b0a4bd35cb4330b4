"""Schemas of `/api/v1/sessions`."""

from __future__ import annotations

from typing import get_args

from marshmallow import ValidationError, fields, validate, validates_schema

from blueprints.native.owner_fields import Owner, OwnerFilter
from blueprints.native.schemas import (
    NAME_LIMIT,
    OWN_DATA,
    TAG_LIMIT,
    TAGS_LIMIT,
    MetaSchema,
    PromptSchema,
    RunOptionsSchema,
    Strict,
    TokenUsageSchema,
)
from blueprints.request_fields import Array, Flag, Metadata
from services.store.listing import LISTED_CHARS, MAX_LIMIT
from services.store.records import SessionStatus, TurnStatus

MAX_TURNS_PAGE = 1_000
LEFT_OUT = f"Null in a list if its JSON exceeds {LISTED_CHARS:,} characters; `GET /sessions/{{id}}` always returns it"


class AboutSchema(Strict):
    title = fields.String(validate=validate.Length(max=200))
    tags = Array(fields.String(validate=validate.Length(1, TAG_LIMIT)), most=TAGS_LIMIT)
    metadata = Metadata(metadata=OWN_DATA)


class NewSessionSchema(RunOptionsSchema, AboutSchema):
    """The options apply to all turns, unless a turn overrides them."""

    class Meta(Strict.Meta):
        exclude = ("extra", "timeout_secs")


class ForkSchema(AboutSchema):
    """Values that override the parent's."""


class ResumeSchema(PromptSchema):
    rebuild = Flag(
        load_default=False,
        metadata={"description": "If the CLI has lost its session: continue in a new one, with the stored turns in its first prompt"},
    )


class SessionQuerySchema(Strict):
    backend = fields.String(validate=validate.Length(1, NAME_LIMIT))
    status = fields.String(validate=validate.OneOf(get_args(SessionStatus)))
    tag = fields.String(validate=validate.Length(1, TAG_LIMIT))
    workdir = fields.String(validate=validate.Length(1, 4096))
    owner = OwnerFilter()
    q = fields.String(
        validate=validate.Length(max=500),
        metadata={"description": "Words that must all occur in the title, the tags or one turn; sessions with the newest match come first"},
    )
    limit = fields.Integer(load_default=20, validate=validate.Range(1, MAX_LIMIT))
    offset = fields.Integer(
        load_default=0, validate=validate.Range(0, 10_000_000), metadata={"description": "For distant pages use `cursor`"}
    )
    cursor = fields.String(validate=validate.Length(1, 500), metadata={"description": "`next_cursor` of the previous page"})

    @validates_schema
    def check_place(self, data: dict[str, object], **_: object) -> None:
        if data.get("cursor") and data.get("offset"):
            raise ValidationError("cannot be combined with offset", "cursor")


class TurnQuerySchema(Strict):
    after = fields.Integer(load_default=0, validate=validate.Range(0, 2**31 - 1), metadata={"description": "Number of the last turn seen"})
    limit = fields.Integer(load_default=100, validate=validate.Range(1, MAX_TURNS_PAGE))


class SessionSchema(Strict):
    id = fields.String(required=True)
    owner = Owner()
    backend = fields.String(required=True)
    model = fields.String(allow_none=True, metadata={"description": "The model of the last turn"})
    workdir = fields.String(required=True)
    title = fields.String(allow_none=True, metadata={"description": "If none was given, the beginning of the first prompt"})
    status = fields.String(required=True, validate=validate.OneOf(get_args(SessionStatus)))
    tags = fields.List(fields.String())
    metadata = fields.Dict(keys=fields.String(), values=fields.String(), allow_none=True, metadata={"description": LEFT_OUT})
    options = fields.Dict(allow_none=True, metadata={"description": f"Options of its turns, unless a turn overrides them. {LEFT_OUT}"})
    parent_id = fields.String(allow_none=True, metadata={"description": "The session it was forked from"})
    is_rebuilt_next = fields.Boolean(
        metadata={"description": "The CLI has no session for it; the next turn starts one, with the turns so far in its prompt"}
    )
    turn_count = fields.Integer()
    token_usage = fields.Nested(TokenUsageSchema, metadata={"description": "Sum over its turns"})
    cost_usd = fields.Float(allow_none=True)
    error = fields.String(allow_none=True, metadata={"description": "Error of the last turn, if it failed"})
    created_at = fields.String(metadata={"description": "RFC 3339, UTC"})
    updated_at = fields.String(metadata={"description": "RFC 3339, UTC"})


class SessionAnswerSchema(SessionSchema):
    meta = fields.Nested(MetaSchema, required=True)


class SessionListSchema(Strict):
    sessions = fields.List(fields.Nested(SessionSchema), required=True)
    next_cursor = fields.String(allow_none=True, metadata={"description": "Cursor of the next page; null on the last one"})
    meta = fields.Nested(MetaSchema, required=True)


class SessionDeletedSchema(Strict):
    id = fields.String(required=True)
    deleted = fields.Boolean(required=True)
    meta = fields.Nested(MetaSchema, required=True)


class TurnSchema(Strict):
    number = fields.Integer(required=True)
    status = fields.String(required=True, validate=validate.OneOf(get_args(TurnStatus)))
    prompt = fields.String(required=True)
    output = fields.String(required=True)
    error = fields.String(allow_none=True)
    model = fields.String(allow_none=True)
    exit_code = fields.Integer(allow_none=True)
    started_at = fields.String(metadata={"description": "RFC 3339, UTC"})
    duration_ms = fields.Integer(allow_none=True)
    token_usage = fields.Nested(TokenUsageSchema, allow_none=True)
    cost_usd = fields.Float(allow_none=True)
    request_id = fields.String()
    is_inherited = fields.Boolean(metadata={"description": "Copied from the parent session"})


class TurnListSchema(Strict):
    session_id = fields.String(required=True)
    turns = fields.List(fields.Nested(TurnSchema), required=True)
    next_after = fields.Integer(allow_none=True, metadata={"description": "`after` of the next page; null on the last one"})
    meta = fields.Nested(MetaSchema, required=True)
