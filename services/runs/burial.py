"""The runs of dead processes: statements within a transaction of `RunStore`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from dataclasses import replace

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import OperationalError

from services.runs import endings
from services.runs.record import LIVE, Chunk, Run, RunEnd, RunError
from services.runs.rows import WHOLE, to_run
from services.store import leases
from services.store.schema import run_events, runs

log = logging.getLogger("clinvk.runs")

WORKER_LOST = RunError(code="worker_lost", message="the process that executed this run has ended; how far the run came is not known")

IS_LIVE = runs.c.status.in_(LIVE)


def dead_workers(connection: Connection, us: leases.Owner) -> set[str]:
    """The dead processes that hold runs."""
    held = set(connection.execute(select(runs.c.worker).where(runs.c.worker.is_not(None)).distinct()).scalars())
    return leases.dead_among(connection, held, us) if held - {us.id} else set()


def bury(
    connection: Connection,
    dead: Set[str],
    now: int,
    terminal_of: Callable[[Run, int], Chunk],
    restarted_of: Callable[[Run, int], Chunk],
) -> list[Run]:
    """End the runs of dead processes, or put them back into the queue. See `RunStore.bury`.

    A run that this fails for is logged and left as it is, so that the others have their end.
    """
    # Locked before the log is read: what a process that is not dead after all commits meanwhile is then in it.
    held = select(*WHOLE).where(runs.c.worker.in_(dead), IS_LIVE).order_by(runs.c.id).with_for_update()
    buried = []
    for row in connection.execute(held).all():
        try:
            with connection.begin_nested():
                run = to_run(row)
                may_restart = _may_restart(run)
                buried.append(_restart(connection, run, restarted_of) if may_restart else _fail(connection, run, now, terminal_of))
        except OperationalError:  # of the database, not of this run
            raise
        except Exception:
            log.exception("run %s: its worker was lost, and its end could not be stored", row.id)
    return buried


def _may_restart(run: Run) -> bool:
    return run.is_background and run.attempt < run.attempts and not run.is_cancel_requested


def _restart(connection: Connection, run: Run, restarted_of: Callable[[Run, int], Chunk]) -> Run:
    again = replace(run, status="queued", last_tool=None)
    connection.execute(update(runs).where(runs.c.id == run.id).values(status="queued", worker=None, last_tool=None))
    chunk = restarted_of(again, endings.next_number(connection, run.id, run.kind))
    connection.execute(insert(run_events), {"run_id": run.id, "first": chunk.first, "count": chunk.count, "data": chunk.data})
    return again


def _fail(connection: Connection, run: Run, now: int, terminal_of: Callable[[Run, int], Chunk]) -> Run:
    failed = replace(run, status="failed", error=WORKER_LOST, ended_at=now)
    terminal = terminal_of(endings.with_beginning(connection, failed), endings.next_number(connection, run.id, run.kind))
    endings.end(connection, run.id, RunEnd(status="failed", error=WORKER_LOST, terminal=terminal), now)
    return replace(failed, terminal=terminal)
