"""Runs → native JSON; queries of runs → filters of the store. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from blueprints.times import to_time
from services.access.scope import Scope
from services.runs.record import Run, RunFilter


def from_run(run: Run, scope: Scope) -> dict[str, Any]:
    """The resource, for a caller with this scope. All fields are always present, but for ``owner``, which is for those who see several."""
    return {
        "id": run.id,
        **({"owner": run.owner} if scope.is_everyone else {}),
        "kind": run.kind,
        "background": run.is_background,
        "title": run.title,
        "tags": list(run.tags),
        "metadata": dict(run.metadata),
        "status": run.status,
        "position": run.position,
        "priority": run.priority,
        "attempt": run.attempt,
        "session_id": run.session_id,
        "backend": run.backend,
        "model": run.model,
        "last_tool": run.last_tool,
        "created_at": to_time(run.created_at),
        "started_at": to_time(run.started_at) if run.started_at else None,
        "ended_at": to_time(run.ended_at) if run.ended_at else None,
        "result": orjson.loads(run.result) if run.result else None,
        "error": {"code": run.error.code, "message": run.error.message} if run.error else None,
    }


def to_run_filter(query: Mapping[str, Any]) -> RunFilter:
    return RunFilter(owner=query.get("owner"), status=query.get("status"), kind=query.get("kind"), session_id=query.get("session_id"))
