"""Read untrusted JSON: a value of the wrong type reads as empty and never raises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from typing import Any

import orjson


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def map_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def count_of(value: Any) -> int:
    """A token count: never negative; 0 if not a number."""
    return max(0, int(number)) if (number := number_of(value)) is not None else 0


def has_counts(counts: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether any of the names has a number. Without one the usage is unknown, not 0."""
    return any(number_of(counts.get(name)) is not None for name in names)


def number_of(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return value


def to_json(value: Any) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # nested deeper than orjson writes (254), though it reads 1024
        return ""


def flat_text(content: Any) -> str:
    """The text of a tool result: a string, Anthropic-style content blocks, or any other JSON serialized."""
    match content:
        case str():
            return content
        case None:
            return ""
        case list():
            return "\n".join(filter(None, map(_block_text, content)))
    return to_json(content)


def _block_text(block: Any) -> str:
    match block:
        case str():
            return block
        case {"text": str(text)}:
            return text
        case {"type": str(kind)}:
            return f"[{kind}]"  # omit the bytes of images
    return to_json(block)


def dig(value: Any, path: str) -> Iterator[Any]:
    """Every value at a dotted ``path`` (``stats.models.*.tokens.total``; ``*`` matches every key or item); none if the path does not exist."""
    step, _, rest = path.partition(".")
    if not step:
        yield value
        return
    match value:
        case dict():
            found = list(value.values()) if step == "*" else [value[step]] if step in value else []
        case list():
            found = value if step == "*" else [value[int(step)]] if step.isdecimal() and int(step) < len(value) else []
        case _:
            found = []
    for item in found:
        yield from dig(item, rest)
