"""The step from version 1 to version 2: the tables of runs. Databases in use have them, so this text is never changed."""

from __future__ import annotations

from sqlalchemy import Connection

STATEMENTS = (
    """CREATE TABLE runs (
        id {id} NOT NULL PRIMARY KEY,
        kind TEXT NOT NULL,
        owner TEXT NOT NULL,
        status TEXT NOT NULL,
        is_background BOOLEAN NOT NULL,
        priority INTEGER NOT NULL,
        turn DOUBLE PRECISION,
        worker TEXT,
        attempt INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        is_cancel_requested BOOLEAN NOT NULL,
        are_events_expired BOOLEAN NOT NULL,
        session_id {id},
        cli_session_id TEXT,
        backend TEXT,
        model TEXT,
        last_tool TEXT,
        timeout_s DOUBLE PRECISION,
        request_id TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        started_at BIGINT,
        ended_at BIGINT,
        idempotency_key TEXT,
        body_hash TEXT,
        error_code TEXT,
        error_message TEXT,
        terminal_first BIGINT,
        terminal_count INTEGER,
        answer_status INTEGER,
        answer_headers TEXT,
        webhooks TEXT,
        title TEXT,
        tags TEXT NOT NULL,
        metadata TEXT NOT NULL,
        terminal_data {bytes},
        result {bytes},
        answer_body {bytes}
    )""",
    """CREATE TABLE run_requests (
        run_id {id} NOT NULL PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
        data {bytes} NOT NULL
    )""",
    "CREATE UNIQUE INDEX runs_by_key ON runs (owner, idempotency_key) WHERE idempotency_key IS NOT NULL",
    "CREATE INDEX runs_by_turn ON runs (status, priority, turn, created_at, id, backend)",
    "CREATE INDEX runs_by_share ON runs (owner, status, priority, turn)",
    "CREATE INDEX runs_by_creation ON runs (created_at, id, status, kind, session_id)",
    "CREATE INDEX runs_by_owner ON runs (owner, created_at, id, status, kind, session_id)",
    "CREATE INDEX runs_by_owner_status ON runs (owner, status, created_at, id)",
    "CREATE INDEX runs_by_session ON runs (session_id, status) WHERE session_id IS NOT NULL",
    "CREATE INDEX runs_by_worker ON runs (worker) WHERE worker IS NOT NULL",
    "CREATE INDEX runs_by_backend ON runs (status, backend) WHERE status = 'queued'",
    "CREATE INDEX runs_by_end ON runs (are_events_expired, ended_at)",
    """CREATE TABLE run_events (
        run_id {id} NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        first BIGINT NOT NULL,
        count INTEGER NOT NULL,
        data {bytes} NOT NULL,
        PRIMARY KEY (run_id, first)
    )""",
    """CREATE TABLE webhook_deliveries (
        id TEXT NOT NULL PRIMARY KEY,
        run_id {id} NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        webhook INTEGER NOT NULL,
        type TEXT NOT NULL,
        host TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        attempts INTEGER NOT NULL,
        due_at BIGINT NOT NULL,
        claimed_until BIGINT
    )""",
    "CREATE INDEX webhook_deliveries_by_due ON webhook_deliveries (due_at)",
    "CREATE INDEX webhook_deliveries_by_run ON webhook_deliveries (run_id)",
)

TYPES = {
    "sqlite": {"id": "TEXT", "bytes": "BLOB"},
    "postgresql": {"id": 'TEXT COLLATE "C"', "bytes": "BYTEA"},
}


def upgrade(connection: Connection) -> None:
    types = TYPES[connection.dialect.name]
    for statement in STATEMENTS:
        connection.exec_driver_sql(statement.format_map(types))
