"""Numbered steps from an empty database to the newest tables. A step that was released is never changed: add another.

They run at start under the database's own lock, so of several workers that start at once one does the work.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, text

from services.errors import StoreUnavailable
from services.store.migrations import m0001_sessions

STEPS: tuple[Callable[[Connection], None], ...] = (m0001_sessions.upgrade,)
"""Step n (from 1) leads from version n - 1 to version n."""

LOCK_NUMBER = 7_242_301_019
"""Of PostgreSQL's advisory locks: ours for as long as the transaction lasts."""


def migrate(connection: Connection) -> None:
    """Bring the database to the newest version, in the writing transaction of ``connection``.

    Raises StoreUnavailable for a database that a newer clinvk has written.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK_NUMBER})
    connection.execute(text("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY)"))
    version = connection.execute(text("SELECT max(version) FROM schema_version")).scalar() or 0
    if version > len(STEPS):
        raise StoreUnavailable(
            f"the session store was written by a newer clinvk (its version is {version}, this program knows {len(STEPS)}):"
            " update clinvk, or choose another session.database_url"
        )
    for number, upgrade in enumerate(STEPS[version:], version + 1):
        upgrade(connection)
        connection.execute(text("INSERT INTO schema_version (version) VALUES (:number)"), {"number": number})
