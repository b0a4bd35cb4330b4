"""How a run ends: statements within a transaction of `RunStore`.

A run's end, its terminal event and its webhook are one transaction, so a process that is killed leaves all of them or none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Integer, LargeBinary, Row, Text, bindparam, func, select, update

from services.runs.record import LIVE, Chunk, Run, RunEnd, RunError, RunKind, first_number
from services.runs.rows import from_end, to_webhooks
from services.runs.webhooks import outbox
from services.runs.webhooks.event_types import event_type
from services.store.schema import run_events, runs

KEPT_IF_NONE = ("session_id", "cli_session_id", "backend", "model", "last_tool", "fallback")
IS_OURS = (runs.c.worker == bindparam("of_worker")) & runs.c.status.in_(LIVE)
END = (
    update(runs)
    .where(runs.c.id == bindparam("of_run"))
    .values(
        status=bindparam("new_status"),
        worker=None,
        ended_at=bindparam("now"),
        error_code=bindparam("new_error_code"),
        error_message=bindparam("new_error_message"),
        terminal_first=bindparam("new_terminal_first"),
        terminal_count=bindparam("new_terminal_count"),
        terminal_data=bindparam("new_terminal_data"),
        answer_status=bindparam("new_answer_status"),
        answer_headers=bindparam("new_answer_headers"),
        answer_body=bindparam("new_answer_body", type_=LargeBinary),
        result=bindparam("new_result", type_=LargeBinary),
        **{name: func.coalesce(bindparam(f"new_{name}", type_=Text), runs.c[name]) for name in KEPT_IF_NONE},
    )
    .returning(runs.c.kind, runs.c.webhooks)
)
END_OURS = END.where(IS_OURS, runs.c.attempt == func.coalesce(bindparam("of_attempt", type_=Integer), runs.c.attempt))
"""A process that was presumed dead may execute the next attempt itself: the first one's end is not that of the second."""

NEXT_NUMBER = (
    select(run_events.c.first + run_events.c.count)
    .where(run_events.c.run_id == bindparam("of_run"))
    .order_by(run_events.c.first.desc())
    .limit(1)
)

BEGUN = select(run_events).where(run_events.c.run_id == bindparam("of_run")).order_by(run_events.c.first).limit(1)


def with_beginning(connection: Connection, run: Run) -> Run:
    """The run as its terminal event is made of it."""
    row = connection.execute(BEGUN, {"of_run": run.id}).first()
    return replace(run, begun=Chunk(row.first, row._mapping["count"], row.data)) if row else run


def next_number(connection: Connection, run_id: str, kind: RunKind) -> int:
    """The number of the event that would be next in the log."""
    stored: int | None = connection.execute(NEXT_NUMBER, {"of_run": run_id}).scalar()
    return first_number(kind) if stored is None else stored


def end(connection: Connection, run_id: str, end: RunEnd, now: int, *, worker: str | None = None, attempt: int | None = None) -> bool:
    """Store the end of an unfinished run. With ``worker``: only if that process executes it, and with ``attempt``: only this attempt.
    Returns whether it was stored."""
    changes = {f"new_{name}": value for name, value in from_end(end).items()} | {"of_run": run_id, "now": now}
    if worker is None:
        row = connection.execute(END, changes).first()
    else:
        row = connection.execute(END_OURS, changes | {"of_worker": worker, "of_attempt": attempt}).first()
    if row is not None:
        _announce(connection, run_id, row, end, now)
    return row is not None


def cancel_queued(connection: Connection, run: Run, error: RunError, terminal_of: Callable[[Run, int], Chunk], now: int) -> None:
    """End a run that waits in the queue, whose row is locked. ``terminal_of`` makes its last event, with the given number."""
    ended = replace(run, status="cancelled", error=error, ended_at=now, position=None)
    terminal = terminal_of(with_beginning(connection, ended), next_number(connection, run.id, run.kind))
    end(connection, run.id, RunEnd(status="cancelled", error=error, terminal=terminal), now)


def _announce(connection: Connection, run_id: str, row: Row[Any], end: RunEnd, now: int) -> None:
    if webhooks := to_webhooks(row.webhooks):
        outbox.add(connection, run_id, webhooks, event_type(row.kind, end.webhook_event or end.status), now)
