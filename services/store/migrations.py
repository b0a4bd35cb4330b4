"""An empty database gets the tables of `schema`; an older one is brought to them by numbered steps. A step that was released is
never changed: add another.

This happens at start under the database's own lock, so of several workers that start at once one does the work.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, text

from services.errors import StoreUnavailable
from services.store.schema import create_tables

STEPS: tuple[Callable[[Connection], None], ...] = ()
"""The first leads from version 1 to version 2."""

NEWEST = 1 + len(STEPS)

LOCK_NUMBER = 7_242_301_019
"""PostgreSQL's advisory lock that is held while the transaction lasts."""


def migrate(connection: Connection) -> None:
    """Bring the database to the newest version, in the writing transaction of ``connection``.

    Raises StoreUnavailable for a database written by a newer clinvk.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK_NUMBER})
    connection.execute(text("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY)"))
    version = connection.execute(text("SELECT max(version) FROM schema_version")).scalar() or 0
    if version > NEWEST:
        raise StoreUnavailable(
            f"the session store was written by a newer clinvk (its version is {version}, this program knows {NEWEST}):"
            " update clinvk, or choose another session.database_url"
        )
    if version == 0:
        create_tables(connection)
    else:
        for upgrade in STEPS[version - 1 :]:
            upgrade(connection)
    if version != NEWEST:
        connection.execute(text("INSERT INTO schema_version (version) VALUES (:number)"), {"number": NEWEST})
