"""The tables of version 1 as its migration created them. Databases in use have them, so this text is never changed."""

from __future__ import annotations

from sqlalchemy import Connection

TABLES = """
CREATE TABLE sessions (
    id {id} NOT NULL PRIMARY KEY,
    backend TEXT NOT NULL,
    model TEXT,
    workdir TEXT NOT NULL,
    title TEXT,
    status TEXT NOT NULL,
    tags TEXT NOT NULL,
    metadata TEXT NOT NULL,
    options TEXT NOT NULL,
    parent_id TEXT,
    cli_session_id TEXT,
    needs_rebuild BOOLEAN NOT NULL,
    owner TEXT,
    running_turn INTEGER,
    turn_count INTEGER NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    cost_usd DOUBLE PRECISION,
    error TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX sessions_by_update ON sessions (updated_at, id);
CREATE INDEX sessions_by_backend ON sessions (backend, updated_at, id);
CREATE INDEX sessions_by_status ON sessions (status, updated_at, id);
CREATE INDEX sessions_by_workdir ON sessions (workdir, updated_at, id);

CREATE TABLE session_tags (
    session_id {id} NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (session_id, tag)
);
CREATE INDEX session_tags_by_tag ON session_tags (tag, updated_at, session_id);

CREATE TABLE turns (
    session_id {id} NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    status TEXT NOT NULL,
    prompt TEXT NOT NULL,
    output TEXT NOT NULL,
    model TEXT,
    failure TEXT,
    error TEXT,
    exit_code INTEGER,
    started_at BIGINT NOT NULL,
    duration_ms BIGINT,
    input_tokens BIGINT,
    output_tokens BIGINT,
    cached_tokens BIGINT,
    reasoning_tokens BIGINT,
    cache_write_tokens BIGINT,
    cost_usd DOUBLE PRECISION,
    request_id TEXT NOT NULL,
    is_inherited BOOLEAN NOT NULL,
    PRIMARY KEY (session_id, number)
);

CREATE TABLE documents (
    id {growing_id},
    session_id {id} NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    words {words} NOT NULL
);
CREATE INDEX documents_by_session ON documents (session_id, id);

CREATE TABLE owners (
    id TEXT NOT NULL PRIMARY KEY,
    place TEXT NOT NULL,
    pid INTEGER NOT NULL,
    process_start TEXT NOT NULL,
    seen_at DOUBLE PRECISION NOT NULL
);

CREATE TABLE totals (
    id INTEGER NOT NULL PRIMARY KEY,
    sessions BIGINT NOT NULL
);
INSERT INTO totals (id, sessions) VALUES (1, 0);
"""

# `words` is space-separated and holds nothing but word characters (services.store.tokenizer), so the plainest tokenizer splits
# it as it is meant. No positions are kept: a search is for documents that hold all words.
SQLITE_SEARCH = (
    """CREATE VIRTUAL TABLE documents_words USING fts5(
        words, content='documents', content_rowid='id', detail=none, columnsize=0, tokenize="ascii tokenchars '_'"
    )""",
    """CREATE TRIGGER documents_inserted AFTER INSERT ON documents BEGIN
        INSERT INTO documents_words (rowid, words) VALUES (new.id, new.words);
    END""",
    """CREATE TRIGGER documents_deleted AFTER DELETE ON documents BEGIN
        INSERT INTO documents_words (documents_words, rowid, words) VALUES ('delete', old.id, old.words);
    END""",
)
POSTGRES_SEARCH = ("CREATE INDEX documents_words ON documents USING gin (words)",)

SQLITE_TYPES = {"id": "TEXT", "growing_id": "INTEGER PRIMARY KEY AUTOINCREMENT", "words": "TEXT"}
POSTGRES_TYPES = {"id": 'TEXT COLLATE "C"', "growing_id": "BIGSERIAL PRIMARY KEY", "words": "TSVECTOR"}


def create(connection: Connection) -> None:
    is_sqlite = connection.dialect.name == "sqlite"
    tables = TABLES.format_map(SQLITE_TYPES if is_sqlite else POSTGRES_TYPES)
    for statement in (*tables.split(";"), *(SQLITE_SEARCH if is_sqlite else POSTGRES_SEARCH)):
        if statement.strip():
            connection.exec_driver_sql(statement)
    connection.exec_driver_sql("CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY)")
    connection.exec_driver_sql("INSERT INTO schema_version (version) VALUES (1)")
