"""Which process runs a turn, and whether it is still there: so that a server killed in the middle leaves no session stuck.

Where the owner can be looked at (same boot, same process namespace) the process table tells at once; an owner elsewhere
(another container or machine on the same database) must have been seen within ``LEASE_S`` on the database's own clock.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Update, bindparam, delete, literal_column, select, update
from sqlalchemy.sql.elements import ColumnElement

from services.store.schema import owners, sessions

LEASE_S = 120.0
BEAT_S = 30.0
"""How often a process that runs turns says that it is there."""


@dataclass(frozen=True, slots=True)
class Owner:
    id: str
    place: str
    pid: int
    process_start: str


def this_process() -> Owner:
    pid = os.getpid()
    return Owner(str(uuid.uuid4()), _place(), pid, _process_start(pid) or "")


def sign_in(connection: Connection, owner: Owner) -> None:
    """Say that ``owner`` is there, in the transaction that gives it something."""
    seen = connection.execute(_seen_now(connection.dialect.name), {"owner": owner.id})
    if not seen.rowcount:
        row = {"id": owner.id, "place": owner.place, "pid": owner.pid, "process_start": owner.process_start}
        connection.execute(owners.insert().values(**row, seen_at=_now(connection.dialect.name)))


@cache
def _seen_now(dialect: str) -> Update:
    return update(owners).where(owners.c.id == bindparam("owner")).values(seen_at=_now(dialect))


def dead_among(connection: Connection, ids: set[str], us: Owner) -> set[str]:
    """Those of ``ids`` that are no more. One that never signed in is none of ours, and dead."""
    columns = (owners, (_now(connection.dialect.name) - owners.c.seen_at).label("unseen_s"))
    rows = {row.id: row for row in connection.execute(select(*columns).where(owners.c.id.in_(ids)))}
    return {id for id in ids - {us.id} if id not in rows or _is_dead(rows[id], us)}


def forget_dead(connection: Connection, us: Owner) -> None:
    """Remove the rows of dead owners that hold nothing any more."""
    holding = select(sessions.c.owner).where(sessions.c.status == "running", sessions.c.owner.is_not(None))
    idle = set(connection.execute(select(owners.c.id).where(owners.c.id.not_in(holding))).scalars())
    if dead := dead_among(connection, idle, us):
        connection.execute(delete(owners).where(owners.c.id.in_(dead)))


def _is_dead(row: Row[Any], us: Owner) -> bool:
    if row.place == us.place:
        return bool(row.process_start != (_process_start(row.pid) or "gone"))
    return bool(row.unseen_s > LEASE_S)


def _now(dialect: str) -> ColumnElement[float]:
    """The database's clock, in seconds: the servers' own may differ."""
    if dialect == "sqlite":
        return literal_column("((julianday('now') - 2440587.5) * 86400.0)")
    return literal_column("CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)")


def _place() -> str:
    """Where process ids mean the same: this boot of this machine, and this namespace of it."""
    boot = _read("/proc/sys/kernel/random/boot_id") or socket.gethostname()
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{boot} {namespace}".strip()


def _process_start(pid: int) -> str | None:
    """When the process started, in the system's own ticks: a process id is used again, together with its start it is not.

    None: there is no such process. A zombie has ended.
    """
    stat = _read(f"/proc/{pid}/stat")
    if stat is None:
        return _started_without_proc(pid)
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _started_without_proc(pid: int) -> str | None:
    if os.path.exists("/proc/self/stat"):
        return None
    try:  # no /proc (macOS): whether the id is in use is all there is to know
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
