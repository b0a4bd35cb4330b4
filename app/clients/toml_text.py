"""TOML, edited as text: a table with a header of its own is added at the end, replaced in place, or taken out."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

from app.clients.unreadable import Unreadable, newline_of, next_line

HEADER = re.compile(r"^[ \t]*\[\[?(?P<name>[^\[\]\r\n]+)\]\]?[ \t]*(?:#.*)?\r?$", re.MULTILINE)
TEXT = re.compile(r"#[^\n]*|\"{3}(?:\\.|[^\\])*?\"{3,5}|'{3}.*?'{3,5}|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'", re.DOTALL)
NOTHING = re.compile(r"^(?:[ \t]*(?:#[^\n]*|\r)?(?:\n|\Z))*\Z", re.MULTILINE)
"""Blank lines and comments at the end of a table: they belong to what follows."""
BARE = re.compile(r"[A-Za-z0-9_-]+")
HAS_NAMED_ITEMS = False


def parse(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Unreadable(f"not TOML: {error}") from None


def put(text: str, path: tuple[str, ...], value: Any) -> str:
    newline = newline_of(text)
    block = newline.join([f"[{'.'.join(map(_key, path))}]", *(f"{_key(name)} = {_value(member)}" for name, member in value.items()), ""])
    for start, end, name in _tables(text):
        if name == path:
            return text[:start] + block + text[end:]
    if not text.strip():
        return text + block
    return text + ("" if text.endswith("\n") else newline) + newline + block


def drop(text: str, path: tuple[str, ...]) -> str:
    """Also without the tables below it, which the program may have added, and without a blank line before it."""
    for start, end, name in reversed(list(_tables(text))):
        if name[: len(path)] == path:
            text = re.sub(r"(?<=\n)\r?\n\Z", "", text[:start]) + text[end:]
    return text


def _tables(text: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Where each table begins and ends, and its name."""
    # The lines of a longer text may look like headers.
    headers = list(HEADER.finditer(TEXT.sub(lambda found: "x" * len(found[0]) if "\n" in found[0] else found[0], text)))
    for header, following in zip(headers, [*headers[1:], None], strict=False):
        end = following.start() if following else len(text)
        nothing = NOTHING.search(text, next_line(text, header.start()), end)
        yield header.start(), nothing.start() if nothing else end, _name(header["name"])


def _name(dotted: str) -> tuple[str, ...]:
    try:
        data: Any = tomllib.loads(f"[{dotted}]")
    except tomllib.TOMLDecodeError:  # a line of an array
        return ()
    names = []
    while data:
        ((name, data),) = data.items()
        names.append(name)
    return tuple(names)


def _key(name: str) -> str:
    return name if BARE.fullmatch(name) else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(name)} = {_value(member)}' for name, member in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)  # TOML writes these texts, numbers and truth values as JSON does
