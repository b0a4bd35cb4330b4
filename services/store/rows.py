"""Rows ⇄ records. Pure."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from sqlalchemy import Row

from services.store.records import Session, Turn
from services.store.schema import USAGE
from services.usage import Usage

OF_SESSION = tuple(item.name for item in fields(Session) if item.name not in ("tags", "metadata", "options", "usage", "left_out"))
OF_TURN = tuple(item.name for item in fields(Turn) if item.name != "usage")
"""Fields stored unchanged in a column of the same name."""

TEXT_LIMIT_CHARS = 8 * 1024 * 1024
"""The longest prompt or output that is stored. Longer text is truncated, with a note at the end."""


def storable(text: str) -> str:
    """``text`` as every database can store it: without NUL (PostgreSQL) and lone surrogates, truncated to the limit."""
    if len(text) > TEXT_LIMIT_CHARS:
        text = f"{text[:TEXT_LIMIT_CHARS]}\n[{len(text) - TEXT_LIMIT_CHARS} more characters were not stored]"
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def to_session(row: Row[Any]) -> Session:
    """NULL in a non-nullable field means that a list omitted it."""
    held = row._mapping
    return Session(
        **{name: held[name] for name in OF_SESSION},
        tags=tuple(json.loads(row.tags)),
        metadata=json.loads(row.metadata or "{}"),
        options=json.loads(row.options or "{}"),
        usage=Usage(*(held[name] for name in USAGE)),
        left_out=tuple(name for name in ("metadata", "options") if held[name] is None),
    )


def from_session(session: Session) -> dict[str, Any]:
    return {
        **{name: getattr(session, name) for name in OF_SESSION},
        "workdir": storable(session.workdir),
        "title": storable(session.title) if session.title else None,
        "tags": dumped(tuple(map(storable, session.tags))),
        "metadata": dumped(session.metadata),
        "options": dumped(session.options),
        **from_usage(session.usage),
    }


def to_turn(row: Row[Any]) -> Turn:
    held = row._mapping
    usage = Usage(*(held[name] for name in USAGE)) if row.input_tokens is not None else None
    return Turn(**{name: held[name] for name in OF_TURN}, usage=usage)


def from_turn(turn: Turn) -> dict[str, Any]:
    usage = from_usage(turn.usage) if turn.usage else dict.fromkeys(USAGE)
    return {name: getattr(turn, name) for name in OF_TURN} | usage


def from_usage(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in USAGE}


def dumped(value: Any) -> str:
    """JSON that any database can store: characters as they are (escaped, 10 MB of `é` would be 30 MB), escaped if UTF-8 lacks one."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(value)
    return text
