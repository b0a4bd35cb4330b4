"""Sessions and turns → native JSON; session requests → store filters and `About`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blueprints.native.translate import to_usage
from blueprints.times import to_time
from services.access.scope import Scope
from services.sessions.conversations import About
from services.store.records import Filter, Session, Turn


def to_about(body: Mapping[str, Any]) -> About:
    return About(title=body.get("title") or None, tags=tuple(body.get("tags", ())), metadata=body.get("metadata", {}))


def to_filter(query: Mapping[str, Any]) -> Filter:
    workdir = query.get("workdir")
    return Filter(
        backend=query.get("backend"),
        status=query.get("status"),
        tag=query.get("tag"),
        workdir=(workdir.rstrip("/") or "/") if workdir else None,
        q=query.get("q"),
        owner=query.get("owner"),
    )


def from_session(session: Session, scope: Scope) -> dict[str, Any]:
    """The resource, for a caller with this scope: ``owner`` is for those who see several."""
    return {
        "id": session.id,
        **({"owner": session.owner} if scope.is_everyone else {}),
        "backend": session.backend,
        "model": session.model,
        "workdir": session.workdir,
        "title": session.title,
        "status": session.status,
        "tags": list(session.tags),
        "metadata": None if "metadata" in session.left_out else dict(session.metadata),
        "options": None if "options" in session.left_out else dict(session.options),
        "parent_id": session.parent_id,
        "is_rebuilt_next": session.needs_rebuild,
        "turn_count": session.turn_count,
        "token_usage": to_usage(session.usage),
        "cost_usd": session.cost_usd,
        "error": session.error,
        "created_at": to_time(session.created_at),
        "updated_at": to_time(session.updated_at),
    }


def from_turn(turn: Turn) -> dict[str, Any]:
    return {
        "number": turn.number,
        "status": turn.status,
        "prompt": turn.prompt,
        "output": turn.output,
        "error": turn.error,
        "model": turn.model,
        "exit_code": turn.exit_code,
        "started_at": to_time(turn.started_at),
        "duration_ms": turn.duration_ms,
        "token_usage": to_usage(turn.usage),
        "cost_usd": turn.cost_usd,
        "request_id": turn.request_id,
        "is_inherited": turn.is_inherited,
    }
