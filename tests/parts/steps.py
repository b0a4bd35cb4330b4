"""What a query costs, in steps of SQLite's virtual machine: the same on every machine."""

from __future__ import annotations

from collections.abc import Callable

from services.store.db import Database

GRAIN = 100
"""Steps per count."""


def steps_of(database: Database, act: Callable[[], object]) -> int:
    """Of ``act``, called a second time."""
    act()
    with database.reading() as connection:
        driver = connection.connection.dbapi_connection
    assert driver
    counted = []

    def count() -> None:
        counted.append(GRAIN)

    driver.set_progress_handler(count, GRAIN)
    try:
        act()
    finally:
        driver.set_progress_handler(None, 0)
    return sum(counted)
