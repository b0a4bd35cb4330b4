"""Create the tables of `schema` in an empty database, or upgrade an older one in numbered steps. Never change a released step;
add another.

Runs at start under a database lock, so only one of several starting workers migrates.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, text

from services.errors import StoreUnavailable
from services.store import version_2, version_3
from services.store.schema import create_tables

STEPS: tuple[Callable[[Connection], None], ...] = (version_2.upgrade, version_3.upgrade)
"""The first upgrades version 1 to version 2, the second version 2 to version 3."""

NEWEST = 1 + len(STEPS)

LOCK_NUMBER = 7_242_301_019
"""Key of the PostgreSQL advisory lock, held for the transaction."""


def migrate(connection: Connection) -> None:
    """Upgrade the database to the newest version, in the write transaction of ``connection``.

    Raises StoreUnavailable for a database written by a newer clinvk.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK_NUMBER})
    connection.execute(text("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY)"))
    version = connection.execute(text("SELECT max(version) FROM schema_version")).scalar() or 0
    if version > NEWEST:
        raise StoreUnavailable(
            f"the session store was written by a newer clinvk (schema version {version}; this program supports up to {NEWEST}):"
            " update clinvk, or choose another session.database_url"
        )
    if version == 0:
        create_tables(connection)
    else:
        for upgrade in STEPS[version - 1 :]:
            upgrade(connection)
    if version != NEWEST:
        connection.execute(text("INSERT INTO schema_version (version) VALUES (:number)"), {"number": NEWEST})
