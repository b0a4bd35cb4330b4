"""What `bench.store` puts into the stores: the same sessions into each, directly into the tables, because that is faster."""

from __future__ import annotations

import json
import os
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, insert, text, update

from services.store import schema
from services.store.records import Session
from services.store.rows import from_session
from services.store.sessions import SessionStore
from services.store.tokenizer import filter_terms, indexed_words

VOCABULARY = [
    f"{a}{b}" for a in ("auth", "cache", "deploy", "index", "login", "parse", "queue", "schema", "test", "user") for b in range(500)
]
BACKENDS = ["claude"] * 14 + ["codex"] * 5 + ["gemini"]
OWNERS = ["local", *(f"key-{number}" for number in range(99))]
START_US = 1_760_000_000_000_000
COMMON, RARE = "please", "zanzibar"
"""A word of every session, and of one in 10,000."""


def conversations(numbers: range) -> Iterator[tuple[Session, str, str]]:
    """(session, prompt, output), the oldest first, always the same."""
    for n in numbers:
        dice = random.Random(n)
        id = str(uuid.UUID(int=dice.getrandbits(128), version=4))
        prompt = f"{COMMON} {' '.join(dice.choices(VOCABULARY, k=12))} {RARE if n % 10_000 == 5_000 else ''}"
        output = " ".join(dice.choices(VOCABULARY, k=60))
        tags = ("all", *(["red"] if n % 10 == 0 else []), *(["rare"] if n % 1_000 == 500 else []))
        at = START_US + n * 1_000_000
        yield (
            Session(
                id=id,
                owner=OWNERS[n % len(OWNERS)],
                backend=dice.choice(BACKENDS),
                workdir=f"/projects/{n % 200}",
                title=f"Session {n}",
                status="failed" if n % 20 == 7 else "idle",
                tags=tags,
                turn_count=1,
                cli_session_id=id,
                created_at=at,
                updated_at=at,
            ),
            prompt,
            output,
        )


Rows = dict[str, list[dict[str, Any]]]


def rows_of(some: Sequence[tuple[Session, str, str]]) -> Rows:
    """The same as the store's own way in would write, by table."""
    return {
        "sessions": [{**from_session(session), "worker": None, "running_turn": None} for session, _, _ in some],
        "session_tags": [
            {"session_id": session.id, "tag": tag, "updated_at": session.updated_at, "owner": session.owner}
            for session, _, _ in some
            for tag in session.tags
        ],
        "turns": [
            {"session_id": session.id, "number": 1, "status": "finished", "prompt": prompt, "output": output, "exit_code": 0,
             "started_at": session.created_at, "duration_ms": 1000, "request_id": "r", "is_inherited": False}
            for session, prompt, output in some
        ],
        "documents": [
            {"session_id": session.id, "words": words_of_turn(session, prompt, output)} for session, prompt, output in some
        ],
    }  # fmt: skip


def words_of_turn(session: Session, prompt: str, output: str) -> list[str]:
    return [
        *indexed_words(session.title, " ".join(session.tags), prompt, output),
        *filter_terms(session.owner, session.backend, session.workdir),
    ]


def load(store: SessionStore, rows: Rows) -> None:
    """Many sessions at once. PostgreSQL gets them by COPY; its text index is made anew when all are there (`settle`)."""

    def work(connection: Connection) -> None:
        for name, some in rows.items():
            if connection.dialect.name == "sqlite":
                joined = [row | {"words": " ".join(row["words"])} for row in some] if name == "documents" else some
                connection.execute(insert(schema.metadata.tables[name]), joined)
            else:
                copy_in(connection, name, some)
        connection.execute(update(schema.totals).values(sessions=schema.totals.c.sessions + len(rows["sessions"])))

    store.database.write(work)


def copy_in(connection: Connection, name: str, rows: list[dict[str, Any]]) -> None:
    columns = list(rows[0])
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {name} ({', '.join(columns)}) FROM STDIN") as copy:
        for row in rows:
            row = row | {"words": " ".join(f"'{word}'" for word in row["words"])} if name == "documents" else row
            copy.write_row([row[column] for column in columns])


def settle(store: SessionStore, *statements: str) -> None:
    """Work that takes longer than the store lets a statement take."""

    def work(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            for statement in ("SET LOCAL statement_timeout = 0", "SET LOCAL maintenance_work_mem = '512MB'", *statements):
                connection.execute(text(statement))

    store.database.write(work)


class Folder:
    """One JSON file a session, as the Go program keeps them: a list reads and parses them all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, session: Session, prompt: str) -> None:
        fields = {**from_session(session), "tags": list(session.tags), "prompt": prompt}
        (self.path / f"{session.id}.json").write_text(json.dumps(fields, indent=2))

    def list(self, keep: Callable[[dict[str, object]], bool] = lambda _: True, offset: int = 0) -> list[dict[str, object]]:
        with os.scandir(self.path) as entries:
            found = [json.loads(Path(entry.path).read_bytes()) for entry in entries]
        kept = sorted(filter(keep, found), key=lambda session: session["updated_at"], reverse=True)
        return kept[offset : offset + 20]

    def find(self, prefix: str) -> str:
        return next(name for name in os.listdir(self.path) if name.startswith(prefix))


def load_all(stores: dict[str, SessionStore], files: Folder | None, numbers: range) -> None:
    taken = dict.fromkeys([*stores, "JSON files"], 0.0)
    todo = conversations(numbers)

    def timed(name: str, work: Callable[[], object]) -> None:
        begun = perf_counter()
        work()
        taken[name] += perf_counter() - begun

    for name, store in stores.items():
        timed(name, partial(settle, store, "DROP INDEX documents_words"))
    while some := list(islice(todo, 5_000)):
        rows = rows_of(some)
        for name, store in stores.items():
            timed(name, partial(load, store, rows))
        if files:
            timed("JSON files", lambda: [files.add(session, prompt) for session, prompt, _ in some])
    for name, store in stores.items():
        timed(name, partial(settle, store, "CREATE INDEX documents_words ON documents USING gin (words)", "ANALYZE"))
    told = ", ".join(f"{name} in {seconds:.0f} s" for name, seconds in taken.items() if seconds)
    print(f"\n{len(numbers):,} sessions loaded: {told}", flush=True)
