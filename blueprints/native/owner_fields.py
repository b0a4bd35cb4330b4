"""The owner of a session or a run, in its resource and as a filter of a list."""

from __future__ import annotations

from typing import Any

from marshmallow import fields, validate

from blueprints.native.schemas import NAME_LIMIT, NO_CONTROL_CHARACTERS, Pattern

OWNER = "The name of the API key that it belongs to; `local` where none are configured. Only in answers to admin keys, and without keys"
OWNER_FILTER = "The name of an API key. A key that is no admin sees its own alone, so another name matches nothing"


class Owner(fields.String):
    def __init__(self, **more: Any) -> None:
        super().__init__(metadata={"description": OWNER}, **more)


class OwnerFilter(fields.String):
    def __init__(self, **more: Any) -> None:
        rules = [validate.Length(1, NAME_LIMIT), Pattern(NO_CONTROL_CHARACTERS, error="must not contain control characters")]
        super().__init__(validate=rules, metadata={"description": OWNER_FILTER}, **more)
