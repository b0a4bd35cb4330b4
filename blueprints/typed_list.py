"""A long list in a request (`messages`, `input`) as one marshmallow field, converted by msgspec.

marshmallow takes 4 ms for 100 KB of short messages, which would stall every stream of the worker; msgspec takes a fraction of that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import marshmallow as ma
import msgspec

PLACE = re.compile(r" - at `\$([^`]*)`$")
STEP = re.compile(r"\[(\d+|\.\.\.)\]|\.([^.\[]+)")


class TypedList(ma.fields.List[Any]):
    """``kind``: the type of each item, a `msgspec.Struct` or a union. ``item``: the same for the OpenAPI document."""

    def __init__(self, kind: Any, item: ma.fields.Field[Any], **more: Any) -> None:
        super().__init__(item, **more)
        self._kind = list[kind]

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> Any:
        if not isinstance(value, list):
            raise ma.ValidationError(f"expected an array, got {_type_name(value)}")
        self._validate(value)
        try:
            return msgspec.convert(value, self._kind)
        except msgspec.ValidationError as error:
            raise ma.ValidationError(to_messages(str(error))) from None


def to_messages(text: str) -> Any:
    """msgspec's ``Expected `str`, got `int` - at `$[0].role``` as marshmallow's ``{0: {"role": ["expected str, got int"]}}``."""
    place = PLACE.search(text)
    issue = text[: place.start()] if place else text
    found: Any = [issue.replace("`", "").replace("Object missing required field ", "missing required field ")]
    for index, name in reversed(STEP.findall(place.group(1) if place else "")):
        found = {int(index) if index.isdigit() else name or index: found}
    return found


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    return {dict: "an object", str: "a string", bool: "a boolean"}.get(type(value), "a number")
