"""Rows ⇄ records of runs. Pure."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from sqlalchemy import Row, case, func, null

from services.requests import PassedOver
from services.runs.record import Chunk, IdempotencyKey, NewRun, Run, RunEnd, RunError, StoredAnswer, Webhook
from services.store.rows import dumped, storable
from services.store.schema import runs

COMPOSED = {
    "request",
    "begun",
    "tags",
    "metadata",
    "idempotency",
    "webhooks",
    "result",
    "error",
    "answer",
    "terminal",
    "position",
    "passed_over",
    "left_out",
}
AS_THEY_ARE = tuple(item.name for item in fields(Run) if item.name not in COMPOSED)
"""Fields stored unchanged in a column of the same name."""

LISTED_BYTES = 16 * 1024
"""Lists omit longer results, so a page of 200 runs has at most 3 MB of them."""

WHOLE = tuple(runs.c)
TERMINAL = (runs.c.terminal_first, runs.c.terminal_count, runs.c.terminal_data)
LARGE = ("result", "terminal_data", "answer_body")
LISTED = (
    *(column for column in runs.c if column.name not in LARGE),
    case((func.length(runs.c.result) <= LISTED_BYTES, runs.c.result)).label("result"),
    func.length(runs.c.result).label("result_bytes"),
    *(null().label(name) for name in LARGE if name != "result"),  # `to_run` asks for them, and a missing key costs more than a row
)
"""The columns of a run that is read alone, and of one of a list."""


def to_run(row: Row[Any], *, position: int | None = None, request: bytes = b"") -> Run:
    held = row._mapping
    return Run(
        **{name: held[name] for name in AS_THEY_ARE},
        request=request,
        tags=tuple(json.loads(row.tags)),
        metadata=json.loads(row.metadata),
        idempotency=IdempotencyKey(key=row.idempotency_key, body_hash=row.body_hash) if row.idempotency_key else None,
        webhooks=to_webhooks(row.webhooks),
        result=row.result,
        error=RunError(code=row.error_code, message=row.error_message) if row.error_code else None,
        terminal=to_terminal(row),
        answer=to_answer(row),
        position=position,
        passed_over=tuple(PassedOver(*one) for one in json.loads(row.fallback or "[]")),
        left_out=("result",) if row.result is None and held.get("result_bytes") is not None else (),
    )


def to_terminal(row: Row[Any]) -> Chunk | None:
    data = row._mapping.get("terminal_data")
    return Chunk(row.terminal_first, row.terminal_count, data) if data is not None else None


def to_answer(row: Row[Any]) -> StoredAnswer | None:
    body = row._mapping.get("answer_body")
    if body is None:
        return None
    return StoredAnswer(status=row.answer_status, headers=tuple((name, value) for name, value in json.loads(row.answer_headers)), body=body)


def to_webhooks(held: str | None) -> tuple[Webhook, ...]:
    values = json.loads(held) if held else ()
    return tuple(Webhook(url=value["url"], events=tuple(value["events"]), secret=value["secret"]) for value in values)


def from_new(new: NewRun, *, now: int) -> dict[str, Any]:
    """All columns of a run that waits in the queue, except its turn."""
    key = new.idempotency
    webhooks = [{"url": webhook.url, "events": webhook.events, "secret": webhook.secret} for webhook in new.webhooks]
    return dict.fromkeys(runs.c.keys()) | {
        "id": new.id,
        "kind": new.kind,
        "owner": new.owner,
        "status": "queued",
        "is_background": new.is_background,
        "priority": new.priority,
        "attempt": 1,
        "attempts": new.attempts,
        "is_cancel_requested": False,
        "are_events_expired": False,
        "session_id": new.session_id,
        "backend": new.backend,
        "model": storable(new.model) if new.model else None,
        "timeout_s": new.timeout_s,
        "request_id": new.request_id,
        "created_at": now,
        "idempotency_key": key.key if key else None,
        "body_hash": key.body_hash if key else None,
        "webhooks": dumped(webhooks) if webhooks else None,
        "title": storable(new.title) if new.title else None,
        "tags": dumped(tuple(map(storable, new.tags))),
        "metadata": dumped(new.metadata),
    }


def from_end(end: RunEnd) -> dict[str, Any]:
    """The columns that an end sets; those that it leaves as they are, are None."""
    return {
        "status": end.status,
        "result": end.result,
        "error_code": end.error.code if end.error else None,
        "error_message": storable(end.error.message) if end.error else None,
        "terminal_first": end.terminal.first,
        "terminal_count": end.terminal.count,
        "terminal_data": end.terminal.data,
        "answer_status": end.answer.status if end.answer else None,
        "answer_headers": dumped(end.answer.headers) if end.answer else None,
        "answer_body": end.answer.body if end.answer else None,
        "session_id": end.session_id,
        "cli_session_id": end.cli_session_id,
        "backend": end.backend,
        "model": storable(end.model) if end.model else None,
        "last_tool": storable(end.last_tool) if end.last_tool else None,
        "fallback": dumped(end.passed_over) if end.passed_over else None,
    }
