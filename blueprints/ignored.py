"""Fields of a compatible surface that are accepted and have no effect: marked in the schema, listed from there. Pure."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields

MARK = "is_ignored"


def ignored_field(kind: type[fields.Field[Any]], *of: fields.Field[Any]) -> fields.Field[Any]:
    """``kind`` is the type that is documented; ``of`` that of its elements. The value is checked for it and nothing else."""
    return kind(*of, allow_none=True, metadata={"description": "Accepted; no CLI takes it (X-Clinvk-Ignored)", MARK: True})


def ignored_names(schema: Schema) -> tuple[str, ...]:
    """In the order of the schema, under the names that callers use."""
    return tuple(field.data_key or name for name, field in schema.fields.items() if is_ignored(field))


def is_ignored(field: fields.Field[Any]) -> bool:
    return MARK in field.metadata
