"""Rows ⇄ records. Pure."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Row

from services.store.records import Session, Turn
from services.usage import Usage

USAGE = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cache_write_tokens")

TEXT_LIMIT_CHARS = 8 * 1024 * 1024
"""Of a prompt or an output as it is kept. More is cut, and the place says so."""


def storable(text: str) -> str:
    """``text`` as every database can hold it: no NUL (PostgreSQL), no halves of surrogate pairs, no more than the limit."""
    if len(text) > TEXT_LIMIT_CHARS:
        text = f"{text[:TEXT_LIMIT_CHARS]}\n[{len(text) - TEXT_LIMIT_CHARS} more characters were not kept]"
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def to_session(row: Row[Any]) -> Session:
    """What the row has null of the fields that never are null was left out by a list."""
    return Session(
        id=row.id,
        backend=row.backend,
        workdir=row.workdir,
        model=row.model,
        title=row.title,
        status=row.status,
        tags=tuple(json.loads(row.tags)),
        metadata=json.loads(row.metadata or "{}"),
        options=json.loads(row.options or "{}"),
        parent_id=row.parent_id,
        cli_session_id=row.cli_session_id,
        needs_rebuild=row.needs_rebuild,
        turn_count=row.turn_count,
        usage=Usage(*(getattr(row, name) for name in USAGE)),
        cost_usd=row.cost_usd,
        error=row.error,
        created_at=row.created_at,
        updated_at=row.updated_at,
        left_out=tuple(name for name in ("metadata", "options") if getattr(row, name) is None),
    )


def from_session(session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "backend": session.backend,
        "model": session.model,
        "workdir": storable(session.workdir),
        "title": storable(session.title) if session.title else None,
        "status": session.status,
        "tags": dumped(tuple(map(storable, session.tags))),
        "metadata": dumped(session.metadata),
        "options": dumped(session.options),
        "parent_id": session.parent_id,
        "cli_session_id": session.cli_session_id,
        "needs_rebuild": session.needs_rebuild,
        "turn_count": session.turn_count,
        **from_usage(session.usage),
        "cost_usd": session.cost_usd,
        "error": session.error,
        "created_at": session.created_at,
        "updated_at": session.updated_at,
    }


def to_turn(row: Row[Any]) -> Turn:
    has_usage = row.input_tokens is not None
    return Turn(
        session_id=row.session_id,
        number=row.number,
        status=row.status,
        prompt=row.prompt,
        output=row.output,
        model=row.model,
        failure=row.failure,
        error=row.error,
        exit_code=row.exit_code,
        started_at=row.started_at,
        duration_ms=row.duration_ms,
        usage=Usage(*(getattr(row, name) for name in USAGE)) if has_usage else None,
        cost_usd=row.cost_usd,
        request_id=row.request_id,
        is_inherited=row.is_inherited,
    )


def from_usage(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in USAGE}


def dumped(value: Any) -> str:
    """JSON in ASCII: whatever a caller's strings hold, the database can."""
    return json.dumps(value)
