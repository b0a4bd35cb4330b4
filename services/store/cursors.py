"""Cursors of lists: opaque text that names the last entry of a page."""

from __future__ import annotations

import base64
import json
from typing import Any

from services.errors import InvalidRequest


def encode(kind: str, *place: Any) -> str:
    """``kind`` names the order of the list, so that a cursor is refused by a list in another order."""
    return base64.urlsafe_b64encode(json.dumps([kind, *place]).encode()).rstrip(b"=").decode()


def decode(cursor: str, kind: str, types: tuple[type, ...]) -> list[Any]:
    """The place that `encode` was given, of these types. Raises InvalidRequest."""
    try:
        place: list[Any]
        found, *place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if found == kind and [*map(type, place)] == list(types) and all(map(_can_be_stored, place)):
            return place
    except (ValueError, TypeError):
        pass
    raise InvalidRequest("cursor: invalid for this list", field="cursor", issue="use next_cursor of the same list, with the same filters")


def _can_be_stored(part: int | str) -> bool:
    """Integers have 64 bits. Databases and drivers refuse some characters that do not print: NUL, lone surrogates."""
    return part.isprintable() if isinstance(part, str) else abs(part) < 2**63
