"""The run store: the queue of runs and what came of them, in the database of the session store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from time import time_ns
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, Row, Select, Text, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from services.access.scope import Scope
from services.errors import Conflict
from services.event_loop import yield_to_others
from services.runs import burial, endings, expiry, finding, queue
from services.runs.pages import list_page
from services.runs.record import LIVE, Chunk, IdempotencyKey, NewRun, Run, RunEnd, RunError, RunFilter, RunPage, RunStatus
from services.runs.rows import TERMINAL, from_new, to_run, to_terminal
from services.store import leases, turns
from services.store.db import Database
from services.store.rows import storable
from services.store.schema import run_events, run_requests, runs, sessions

T = TypeVar("T")

CANCELLED = RunError(code="cancelled", message="the run was cancelled before it started")

ADD = insert(runs)
ADD_REQUEST = insert(run_requests)
REQUEST = select(run_requests.c.data).where(run_requests.c.run_id == bindparam("of_run"))
STATUS_OF = select(runs.c.status).where(runs.c.id == bindparam("of_run"))
TERMINAL_OF: Select[Any] = select(*TERMINAL).where(runs.c.id == bindparam("of_run"))
SESSION = select(sessions.c.status, sessions.c.worker).where(sessions.c.id == bindparam("of_session")).with_for_update()
DISCARD = delete(runs).where(runs.c.id == bindparam("of_run"), endings.IS_OURS)
NOTE = (
    update(runs)
    .where(runs.c.id == bindparam("of_run"), endings.IS_OURS)
    .values(
        {name: func.coalesce(bindparam(f"new_{name}", type_=Text), runs.c[name]) for name in ("session_id", "model", "last_tool", "status")}
    )
)
HELD = select(runs.c.id).where(endings.IS_OURS)
TO_CANCEL = select(runs.c.id).where(endings.IS_OURS, runs.c.is_cancel_requested)


class RunStore:
    """One per process. Every method is one short transaction, and raises StoreUnavailable if the database is unavailable.

    ``database`` and ``us`` are those of the `SessionStore`. A run outside the scope of a lookup is an unknown one. Functions that make
    chunks are called within a transaction that may be repeated: they have no side effects.
    """

    def __init__(self, database: Database, us: Callable[[], leases.Owner]) -> None:
        self._database = database
        self._us = us

    def add(self, new: NewRun, *, max_waiting: int, max_waiting_per_owner: int) -> tuple[Run, bool]:
        """Put a background run into the queue, with the events that it begins with, if any. False: the owner's key had done that with an equal request; this is that run.

        Raises KeyReused, Conflict if the session runs a turn or waits for one, RateLimited, QueueFull.
        """

        def work(connection: Connection) -> tuple[Run, bool]:
            if there := finding.of_same_key(connection, new):
                return there, False
            self._check_session(connection, new.session_id)
            turn, place = queue.next_turn(connection, new, max_waiting=max_waiting, max_waiting_per_owner=max_waiting_per_owner)
            row = _insert(connection, new, {**from_new(new, now=_now()), "turn": turn})
            if new.begun:
                connection.execute(insert(run_events), {"run_id": new.id, **new.begun._asdict()})
            return to_run(row, position=place or queue.position(connection, row)), True

        return self._write_keyed(work)

    def begin(self, new: NewRun) -> tuple[Run, bool]:
        """Store a foreground run that this process executes from now on. False: the owner's key had begun it; this is that run.

        Raises KeyReused, and Conflict if the session runs a turn or waits for one.
        """

        def work(connection: Connection) -> tuple[Run, bool]:
            if there := finding.of_same_key(connection, new):
                return there, False
            self._check_session(connection, new.session_id)
            us, now = self._us(), _now()
            leases.sign_in(connection, us)
            begun = {**from_new(new, now=now), "status": "running", "worker": us.id, "started_at": now}
            return to_run(_insert(connection, new, begun)), True

        return self._write_keyed(work)

    def discard(self, id: str) -> None:
        """Remove a run that `begin` stored and that was refused before it started, so that its key is free again."""
        self._database.write(lambda connection: connection.execute(DISCARD, {"of_run": id, "of_worker": self._us().id}))

    def claim(self, backends: Collection[str]) -> Run | None:
        """The run that is next among those for ``backends`` or for any, now executed by this process. None: nothing waits."""

        def work(connection: Connection) -> Run | None:
            us = self._us()
            row = queue.claim(connection, backends, us.id, _now())
            if row is None:
                return None
            leases.sign_in(connection, us)
            return to_run(row, request=connection.execute(REQUEST, {"of_run": row.id}).scalar() or b"")

        return self._database.write(work)

    def note(
        self,
        id: str,
        *,
        session_id: str | None = None,
        model: str | None = None,
        last_tool: str | None = None,
        status: Literal["running", "waiting"] | None = None,
    ) -> None:
        """Store what became known of a run that this process executes. None changes nothing."""
        known = {"session_id": session_id, "model": model, "last_tool": last_tool, "status": status}
        changes = {f"new_{name}": storable(value) if value else None for name, value in known.items()}

        def work(connection: Connection) -> None:
            connection.execute(NOTE, {"of_run": id, "of_worker": self._us().id, **changes})

        self._database.write(work)

    def end(self, id: str, end: RunEnd, *, attempt: int | None = None) -> bool:
        """Store the end of a run that this process executes, with its terminal event and its webhook. ``attempt``: of the claimed run.

        False: somebody else has ended the run or put it back into the queue, also if this process has claimed it again since.
        """
        return self._database.write(lambda connection: endings.end(connection, id, end, _now(), worker=self._us().id, attempt=attempt))

    def cancel(self, id: str, scope: Scope, terminal_of: Callable[[Run, int], Chunk]) -> Run:
        """Cancel a run: one that waits has ended when this returns, one that is executed is told to its process by `to_cancel`, one that has
        ended stays as it is.

        ``terminal_of`` makes the terminal event, with the given number, of the run as it has ended. Raises NotFound.
        """

        def work(connection: Connection) -> Run:
            run = finding.find(connection, id, scope, locks=True)
            if run.status == "queued":
                now = _now()
                number = endings.next_number(connection, id, run.kind)
                ended = replace(run, status="cancelled", error=CANCELLED, ended_at=now, position=None)
                terminal = terminal_of(endings.with_beginning(connection, ended), number)
                endings.end(connection, id, RunEnd(status="cancelled", error=CANCELLED, terminal=terminal), now)
            elif run.status in LIVE:
                connection.execute(update(runs).where(runs.c.id == id).values(is_cancel_requested=True))
            else:
                return run
            return finding.read(connection, id)

        return self._database.write(work)

    def get(self, id: str, scope: Scope) -> Run:
        """Raises NotFound."""
        with self._database.reading() as connection:
            return finding.find(connection, id, scope)

    def status_of(self, id: str) -> RunStatus:
        """Raises NotFound."""
        with self._database.reading() as connection:
            status: RunStatus | None = connection.execute(STATUS_OF, {"of_run": id}).scalar()
        if status is None:
            raise finding.no_run(id)
        return status

    def terminal_of(self, id: str) -> Chunk | None:
        """The last event of a run that has ended; None while it goes on. Raises NotFound."""
        with self._database.reading() as connection:
            row = connection.execute(TERMINAL_OF, {"of_run": id}).first()
        if row is None:
            raise finding.no_run(id)
        return to_terminal(row)

    def request_of(self, run: Run) -> bytes:
        """What `NewRun.request` was. Raises NotFound if the run has been deleted."""
        with self._database.reading() as connection:
            request = connection.execute(REQUEST, {"of_run": run.id}).scalar()
        if request is None:
            raise finding.no_run(run.id)
        return request  # type: ignore[no-any-return]

    def list(self, wanted: RunFilter, scope: Scope, *, limit: int = 50, cursor: str | None = None) -> RunPage:
        """A page, newest first. Its runs have no request, answer and terminal event, and no result over 16 KiB. Raises
        InvalidRequest for an invalid cursor."""
        with self._database.reading() as connection:
            return list_page(connection, wanted, scope, limit, cursor)

    def find_key(self, owner: str, key: IdempotencyKey) -> Run | None:
        """The owner's run with this key. Raises KeyReused if its request was another one."""
        with self._database.reading() as connection:
            return finding.of_key(connection, owner, key)

    def delete(self, id: str, scope: Scope) -> None:
        """Delete a run with its events and webhook deliveries. Raises NotFound, or Conflict while it has not ended."""

        def work(connection: Connection) -> None:
            run = finding.find(connection, id, scope, locks=True)
            if run.ended_at is None:
                raise Conflict(f"run {id} has not ended; cancel it first", field="run_id", issue=f"run is {run.status}")
            connection.execute(delete(runs).where(runs.c.id == id))

        self._database.write(work)

    def count_queued(self) -> int:
        with self._database.reading() as connection:
            return connection.execute(queue.COUNT).scalar_one()

    def held(self) -> set[str]:
        """The runs that this process executes, as the store has it."""
        with self._database.reading() as connection:
            return set(connection.execute(HELD, {"of_worker": self._us().id}).scalars())

    def to_cancel(self) -> tuple[str, ...]:
        """The runs that this process executes and that are to be cancelled. One read of an index: it may be called every second."""
        with self._database.reading() as connection:
            return tuple(connection.execute(TO_CANCEL, {"of_worker": self._us().id}).scalars())

    def bury(
        self,
        terminal_of: Callable[[Run, int], Chunk],
        restarted_of: Callable[[Run, int], Chunk],
        end_processes: Callable[[], object] = lambda: None,
    ) -> Sequence[Run]:
        """End the runs of dead processes as failed with ``worker_lost``, or put those with attempts left back into the queue.

        ``terminal_of`` makes the terminal event of a run that has failed; ``restarted_of`` the event ``restarted`` of a run that waits
        again, whose ``attempt`` is still that of the lost process. Both have the given number. ``end_processes`` is called before, if
        there is a dead process: a second attempt must not meet the agent of the first one. Returns the runs as they are now.
        Costs a read; writes only if necessary.
        """
        with self._database.reading() as connection:
            dead = burial.dead_workers(connection, self._us())
        if not dead:
            return []
        end_processes()
        return self._database.write(lambda connection: burial.bury(connection, dead, _now(), terminal_of, restarted_of))

    def expire(self, *, retention_s: float, events_retention_s: float) -> int:
        """Delete the events, and later the rows, of runs that ended so long ago. Returns the number of rows.

        Several transactions, so that no other one waits long.
        """
        now = _now()
        self._repeat(expiry.expire_events, now - round(min(retention_s, events_retention_s) * 1e6))
        return self._repeat(expiry.expire_runs, now - round(retention_s * 1e6))

    def _repeat(self, step: Callable[[Connection, int], int], before: int) -> int:
        total = 0
        while count := self._database.write(lambda connection: step(connection, before)):
            total += count
            yield_to_others()
        return total

    def _check_session(self, connection: Connection, session_id: str | None) -> None:
        """Raises Conflict if the session runs a turn or a run waits for it. On PostgreSQL its row is locked until the transaction ends,
        so that only one of several submissions passes."""
        if session_id is None:
            return
        session = connection.execute(SESSION, {"of_session": session_id}).first()
        runs_turn = session is not None and session.status == "running" and not leases.dead_among(connection, {session.worker}, self._us())
        if runs_turn or finding.is_unfinished(connection, session_id, None):
            raise turns.busy(session_id)

    def _write_keyed(self, work: Callable[[Connection], T]) -> T:
        try:
            return self._database.write(work)
        except IntegrityError:  # another server stored the same key after this one had looked for it
            return self._database.write(work)


def _insert(connection: Connection, new: NewRun, row: dict[str, Any]) -> Row[Any]:
    connection.execute(ADD, row)
    if new.request:
        connection.execute(ADD_REQUEST, {"run_id": new.id, "data": new.request})
    return connection.execute(finding.BY_ID, {"of_run": new.id}).one()


def _now() -> int:
    return time_ns() // 1000
