"""Finds stored runs: by id, by idempotency key, by session. Statements within a transaction of `RunStore`."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, Row, Text, bindparam, select

from services.access.scope import Scope
from services.errors import KeyReused, NotFound
from services.runs import queue
from services.runs.record import LIVE, IdempotencyKey, NewRun, Run
from services.runs.rows import WHOLE, to_run
from services.store.schema import runs

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

BY_KEY = select(*WHOLE).where(runs.c.owner == bindparam("of_owner"), runs.c.idempotency_key == bindparam("key"))
BY_ID = select(*WHOLE).where(runs.c.id == bindparam("of_run"))
UNFINISHED = (
    select(runs.c.id)
    .where(
        runs.c.session_id == bindparam("of_session"),
        runs.c.status.in_(("queued", *LIVE)),
        runs.c.id != bindparam("but", type_=Text),
    )
    .limit(1)
)


def of_same_key(connection: Connection, new: NewRun) -> Run | None:
    return of_key(connection, new.owner, new.idempotency) if new.idempotency else None


def of_key(connection: Connection, owner: str, key: IdempotencyKey) -> Run | None:
    row = connection.execute(BY_KEY, {"of_owner": owner, "key": key.key}).first()
    if row is None:
        return None
    if row.body_hash != key.body_hash:
        raise KeyReused
    return _to_run(connection, row)


def find(connection: Connection, id: str, scope: Scope, *, locks: bool = False) -> Run:
    statement = BY_ID.where(scope.covers(runs.c.owner))
    row = connection.execute(statement.with_for_update() if locks else statement, {"of_run": id}).first() if ID.fullmatch(id) else None
    if row is None:
        raise no_run(id)
    return _to_run(connection, row)


def no_run(id: str) -> NotFound:
    return NotFound(f"there is no run {id[:64]!r}", field="run_id")


def read(connection: Connection, id: str) -> Run:
    return _to_run(connection, connection.execute(BY_ID, {"of_run": id}).one())


def _to_run(connection: Connection, row: Row[Any]) -> Run:
    return to_run(row, position=queue.position(connection, row))


def is_unfinished(connection: Connection, session_id: str, but: str | None) -> bool:
    return connection.execute(UNFINISHED, {"of_session": session_id, "but": but or ""}).first() is not None
