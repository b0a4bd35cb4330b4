"""Plan windows in the database: what one process has observed, all of them know, also after a restart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select, text

from services.plans.window import PlanWindow
from services.plans.windows import Observed, PlanWindows
from services.store.db import Database
from services.store.rows import storable
from services.store.schema import plan_windows

MICROSECONDS = 1_000_000

# As text: SQLAlchemy's own form of ON CONFLICT would load both dialects.
SAVE = text(
    "INSERT INTO plan_windows (backend, name, used, resets_at, status, observed_at) "
    "VALUES (:backend, :name, :used, :resets_at, :status, :observed_at) ON CONFLICT (backend, name) DO UPDATE SET "
    "used = excluded.used, resets_at = excluded.resets_at, status = excluded.status, observed_at = excluded.observed_at "
    "WHERE excluded.observed_at > plan_windows.observed_at"
)


class PlanStore:
    def __init__(self, database: Database, windows: PlanWindows) -> None:
        self._database = database
        self._windows = windows

    def sync(self) -> None:
        """Write what is new, and read what other processes wrote. Raises StoreUnavailable; nothing is lost then."""
        if unsaved := self._windows.unsaved():
            self._database.write(lambda connection: _save(connection, unsaved))
            self._windows.saved(unsaved)
        with self._database.reading() as connection:
            rows = connection.execute(select(plan_windows)).all()
        for row in rows:
            resets_at = None if row.resets_at is None else row.resets_at // MICROSECONDS
            self._windows.learn(row.backend, Observed(PlanWindow(row.name, row.used, resets_at, row.status), row.observed_at))


def _save(connection: Connection, unsaved: Sequence[tuple[str, Observed]]) -> None:
    connection.execute(SAVE, [_to_row(backend, one) for backend, one in unsaved])


def _to_row(backend: str, one: Observed) -> dict[str, Any]:
    window = one.window
    return {
        "backend": backend,
        "name": storable(window.name),
        "used": window.used,
        "resets_at": None if window.resets_at is None else window.resets_at * MICROSECONDS,
        "status": window.status and storable(window.status),
        "observed_at": one.at,
    }
