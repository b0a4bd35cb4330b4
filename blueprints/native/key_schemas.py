"""Schemas of `/api/v1/keys`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from blueprints.native.schemas import MetaSchema, Pattern, Strict
from blueprints.request_fields import Array, Flag, Number, Whole
from services.access.key import NAME, NAME_MEANING, SOURCES, to_expiry
from services.access.rights import APPROVAL_ORDER, ISOLATIONS, ROLES, SANDBOX_ORDER, WINDOWS
from services.access.rights_form import why_no_budget

LIST_LIMIT = 64
TEXT_CHARS = 200
PATH_CHARS = 4_096
ABOVE_ZERO = validate.Range(0, min_inclusive=False)
AT_LEAST_ONE = validate.Range(1, 2**31 - 1)


def _texts(meaning: str, chars: int = TEXT_CHARS, **more: Any) -> Array:
    """None restricts nothing; an empty list is refused, because it looks like the opposite."""
    item = fields.String(validate=validate.Length(1, chars), **more)
    return Array(item, most=LIST_LIMIT, least=1, allow_none=True, metadata={"description": meaning})


class OneOrMore(Array):
    """A list; a single object stands for a list of one."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **more: Any) -> list[Any]:
        return super()._deserialize([value] if isinstance(value, dict) else value, attr, data, **more)


class BudgetSchema(Strict):
    """Exactly one of the amounts, and the window: a calendar one in UTC; a week begins on Monday."""

    usd = Number(validate=ABOVE_ZERO)
    tokens = Whole(validate=validate.Range(1, 2**53), metadata={"description": "Input and output, without cached input"})
    runs = Whole(validate=AT_LEAST_ONE)
    per = fields.String(validate=validate.OneOf(WINDOWS))

    @validates_schema
    def check_unit(self, data: dict[str, Any], **_: object) -> None:
        if problem := why_no_budget(data):
            raise ValidationError(problem)


class RightsSchema(Strict):
    """What is left out restricts nothing."""

    role = fields.String(
        validate=validate.OneOf(ROLES), metadata={"description": "`admin` sees and manages everything, keys included; default `user`"}
    )
    backends = _texts("The only backends that it may use; the first is its default")
    models = _texts("Patterns (`*sonnet*`, `codex/*`) of the only models that it may use")
    workdirs = _texts("Absolute paths of folders that its workdirs must be in; the first is the default", PATH_CHARS)
    max_approval_mode = fields.String(
        allow_none=True, validate=validate.OneOf(APPROVAL_ORDER), metadata={"description": "The most permissive"}
    )
    max_sandbox_mode = fields.String(
        allow_none=True, validate=validate.OneOf(SANDBOX_ORDER), metadata={"description": "The most permissive"}
    )
    isolation = fields.String(validate=validate.OneOf(ISOLATIONS), metadata={"description": "The least isolation of its runs"})
    rate_limit_rps = Number(allow_none=True, validate=ABOVE_ZERO)
    rate_limit_burst = Whole(allow_none=True, validate=AT_LEAST_ONE)
    max_concurrent_runs = Whole(allow_none=True, validate=AT_LEAST_ONE, metadata={"description": "Over all servers; further ones wait"})
    max_waiting_runs = Whole(allow_none=True, validate=validate.Range(0, 2**31 - 1), metadata={"description": "0: none waits"})
    weight = Number(validate=ABOVE_ZERO, metadata={"description": "Its share of the queue, relative to other keys; default 1"})
    budget = OneOrMore(
        fields.Nested(BudgetSchema()), most=LIST_LIMIT, metadata={"description": "What it may use per window; one may stand alone"}
    )
    may_approve = Flag(metadata={"description": "Whether it may answer the questions of its runs"})


class NewKeySchema(RightsSchema):
    name = fields.String(
        validate=Pattern(f"^{NAME.pattern}$", error=f"expected {NAME_MEANING}"),
        metadata={"description": "Unique; the owner of what the key makes. Default: `key-` and 8 hex digits", "example": "laptop"},
    )
    expires_at = fields.String(
        allow_none=True, metadata={"description": "RFC 3339 with a zone; after it the key is not valid", "example": "2099-01-31T12:00:00Z"}
    )

    @validates_schema
    def check_expiry(self, data: dict[str, Any], **_: object) -> None:
        if data.get("expires_at"):
            try:
                to_expiry(data["expires_at"])
            except ValueError as error:
                raise ValidationError(str(error), "expires_at") from None


class KeySchema(RightsSchema):
    """A key, without its secret. All fields are always present."""

    name = fields.String(required=True)
    source = fields.String(required=True, validate=validate.OneOf(SOURCES), metadata={"description": "`store`: made at run time"})
    created_at = fields.String(required=True, allow_none=True, metadata={"description": "null for a configured key"})
    last_used_at = fields.String(required=True, allow_none=True)
    expires_at = fields.String(required=True, allow_none=True)


class KeyCreatedSchema(KeySchema):
    key = fields.String(required=True, metadata={"description": "The secret. It is shown this once and kept nowhere"})
    meta = fields.Nested(MetaSchema, required=True)


class KeyListSchema(Strict):
    keys = fields.List(fields.Nested(KeySchema), required=True)
    meta = fields.Nested(MetaSchema, required=True)
