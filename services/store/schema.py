"""The tables, as created in an empty database. Older databases are upgraded by steps in `migrations`; a test compares the two
schemas.

Times are microseconds since the epoch (UTC). Ids are compared byte by byte; those of sessions are lower-case UUIDs.
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
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
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


def _run_id(*, primary_key: bool = False) -> Column[str]:
    return Column("run_id", Id, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, primary_key=primary_key)


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
    Column("worker", Text),  # the process (`owners.id`) that runs the turn
    Column("running_turn", Integer),
    Column("turn_count", Integer, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in USAGE),
    Column("cost_usd", Double),
    Column("error", Text),  # of the last turn
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("owner", Id, nullable=False, server_default="local"),  # the caller that it belongs to
    Index("sessions_by_update", "updated_at", "id"),
    Index("sessions_of_owner", "owner", "id"),
    Index("sessions_by_owner", "owner", "updated_at", "id", "backend", "status", "workdir"),
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
    Column("owner", Id, nullable=False, server_default="local"),  # the session's
    Index("session_tags_by_tag", "tag", "updated_at", "session_id"),
    Index("session_tags_by_owner", "owner", "tag", "updated_at", "session_id"),
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

# `owner` is the caller that a run belongs to, `worker` the process (`owners.id`) that executes it, set only while one does.
# Columns that may be large are last: SQLite reads a row from its beginning.
runs = Table(
    "runs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("is_background", Boolean, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("turn", Double),  # place in the queue (services.runs.queue); NULL: a foreground run, which was never in it
    Column("worker", Text),
    Column("attempt", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("is_cancel_requested", Boolean, nullable=False),
    Column("are_events_expired", Boolean, nullable=False),
    Column("session_id", Id),  # no foreign key: a run outlives its session
    Column("cli_session_id", Text),
    Column("backend", Text),
    Column("model", Text),
    Column("last_tool", Text),
    Column("timeout_s", Double),
    Column("request_id", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("idempotency_key", Text),
    Column("body_hash", Text),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("terminal_first", BigInteger),
    Column("terminal_count", Integer),
    Column("answer_status", Integer),
    Column("answer_headers", Text),  # JSON: a list of pairs
    Column("webhooks", Text),  # JSON: a list of objects with url, events, secret
    Column("title", Text),
    Column("tags", Text, nullable=False),  # JSON: a list
    Column("metadata", Text, nullable=False),  # JSON: an object of strings
    Column("terminal_data", LargeBinary),
    Column("result", LargeBinary),
    Column("answer_body", LargeBinary),
    Index("runs_by_turn", "status", "priority", "turn", "created_at", "id", "backend"),
    Index("runs_by_share", "owner", "status", "priority", "turn"),
    Index("runs_by_creation", "created_at", "id", "status", "kind", "session_id"),
    Index("runs_by_owner", "owner", "created_at", "id", "status", "kind", "session_id"),
    Index("runs_by_owner_status", "owner", "status", "created_at", "id"),
    Index("runs_by_end", "are_events_expired", "ended_at"),
)

# What a worker needs to start a run, with its images: apart, since SQLite writes a whole row whenever one column changes.
run_requests = Table("run_requests", metadata, _run_id(primary_key=True), Column("data", LargeBinary, nullable=False))

# As text: SQLAlchemy's options for partial indexes would load both dialects.
PARTIAL_INDEXES = (
    "CREATE UNIQUE INDEX runs_by_key ON runs (owner, idempotency_key) WHERE idempotency_key IS NOT NULL",
    "CREATE INDEX runs_by_session ON runs (session_id, status) WHERE session_id IS NOT NULL",
    "CREATE INDEX runs_by_worker ON runs (worker) WHERE worker IS NOT NULL",
    "CREATE INDEX runs_by_backend ON runs (status, backend) WHERE status = 'queued'",
)

# `first` is the number of the chunk's first event. The terminal event is in the row of the run.
run_events = Table(
    "run_events",
    metadata,
    _run_id(primary_key=True),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    _run_id(),
    Column("webhook", Integer, nullable=False),  # its place in the run's list
    Column("type", Text, nullable=False),
    Column("host", Text, nullable=False),  # of the webhook's URL: a process sends few requests to one host at the same time
    Column("created_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),  # begun so far
    Column("due_at", BigInteger, nullable=False),
    Column("claimed_until", BigInteger),
    Index("webhook_deliveries_by_due", "due_at"),
    Index("webhook_deliveries_by_run", "run_id"),  # a run's deletion deletes its deliveries
)

# Keys that were made at run time. A revoked one stays, without its digests, so that its name is not given to another by mistake.
api_keys = Table(
    "api_keys",
    metadata,
    Column("name", Id, primary_key=True),
    Column("digests", Text, nullable=False),  # JSON: a list of SHA-256 in hex
    Column("rights", Text, nullable=False),  # JSON: an object
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
)
key_uses = Table("key_uses", metadata, Column("name", Id, primary_key=True), Column("last_used_at", BigInteger, nullable=False))

COUNTS = ("input_tokens", "output_tokens", "cached_tokens")
"""Columns of the token counts in the usage tables, named as the fields of `Usage`."""

# The ledger: one row per execution of a CLI. `usage_days` has its sums per UTC day, written in the same transaction.
usage_runs = Table(
    "usage_runs",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("ended_at", BigInteger, nullable=False),
    Column("owner", Id, nullable=False),
    Column("backend", Text, nullable=False),
    Column("model", Text, nullable=False),  # empty: not known
    Column("run_id", Text, nullable=False),
    Column("is_failure", Boolean, nullable=False),
    Column("is_fallback", Boolean, nullable=False),  # another attempt of a run that is already counted
    *(Column(name, BigInteger, nullable=False) for name in COUNTS),
    Column("cost_usd", Double, nullable=False),
    Column("is_cost_estimated", Boolean, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    Index("usage_runs_by_end", "ended_at"),
    Index("usage_runs_by_owner", "owner", "ended_at"),
    sqlite_autoincrement=True,
)
usage_days = Table(
    "usage_days",
    metadata,
    Column("day", Integer, nullable=False),  # days since the epoch
    Column("owner", Id, nullable=False),
    Column("backend", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("runs", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("fallbacks", BigInteger, nullable=False),  # of the runs: how many are another attempt
    Column("estimates", BigInteger, nullable=False),  # of the runs: how many have an estimated cost
    *(Column(name, BigInteger, nullable=False) for name in COUNTS),
    Column("cost_usd", Double, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("owner", "day", "backend", "model"),
    Index("usage_days_by_day", "day"),
)

# Runs in progress of keys with a limit or a budget: their slots are counted over all processes.
slots = Table(
    "slots",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Id, nullable=False),
    Column("worker", Text, nullable=False),
    Column("counts_as_run", Boolean, nullable=False),
    Index("slots_by_owner", "owner"),
    Index("slots_by_worker", "worker"),
)

# What the CLIs report of their subscription's windows.
plan_windows = Table(
    "plan_windows",
    metadata,
    Column("backend", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("used", Double),  # 0 to 1
    Column("resets_at", BigInteger),
    Column("status", Text),
    Column("observed_at", BigInteger, nullable=False),
)

# Processes that run turns or execute runs; see `leases`.
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
    search = SQLITE_SEARCH if connection.dialect.name == "sqlite" else POSTGRESQL_SEARCH
    for statement in (*PARTIAL_INDEXES, *search):
        connection.exec_driver_sql(statement)
    connection.execute(insert(totals).values(id=1, sessions=0))
