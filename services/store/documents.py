"""The full-text index: FTS5 on SQLite, a GIN index over word lists on PostgreSQL (both in the core of what Debian ships).

Matches come newest first and only as many as are asked for: nothing is ranked or sorted, so a word that every session holds
costs no more than a rare one. Document ids only grow; the id is the order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, TextClause, text

from services.store.tokenizer import QUERY_WORDS, words_of

CHUNK = 64
"""Matches read at a time."""

INSERT = {
    "sqlite": text("INSERT INTO documents (session_id, words) VALUES (:session_id, :words)"),
    "postgresql": text("INSERT INTO documents (session_id, words) VALUES (:session_id, array_to_tsvector(CAST(:words AS text[])))"),
}

MATCH = text(
    "SELECT documents.id, documents.session_id FROM documents_words JOIN documents ON documents.id = documents_words.rowid"
    " WHERE documents_words MATCH :query AND documents_words.rowid < :before ORDER BY documents_words.rowid DESC LIMIT :limit"
)

# PostgreSQL's text index has no order. Either the newest documents are looked through one by one, which is quick for a word that
# many hold, or the index is asked and its matches are sorted, which is quick for a word that few hold. Its planner does not
# know how rare a word is (a rare one took 0.9 s among a million sessions), so it is told: first a look at the newest.
MATCH_NEAR = text(
    "SELECT id, session_id FROM documents WHERE words @@ CAST(:query AS tsquery) AND id < :before AND id >= :from"
    " ORDER BY id DESC LIMIT :limit"
)
MATCH_FAR = text(  # "+ 0" keeps the planner from walking along the ids
    "SELECT id, session_id FROM documents WHERE words @@ CAST(:query AS tsquery) AND id < :before ORDER BY id + 0 DESC LIMIT :limit"
)
NEAR = 4_096
"""Documents in one look; where fewer than a chunk of them match, the index is asked for the rest."""
FAR_CHUNK = 512

# Whether a session has a match that is newer than the place where a page begins: then an earlier page has shown it.
NEWER: dict[str, TextClause] = {
    "sqlite": text(
        "SELECT 1 FROM documents_words WHERE documents_words MATCH :query AND documents_words.rowid IN"
        " (SELECT id FROM documents WHERE session_id = :session_id AND id >= :from) LIMIT 1"
    ),
    "postgresql": text(
        "SELECT 1 FROM documents WHERE session_id = :session_id AND id >= :from AND words @@ CAST(:query AS tsquery) LIMIT 1"
    ),
}

NEWEST = 2**62


def add(connection: Connection, session_id: str, words: Sequence[str], facets: Sequence[str]) -> None:
    """``facets``: what a search narrows by without looking at sessions (`words.facet`)."""
    if words:
        dialect = connection.dialect.name
        held = " ".join((*words, *facets)) if dialect == "sqlite" else [*words, *facets]
        connection.execute(INSERT[dialect], {"session_id": session_id, "words": held})


def to_query(connection: Connection, q: str, facets: Sequence[str]) -> str | None:
    """The database's own query for all words of ``q`` (at most `QUERY_WORDS`) and ``facets``; None where ``q`` holds no word."""
    words = words_of(q)[:QUERY_WORDS]
    quote, conjunction = ('"', " AND ") if connection.dialect.name == "sqlite" else ("'", " & ")
    return conjunction.join(f"{quote}{word}{quote}" for word in (*words, *facets)) if words else None


def matches(connection: Connection, query: str, before: int | None) -> Iterator[tuple[int, str]]:
    """(document, session) of the documents that hold all words, the newest first, older than ``before``."""
    if connection.dialect.name == "sqlite":
        yield from _chunks(connection, MATCH, query, before or NEWEST, CHUNK)
        return
    at = before or (connection.execute(text("SELECT max(id) FROM documents")).scalar() or 0) + 1
    while at > 0:
        rows = connection.execute(MATCH_NEAR, {"query": query, "before": at, "from": at - NEAR, "limit": CHUNK}).all()
        yield from ((row.id, row.session_id) for row in rows)
        if len(rows) < CHUNK:
            break
        at = rows[-1].id
    yield from _chunks(connection, MATCH_FAR, query, at - NEAR, FAR_CHUNK)


def _chunks(connection: Connection, statement: TextClause, query: str, before: int, size: int) -> Iterator[tuple[int, str]]:
    rows: Sequence[Any] = ()
    while before > 0 and (not rows or len(rows) == size):
        rows = connection.execute(statement, {"query": query, "before": before, "limit": size}).all()
        yield from ((row.id, row.session_id) for row in rows)
        if not rows:
            return
        before = rows[-1].id


def has_newer(connection: Connection, query: str, session_id: str, start: int) -> bool:
    """Whether ``session_id`` has a match that is not older than document ``start``."""
    values = {"query": query, "session_id": session_id, "from": start}
    return connection.execute(NEWER[connection.dialect.name], values).first() is not None
