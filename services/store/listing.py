"""Pages of sessions: filters, search and cursors. Every page is read from an index, starting where the last one ended."""

from __future__ import annotations

from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, select, tuple_

from services.access.rights import LOCAL
from services.access.scope import Scope
from services.store import cursors, documents
from services.store.records import Filter, Page
from services.store.rows import to_session
from services.store.schema import session_tags, sessions
from services.store.tokenizer import filter_term

MAX_LIMIT = 200
LISTED_CHARS = 4_096
"""Lists omit metadata and options with longer JSON, so a page of 200 sessions has at most 2 MB of them."""
LARGE = ("metadata", "options")
ALL = Filter()


def list_page(connection: Connection, wanted: Filter, scope: Scope, limit: int, offset: int, cursor: str | None) -> Page:
    """Sessions of ``scope`` that match ``wanted``, most recently used first; with ``q``, by newest match."""
    limit = max(1, min(limit, MAX_LIMIT))
    if wanted.q is not None and wanted.q.strip():
        return _search(connection, wanted, scope, limit, offset, cursor)
    order, statement = _ordered(wanted, scope)
    if cursor:
        statement = statement.where(order < tuple_(*cursors.decode(cursor, "updated", (int, str))))
    # First the ids of the page, with an index-only scan: an offset then skips index entries, not rows.
    ids = statement.order_by(*(column.desc() for column in order.clauses)).limit(limit + 1).offset(offset)
    found = connection.execute(ids).all()
    rows = _load(connection, [row.id for row in found[:limit]], scope)
    last = found[limit - 1] if len(found) > limit else None
    return Page(tuple(map(to_session, rows)), cursors.encode("updated", last.updated_at, last.id) if last else None)


def _ordered(wanted: Filter, scope: Scope) -> tuple[Any, Select[Any]]:
    """The order of a page and the statement for its ids, from the table whose index covers both filter and order."""
    if wanted.tag is not None:
        order = tuple_(session_tags.c.updated_at, session_tags.c.session_id)
        statement = select(session_tags.c.session_id.label("id"), session_tags.c.updated_at).where(
            session_tags.c.tag == wanted.tag, *_of_owner(session_tags.c.owner, wanted, scope)
        )
        if conditions := _conditions(wanted):
            statement = statement.join(sessions, sessions.c.id == session_tags.c.session_id).where(and_(*conditions))
        return order, statement
    order = tuple_(sessions.c.updated_at, sessions.c.id)
    return order, select(sessions.c.id, sessions.c.updated_at).where(*_of_owner(sessions.c.owner, wanted, scope), *_conditions(wanted))


def _of_owner(column: ColumnElement[str], wanted: Filter, scope: Scope) -> list[ColumnElement[bool]]:
    return [scope.covers(column), *([column == wanted.owner] if wanted.owner is not None else [])]


def _conditions(wanted: Filter) -> list[Any]:
    filters = (("backend", wanted.backend), ("status", wanted.status), ("workdir", wanted.workdir))
    return [sessions.c[name] == value for name, value in filters if value is not None]


def _search(connection: Connection, wanted: Filter, scope: Scope, limit: int, offset: int, cursor: str | None) -> Page:
    """Each session is listed once, at its newest match, also across the pages of a cursor."""
    before = int(cursors.decode(cursor, "found", (int,))[0]) if cursor else None
    terms = [("owner", scope.owner), ("backend", wanted.backend), ("workdir", wanted.workdir)]
    if wanted.owner != LOCAL:  # sessions of before ownership are local's, and their documents do not say so
        terms.append(("owner", wanted.owner))
    filter_terms = [filter_term(name, value) for name, value in dict.fromkeys(terms) if value is not None]
    query = documents.to_query(connection, wanted.q or "", filter_terms)
    if query is None:
        return Page(())
    seen: set[str] = set()

    def fresh() -> Any:
        for document, session_id in documents.matches(connection, query, before):
            if session_id not in seen:
                seen.add(session_id)
                if not (before and documents.has_newer(connection, query, session_id, before)):
                    yield document, session_id

    found: list[tuple[int, Row[Any]]] = []
    candidates = fresh()
    while len(found) <= limit + offset and (some := list(islice(candidates, limit + 1))):
        kept = {row.id: row for row in _load(connection, [session_id for _, session_id in some], scope, wanted)}
        found += [(document, kept[session_id]) for document, session_id in some if session_id in kept]
    page = found[offset : offset + limit]
    has_more = len(found) > offset + limit
    return Page(tuple(to_session(row) for _, row in page), cursors.encode("found", page[-1][0]) if has_more else None)


def _load(connection: Connection, ids: list[str], scope: Scope, wanted: Filter = ALL) -> list[Row[Any]]:
    """The sessions of ``scope`` among ``ids`` that match ``wanted``, in the order of ``ids``."""
    columns = [
        case((func.length(column) <= LISTED_CHARS, column)).label(column.name) if column.name in LARGE else column for column in sessions.c
    ]
    owned = _of_owner(sessions.c.owner, wanted, scope)
    statement = select(*columns).where(sessions.c.id.in_(ids), *owned, *_conditions(wanted))
    if wanted.tag is not None:
        statement = statement.join(session_tags, session_tags.c.session_id == sessions.c.id).where(session_tags.c.tag == wanted.tag)
    rows = {row.id: row for row in connection.execute(statement)}
    return [rows[id] for id in ids if id in rows]
