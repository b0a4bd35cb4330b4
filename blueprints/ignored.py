"""Fields of a compatible surface that are accepted and ignored: marked in the schema, listed from there. Pure."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields

MARK = "is_ignored"


def ignored_field(kind: type[fields.Field[Any]], *of: fields.Field[Any]) -> fields.Field[Any]:
    """``kind``: the documented type, ``of`` that of its elements. Validation checks the type only."""
    return kind(*of, allow_none=True, metadata={"description": "Accepted and ignored: no CLI supports it (X-Clinvk-Ignored)", MARK: True})


def ignored_names(schema: Schema) -> tuple[str, ...]:
    """In schema order, by the names that clients send."""
    return tuple(field.data_key or name for name, field in schema.fields.items() if is_ignored(field))


def is_ignored(field: fields.Field[Any]) -> bool:
    return MARK in field.metadata
