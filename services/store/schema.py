"""The tables as they are now, for SQLAlchemy. What makes them is in `migrations`; a test holds the two together.

Times are microseconds since the epoch (UTC). Ids are lower-case UUIDs, compared byte by byte.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, MetaData, PrimaryKeyConstraint, Table, Text

metadata = MetaData()

sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("backend", Text, nullable=False),
    Column("model", Text),
    Column("workdir", Text, nullable=False),
    Column("title", Text),
    Column("status", Text, nullable=False),
    Column("tags", Text, nullable=False),  # JSON: a list; `session_tags` has them for filters
    Column("metadata", Text, nullable=False),  # JSON: an object of strings
    Column("options", Text, nullable=False),  # JSON: what later turns use unless they say otherwise
    Column("parent_id", Text),
    Column("cli_session_id", Text),
    Column("needs_rebuild", Boolean, nullable=False),
    Column("owner", Text),  # of the running turn
    Column("running_turn", Integer),
    Column("turn_count", Integer, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("cost_usd", Double),
    Column("error", Text),  # of the last turn
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

# `updated_at` is that of the session: with it, a page of one tag is read from one index, however many sessions have the tag.
session_tags = Table(
    "session_tags",
    metadata,
    Column("session_id", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("session_id", "tag"),
)

turns = Table(
    "turns",
    metadata,
    Column("session_id", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("output", Text, nullable=False),
    Column("model", Text),
    Column("failure", Text),
    Column("error", Text),
    Column("exit_code", Integer),
    Column("started_at", BigInteger, nullable=False),
    Column("duration_ms", BigInteger),
    Column("input_tokens", BigInteger),  # NULL: the CLI did not tell, or session.store_token_usage is off
    Column("output_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("cost_usd", Double),
    Column("request_id", Text, nullable=False),
    Column("is_inherited", Boolean, nullable=False),  # copied from the session that this one was forked from
    PrimaryKeyConstraint("session_id", "number"),
)

# What a search looks through: one row for a session's title and tags, one for every turn. Ids only grow, so the newest
# match is the one with the largest. The words' own index differs between databases, and so does the type of `words`.
documents = Table(
    "documents",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("session_id", Text, nullable=False),
    Column("words", Text, nullable=False),
)

# Processes that run turns; see `owners`.
owners = Table(
    "owners",
    metadata,
    Column("id", Text, primary_key=True),
    Column("place", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_start", Text, nullable=False),
    Column("seen_at", Double, nullable=False),  # seconds, on the database's clock
)

# One row: how many sessions there are. `count(*)` reads the whole table.
totals = Table("totals", metadata, Column("id", Integer, primary_key=True), Column("sessions", BigInteger, nullable=False))
