"""Deletion of old runs: statements within transactions of `RunStore`, each about a few runs."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select, update

from services.store.schema import run_events, runs

EVENTS_BATCH = 20
"""About 50 KB of events each: SQLite deletes a batch within milliseconds."""
ROWS_BATCH = 100


def expire_events(connection: Connection, before: int) -> int:
    """Delete the events of some runs that ended before ``before``. Returns the number of runs."""
    old = select(runs.c.id).where(runs.c.are_events_expired.is_(False), runs.c.ended_at < before)
    ids = connection.execute(old.order_by(runs.c.ended_at).limit(EVENTS_BATCH)).scalars().all()
    if ids:
        connection.execute(delete(run_events).where(run_events.c.run_id.in_(ids)))
        connection.execute(update(runs).where(runs.c.id.in_(ids)).values(are_events_expired=True))
    return len(ids)


def expire_runs(connection: Connection, before: int) -> int:
    """Delete some runs that ended before ``before``, after their events. Returns their number."""
    old = select(runs.c.id).where(runs.c.are_events_expired.is_(True), runs.c.ended_at < before)
    ids = connection.execute(old.order_by(runs.c.ended_at).limit(ROWS_BATCH)).scalars().all()
    return connection.execute(delete(runs).where(runs.c.id.in_(ids))).rowcount if ids else 0
