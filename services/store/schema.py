"""The tables, as created in an empty database. Older databases are upgraded by steps in `migrations`; a test compares the two
schemas.

Times are microseconds since the epoch (UTC). Ids are lower-case UUIDs, compared byte by byte.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    insert,
)
from sqlalchemy.types import UserDefinedType

from services.usage import Usage


class SearchVector(UserDefinedType[str]):
    """PostgreSQL's ``tsvector``. SQLAlchemy's own would load the dialect, a twentieth of the start-up time, also for SQLite."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "TSVECTOR"


Id = Text().with_variant(Text(collation="C"), "postgresql")

USAGE = Usage.__struct_fields__
"""Columns of token counts, named as the fields of `Usage`."""


def _session_id(*, primary_key: bool = False) -> Column[str]:
    return Column("session_id", Id, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False, primary_key=primary_key)


metadata = MetaData()

sessions = Table(
    "sessions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("backend", Text, nullable=False),
    Column("model", Text),
    Column("workdir", Text, nullable=False),
    Column("title", Text),
    Column("status", Text, nullable=False),
    Column("tags", Text, nullable=False),  # JSON: a list; `session_tags` has them for filters
    Column("metadata", Text, nullable=False),  # JSON: an object of strings
    Column("options", Text, nullable=False),  # JSON: options that later turns inherit
    Column("parent_id", Text),
    Column("cli_session_id", Text),
    Column("needs_rebuild", Boolean, nullable=False),
    Column("owner", Text),  # of the running turn
    Column("running_turn", Integer),
    Column("turn_count", Integer, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in USAGE),
    Column("cost_usd", Double),
    Column("error", Text),  # of the last turn
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("sessions_by_update", "updated_at", "id"),
    Index("sessions_by_backend", "backend", "updated_at", "id"),
    Index("sessions_by_status", "status", "updated_at", "id"),
    Index("sessions_by_workdir", "workdir", "updated_at", "id"),
)

# `updated_at` is the session's, so a page of one tag is read from one index, however many sessions have the tag.
session_tags = Table(
    "session_tags",
    metadata,
    _session_id(primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("updated_at", BigInteger, nullable=False),
    Index("session_tags_by_tag", "tag", "updated_at", "session_id"),
)

turns = Table(
    "turns",
    metadata,
    _session_id(primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("status", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("output", Text, nullable=False),
    Column("model", Text),
    Column("failure", Text),
    Column("error", Text),
    Column("exit_code", Integer),
    Column("started_at", BigInteger, nullable=False),
    Column("duration_ms", BigInteger),
    *(Column(name, BigInteger) for name in USAGE),  # NULL: the CLI did not report them, or session.store_token_usage is off
    Column("cost_usd", Double),
    Column("request_id", Text, nullable=False),
    Column("is_inherited", Boolean, nullable=False),  # copied from the session that this one was forked from
)

# Documents of the full-text search: one for a session's title and tags, one for every turn. Ids only increase, so the newest
# match has the largest id. The index on words, and the type of `words`, depend on the database.
documents = Table(
    "documents",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    _session_id(),
    Column("words", Text().with_variant(SearchVector(), "postgresql"), nullable=False),
    Index("documents_by_session", "session_id", "id"),
    sqlite_autoincrement=True,
)

# `words` contains only word characters and spaces (services.store.tokenizer), so the simplest tokenizer splits it correctly.
# Positions are not stored: a search matches documents that contain all words.
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
POSTGRESQL_SEARCH = ("CREATE INDEX documents_words ON documents USING gin (words)",)

# Processes that run turns; see `leases`.
owners = Table(
    "owners",
    metadata,
    Column("id", Text, primary_key=True),
    Column("place", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_start", Text, nullable=False),
    Column("seen_at", Double, nullable=False),  # seconds, on the database's clock
)

# One row: the number of sessions. `count(*)` would read the whole table.
totals = Table("totals", metadata, Column("id", Integer, primary_key=True), Column("sessions", BigInteger, nullable=False))


def create_tables(connection: Connection) -> None:
    metadata.create_all(connection, checkfirst=False)
    for statement in SQLITE_SEARCH if connection.dialect.name == "sqlite" else POSTGRESQL_SEARCH:
        connection.exec_driver_sql(statement)
    connection.execute(insert(totals).values(id=1, sessions=0))
