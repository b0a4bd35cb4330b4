"""Deletion of old entries of the ledger, in short transactions."""

from __future__ import annotations

from sqlalchemy import delete, func, select

from services.event_loop import yield_to_others
from services.store.db import Database
from services.store.schema import usage_runs

BATCH = 1_000


def expire(database: Database, first_kept: int) -> int:
    """Delete the entries with ids below ``first_kept``. Returns their number."""
    oldest = select(usage_runs.c.id).where(usage_runs.c.id < first_kept).order_by(usage_runs.c.id).limit(BATCH).subquery()
    last = select(func.max(oldest.c.id)).scalar_subquery()
    total = 0
    while count := database.write(lambda connection: connection.execute(delete(usage_runs).where(usage_runs.c.id <= last)).rowcount):
        total += count
        yield_to_others()
    return total
