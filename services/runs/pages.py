"""Pages of runs, newest first. Every page is read from an index, starting where the last one ended."""

from __future__ import annotations

from sqlalchemy import Connection, select, tuple_

from services.access.scope import Scope
from services.runs import queue
from services.runs.record import RunFilter, RunPage
from services.runs.rows import LISTED, to_run
from services.store import cursors
from services.store.schema import runs

MAX_LIMIT = 200
ORDER = (runs.c.created_at, runs.c.id)
ORDER_NAME, ORDER_TYPES = "created", (int, str)
"""What a cursor says of the order."""


def list_page(connection: Connection, wanted: RunFilter, scope: Scope, limit: int, cursor: str | None) -> RunPage:
    """At most ``limit`` runs of ``scope``, of 1 to 200. Raises InvalidRequest for an invalid cursor."""
    limit = max(1, min(limit, MAX_LIMIT))
    filters = {"owner": wanted.owner, "status": wanted.status, "kind": wanted.kind, "session_id": wanted.session_id}
    # First the ids of the page, from the index alone, which has all that can be filtered by.
    conditions = (runs.c[name] == value for name, value in filters.items() if value is not None)
    statement = select(*ORDER).where(scope.covers(runs.c.owner), *conditions)
    if cursor:
        statement = statement.where(tuple_(*ORDER) < tuple_(*cursors.decode(cursor, ORDER_NAME, ORDER_TYPES)))
    found = connection.execute(statement.order_by(*(column.desc() for column in ORDER)).limit(limit + 1)).all()
    page = [row.id for row in found[:limit]]
    rows = {row.id: row for row in connection.execute(select(*LISTED).where(runs.c.id.in_(page)))}
    places = queue.positions(connection, list(rows.values()))
    more = cursors.encode(ORDER_NAME, found[limit - 1].created_at, found[limit - 1].id) if len(found) > limit else None
    return RunPage(tuple(to_run(rows[id], position=places.get(id)) for id in page), more)
