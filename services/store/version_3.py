"""The step from version 2 to version 3: owners of sessions, API keys, usage and plan windows. Databases in use have them, so this text
is never changed."""

from __future__ import annotations

from sqlalchemy import Connection

from services.store.version_2 import TYPES

STATEMENTS = (
    "ALTER TABLE sessions RENAME COLUMN owner TO worker",
    "ALTER TABLE sessions ADD COLUMN owner {id} NOT NULL DEFAULT 'local'",
    "ALTER TABLE session_tags ADD COLUMN owner {id} NOT NULL DEFAULT 'local'",
    "CREATE INDEX sessions_of_owner ON sessions (owner, id)",
    "CREATE INDEX sessions_by_owner ON sessions (owner, updated_at, id, backend, status, workdir)",
    "CREATE INDEX session_tags_by_owner ON session_tags (owner, tag, updated_at, session_id)",
    """CREATE TABLE api_keys (
        name {id} NOT NULL PRIMARY KEY,
        digests TEXT NOT NULL,
        rights TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        expires_at BIGINT,
        revoked_at BIGINT
    )""",
    """CREATE TABLE key_uses (
        name {id} NOT NULL PRIMARY KEY,
        last_used_at BIGINT NOT NULL
    )""",
    """CREATE TABLE usage_runs (
        id {serial},
        ended_at BIGINT NOT NULL,
        owner {id} NOT NULL,
        backend TEXT NOT NULL,
        model TEXT NOT NULL,
        run_id TEXT NOT NULL,
        is_failure BOOLEAN NOT NULL,
        is_fallback BOOLEAN NOT NULL,
        input_tokens BIGINT NOT NULL,
        output_tokens BIGINT NOT NULL,
        cached_tokens BIGINT NOT NULL,
        cost_usd DOUBLE PRECISION NOT NULL,
        is_cost_estimated BOOLEAN NOT NULL,
        duration_ms BIGINT NOT NULL
    )""",
    "CREATE INDEX usage_runs_by_end ON usage_runs (ended_at)",
    "CREATE INDEX usage_runs_by_owner ON usage_runs (owner, ended_at)",
    """CREATE TABLE usage_days (
        day INTEGER NOT NULL,
        owner {id} NOT NULL,
        backend TEXT NOT NULL,
        model TEXT NOT NULL,
        runs BIGINT NOT NULL,
        failures BIGINT NOT NULL,
        fallbacks BIGINT NOT NULL,
        estimates BIGINT NOT NULL,
        input_tokens BIGINT NOT NULL,
        output_tokens BIGINT NOT NULL,
        cached_tokens BIGINT NOT NULL,
        cost_usd DOUBLE PRECISION NOT NULL,
        duration_ms BIGINT NOT NULL,
        PRIMARY KEY (owner, day, backend, model)
    )""",
    "CREATE INDEX usage_days_by_day ON usage_days (day)",
    """CREATE TABLE slots (
        id TEXT NOT NULL PRIMARY KEY,
        owner {id} NOT NULL,
        worker TEXT NOT NULL,
        counts_as_run BOOLEAN NOT NULL
    )""",
    "CREATE INDEX slots_by_owner ON slots (owner)",
    "CREATE INDEX slots_by_worker ON slots (worker)",
    """CREATE TABLE plan_windows (
        backend TEXT NOT NULL,
        name TEXT NOT NULL,
        used DOUBLE PRECISION,
        resets_at BIGINT,
        status TEXT,
        observed_at BIGINT NOT NULL,
        PRIMARY KEY (backend, name)
    )""",
)

SERIAL = {"sqlite": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", "postgresql": "BIGSERIAL NOT NULL PRIMARY KEY"}


def upgrade(connection: Connection) -> None:
    dialect = connection.dialect.name
    types = {**TYPES[dialect], "serial": SERIAL[dialect]}
    for statement in STATEMENTS:
        connection.exec_driver_sql(statement.format_map(types))
