"""Leases: which process runs a turn or executes a run, and whether it is alive, so that a killed server leaves neither stuck as
running.

If the owner is local (same boot, same PID namespace), the process table shows whether it is alive. An owner elsewhere
(another container or machine on the same database) must have renewed its lease within ``LEASE_S`` by the database's clock.
A dead one is noticed after ``LEASE_S`` and at most ``BEAT_S`` more, which is how often the others look.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, TextClause, delete, literal_column, select, text
from sqlalchemy.sql.elements import ColumnElement

from services.store.schema import owners, runs, sessions

LEASE_S = 10.0
BEAT_S = 3.0
"""How often a process renews its lease."""


@dataclass(frozen=True, slots=True)
class Owner:
    id: str
    place: str
    pid: int
    process_start: str


def this_process() -> Owner:
    pid = os.getpid()
    return Owner(str(uuid.uuid4()), place(), pid, _process_start(pid) or "")


def sign_in(connection: Connection, owner: Owner) -> None:
    """Renew the lease of ``owner``, or create it. Called in each transaction that gives it a turn or a run."""
    connection.execute(_sign_in(connection.dialect.name), asdict(owner))


@cache
def _sign_in(dialect: str) -> TextClause:
    """One statement: on PostgreSQL two transactions of one process may be the first at the same time. As text, because SQLAlchemy's
    own form would load both dialects."""
    return text(
        f"INSERT INTO owners (id, place, pid, process_start, seen_at) VALUES (:id, :place, :pid, :process_start, {_now(dialect)}) "
        "ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at"
    )


def dead_among(connection: Connection, ids: set[str], us: Owner) -> set[str]:
    """The dead owners among ``ids``. An owner without a lease is dead."""
    columns = (owners, (_now(connection.dialect.name) - owners.c.seen_at).label("unseen_s"))
    rows = {row.id: row for row in connection.execute(select(*columns).where(owners.c.id.in_(ids)))}
    return {id for id in ids - {us.id} if id not in rows or _is_dead(rows[id], us)}


def forget_dead(connection: Connection, us: Owner) -> None:
    """Remove the leases of dead owners that own no session and execute no run."""
    of_sessions = select(sessions.c.worker).where(sessions.c.status == "running", sessions.c.worker.is_not(None))
    holding = of_sessions.union_all(select(runs.c.worker).where(runs.c.worker.is_not(None)))
    idle = set(connection.execute(select(owners.c.id).where(owners.c.id.not_in(holding))).scalars())
    if dead := dead_among(connection, idle, us):
        connection.execute(delete(owners).where(owners.c.id.in_(dead)))


def _is_dead(row: Row[Any], us: Owner) -> bool:
    if row.place == us.place:
        return bool(row.process_start != (_process_start(row.pid) or "gone"))
    return bool(row.unseen_s > LEASE_S)


def _now(dialect: str) -> ColumnElement[float]:
    """The database's clock in seconds: the servers' clocks may differ."""
    if dialect == "sqlite":
        return literal_column("((julianday('now') - 2440587.5) * 86400.0)")
    return literal_column("CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)")


def place() -> str:
    """The scope in which PIDs are comparable: this boot of this machine and this PID namespace."""
    boot = _read("/proc/sys/kernel/random/boot_id") or socket.gethostname()
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{boot} {namespace}".strip()


def _process_start(pid: int) -> str | None:
    """Start time of the process in clock ticks: PIDs are reused, but not with the same start time.

    None: no such process, or a zombie.
    """
    stat = _read(f"/proc/{pid}/stat")
    if stat is None:
        return _started_without_proc(pid)
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _started_without_proc(pid: int) -> str | None:
    if os.path.exists("/proc/self/stat"):
        return None
    try:  # no /proc (macOS): only whether the PID is in use is known
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
