"""Events of a run that no CLI produces: the end of a run that has none of its own, and its second attempt. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from blueprints import sse
from blueprints.times import now
from services.runs.record import Chunk, Run, RunError

COMPOSED = ("parallel", "chain", "compare")


def to_error_event(run: Run, number: int, error: RunError) -> Chunk:
    """The terminal event ``error``."""
    content: dict[str, Any] = {"code": error.code, "message": error.message}
    if run.kind not in COMPOSED:
        content |= {"exit_code": None, "duration_ms": _duration_ms(run), "token_usage": None, "cost_usd": None, "denied_tools": []}
    return _chunk(run, number, b"error", content)


def to_restarted_event(run: Run, number: int) -> Chunk:
    """The event before another attempt. ``run`` still has the number of the lost one."""
    return _chunk(run, number, b"restarted", {"attempt": run.attempt + 1})


def _chunk(run: Run, number: int, kind: bytes, content: dict[str, Any]) -> Chunk:
    event: dict[str, Any] = {"type": kind.decode()}
    if run.kind not in COMPOSED:
        event |= {"backend": run.backend, "session_id": run.session_id}
    data = orjson.dumps({**event, "timestamp": now(), "sequence": number, "content": content})
    return Chunk(number, 1, sse.frame(data, event=kind, id=number))


def _duration_ms(run: Run) -> int:
    return (run.ended_at - run.started_at) // 1000 if run.ended_at and run.started_at else 0
