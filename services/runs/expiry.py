"""Deletion of old runs: statements within transactions of `RunStore`, each about a few runs and few bytes."""

from __future__ import annotations

from sqlalchemy import Connection, ScalarSelect, delete, func, select, update
from sqlalchemy.sql.elements import ColumnElement

from services.store.schema import run_events, run_requests, runs

EVENTS_BATCH = 20
ROWS_BATCH = 100
BATCH_BYTES = 1024 * 1024
"""SQLite deletes as much within milliseconds. A larger run is a batch of its own."""

EVENTS_BYTES = select(func.sum(func.length(run_events.c.data))).where(run_events.c.run_id == runs.c.id).scalar_subquery()
REQUEST_BYTES = select(func.length(run_requests.c.data)).where(run_requests.c.run_id == runs.c.id).scalar_subquery()


def expire_events(connection: Connection, before: int) -> int:
    """Delete the events of some runs that ended before ``before``. Returns the number of runs."""
    ids = _oldest(connection, before, EVENTS_BATCH, (EVENTS_BYTES,), are_events_expired=False)
    if ids:
        connection.execute(delete(run_events).where(run_events.c.run_id.in_(ids)))
        connection.execute(update(runs).where(runs.c.id.in_(ids)).values(are_events_expired=True))
    return len(ids)


def expire_runs(connection: Connection, before: int) -> int:
    """Delete some runs that ended before ``before``, after their events. Returns their number."""
    large = (runs.c.result, runs.c.terminal_data, runs.c.answer_body)
    ids = _oldest(connection, before, ROWS_BATCH, (REQUEST_BYTES, *map(func.length, large)), are_events_expired=True)
    return connection.execute(delete(runs).where(runs.c.id.in_(ids))).rowcount if ids else 0


def _oldest(
    connection: Connection,
    before: int,
    limit: int,
    lengths: tuple[ScalarSelect[int] | ColumnElement[int], ...],
    *,
    are_events_expired: bool,
) -> list[str]:
    """At most ``limit`` runs, whose ``lengths`` are at most `BATCH_BYTES` together unless it is one."""
    size = sum((func.coalesce(length, 0) for length in lengths[1:]), start=func.coalesce(lengths[0], 0))
    old = select(runs.c.id, size.label("bytes")).where(runs.c.are_events_expired.is_(are_events_expired), runs.c.ended_at < before)
    found, taken = connection.execute(old.order_by(runs.c.ended_at).limit(limit)).all(), 0
    return [row.id for row in found if (taken := taken + row.bytes) <= BATCH_BYTES] or [row.id for row in found[:1]]
