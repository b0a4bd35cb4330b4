"""marshmallow fields for request bodies that check JSON types strictly and check lengths first.

marshmallow's own fields accept ``"1"`` as a number and ``"on"`` as a boolean, and validate every element before the length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from services.event_loop import yield_to_others
from services.sessions.conversations import METADATA_KEYS_LIMIT, METADATA_NAME_CHARS, METADATA_VALUE_CHARS

ERRORS_LIMIT = 20
"""Maximum number of errors reported for one request."""
TOOLS_LIMIT = 1_000
EVENT_NUMBER_LIMIT = 2**53
"""Clients that read numbers as doubles read larger ones inexactly, and databases have 64 bits."""
MESSAGES_LIMIT = 10_000
"""Array elements validated between two yields to other greenlets."""


class Number(fields.Float):
    """A JSON number."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **more: Any) -> Any:
        if not isinstance(value, int | float):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **more)


class Whole(fields.Integer):
    """A JSON number without a fraction; ``1.0`` is accepted."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **more: Any) -> Any:
        if not isinstance(value, int | float) or value % 1:
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **more)


class Flag(fields.Boolean):
    """``true`` or ``false``."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class StringOrObject(fields.Field[Any]):
    """A string, or a JSON object."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> Any:
        if not isinstance(value, str | dict):
            raise ma.ValidationError("Not a valid string or object.")
        return value


class Array(fields.List[Any]):
    """A list of at most ``most`` elements. Checks the length first, then the elements, yielding to the event loop in between."""

    def __init__(self, item: fields.Field[Any], *, most: int | None = None, least: int | None = None, **more: Any) -> None:
        length = validate.Length(least, most) if most or least else None
        super().__init__(item, validate=length, **more)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **more: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        self._validate(value)
        found: list[Any] = []
        errors: dict[int, Any] = {}
        for index, element in enumerate(value):
            yield_to_others()
            try:
                found.append(self.inner.deserialize(element, **more))
            except ma.ValidationError as error:
                errors[index] = error.messages
                if len(errors) == ERRORS_LIMIT:
                    break
        if errors:
            raise ma.ValidationError(errors)
        return found


class Metadata(fields.Dict):
    """String values by name, within the store's limits."""

    def __init__(self, **more: Any) -> None:
        super().__init__(keys=fields.String(), values=fields.String(), **more)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        if len(value) > METADATA_KEYS_LIMIT:
            raise ma.ValidationError(f"has {len(value)} keys; the maximum is {METADATA_KEYS_LIMIT}")
        errors = {name: {"value": [issue]} for name, text in value.items() if (issue := _metadata_issue(name, text))}
        if errors:
            raise ma.ValidationError(errors)
        return value


def _metadata_issue(name: str, text: Any) -> str | None:
    if len(name) > METADATA_NAME_CHARS:
        return f"a key has at most {METADATA_NAME_CHARS} characters"
    if not isinstance(text, str):
        return "not a valid string"
    if len(text) > METADATA_VALUE_CHARS:
        return f"longer than maximum length {METADATA_VALUE_CHARS}"
    return None
