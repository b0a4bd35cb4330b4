"""The full-text index: FTS5 on SQLite, a GIN index on a tsvector on PostgreSQL (both part of Debian's packages).

Matches are read newest first, only as many as requested. They are not ranked or sorted, so a word that every session contains
costs no more than a rare one. Documents are ordered by id, which only increases.
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

# PostgreSQL's GIN index is unordered. Scanning the newest documents is fast for a frequent word; reading the index and sorting its
# matches is fast for a rare one. The planner does not know how rare a word is (a rare one took 0.9 s among a million sessions), so
# the choice is explicit: scan the newest documents first.
MATCH_NEAR = text(
    "SELECT id, session_id FROM documents WHERE words @@ CAST(:query AS tsquery) AND id < :before AND id >= :from"
    " ORDER BY id DESC LIMIT :limit"
)
MATCH_FAR = text(  # "+ 0" prevents the planner from scanning the primary key
    "SELECT id, session_id FROM documents WHERE words @@ CAST(:query AS tsquery) AND id < :before ORDER BY id + 0 DESC LIMIT :limit"
)
NEAR = 4_096
"""Documents per scan; if fewer than a chunk of them match, the rest is read from the index."""
FAR_CHUNK = 512

# Whether a session has a match at or after the start of a page, so an earlier page has listed it.
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


def add(connection: Connection, session_id: str, words: Sequence[str], filter_terms: Sequence[str]) -> None:
    """``filter_terms``: filter terms that restrict a search without reading sessions (`services.store.tokenizer.filter_term`)."""
    if words:
        dialect = connection.dialect.name
        held = " ".join((*words, *filter_terms)) if dialect == "sqlite" else [*words, *filter_terms]
        connection.execute(INSERT[dialect], {"session_id": session_id, "words": held})


def to_query(connection: Connection, q: str, filter_terms: Sequence[str]) -> str | None:
    """The database-specific query for all words of ``q`` (at most `QUERY_WORDS`) and ``filter_terms``; None if ``q`` contains no word."""
    words = words_of(q)[:QUERY_WORDS]
    quote, conjunction = ('"', " AND ") if connection.dialect.name == "sqlite" else ("'", " & ")
    return conjunction.join(f"{quote}{word}{quote}" for word in (*words, *filter_terms)) if words else None


def matches(connection: Connection, query: str, before: int | None) -> Iterator[tuple[int, str]]:
    """(document, session) of the documents that contain all words and are older than ``before``, newest first."""
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
    """Whether ``session_id`` has a match in document ``start`` or a later one."""
    values = {"query": query, "session_id": session_id, "from": start}
    return connection.execute(NEWER[connection.dialect.name], values).first() is not None
