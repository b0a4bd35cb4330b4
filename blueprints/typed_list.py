"""A long list in a request (`messages`, `input`) as one marshmallow field, converted by msgspec.

marshmallow takes 4 ms for 100 KB of short messages, which would stall every stream of the worker; msgspec takes a fraction of that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import marshmallow as ma
import msgspec

PLACE = re.compile(r" - at `\$([^`]*)`$")
WRONG_CHOICE = "Invalid enum value "
STEP = re.compile(r"\[(\d+|\.\.\.)\]|\.([^.\[]+)")


class TypedList(ma.fields.List[Any]):
    """``kind``: the type of each item, a `msgspec.Struct`. ``item``: the same for the OpenAPI document."""

    def __init__(self, kind: Any, item: ma.fields.Field[Any], **more: Any) -> None:
        super().__init__(item, **more)
        self._kind = list[kind]
        self._choices = {name: choices for name, hint in get_type_hints(kind).items() if (choices := _choices_of(hint))}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> Any:
        if not isinstance(value, list):
            raise ma.ValidationError(f"expected an array, got {_type_name(value)}")
        self._validate(value)
        try:
            return msgspec.convert(value, self._kind)
        except msgspec.ValidationError as error:
            raise ma.ValidationError(to_messages(str(error), self._choices)) from None


def to_messages(text: str, choices: Mapping[str, tuple[str, ...]]) -> Any:
    """msgspec's ``Expected `str`, got `int` - at `$[0].role``` as marshmallow's ``{0: {"role": ["expected str, got int"]}}``.

    ``choices``: the values of the fields that have few, which msgspec does not name.
    """
    place = PLACE.search(text)
    issue = (text[: place.start()] if place else text).replace("`", "").replace("Object missing required field ", "missing required field ")
    steps = STEP.findall(place.group(1) if place else "")
    if issue.startswith(WRONG_CHOICE) and steps and (names := choices.get(steps[-1][1])):
        issue = f"must be one of: {', '.join(names)}; got {issue.removeprefix(WRONG_CHOICE)}"
    found: Any = [issue]
    for index, name in reversed(steps):
        found = {int(index) if index.isdigit() else name or index: found}
    return found


def _choices_of(hint: Any) -> tuple[str, ...]:
    """The strings of a Literal, also of an optional one."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(choice for part in get_args(hint) for choice in _choices_of(part))


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    return {dict: "an object", str: "a string", bool: "a boolean"}.get(type(value), "a number")
