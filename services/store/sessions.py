"""The session store. `turns` has the statements about turns."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from time import time_ns

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.engine import URL

from services.access.scope import Scope
from services.errors import Conflict, NotFound
from services.store import documents, turns
from services.store import leases as owners
from services.store.db import Database
from services.store.listing import list_page
from services.store.migrations import migrate
from services.store.records import Filter, NewTurn, Page, Session, Turn, TurnEnd
from services.store.rows import from_session, storable, to_session
from services.store.schema import session_tags, sessions, totals
from services.store.tokenizer import filter_terms, indexed_words
from services.usage import Usage

ID_PREFIX = re.compile(r"[0-9a-f][0-9a-f-]{0,35}")
ID_CHARS = 36


class SessionStore:
    """One per process. Every method is one short transaction, and raises StoreUnavailable if the database is unavailable.

    ``database`` and `us` are shared with the run store, which has its tables in the same database.

    A `Session` is the proof that its caller may see it: only a lookup with a scope returns one, and what is done with a session takes it,
    not its id.
    """

    def __init__(self, url: URL, *, keeps_usage: bool = True) -> None:
        self.database = Database(url, self._prepare)
        self._us: owners.Owner | None = None
        self._keeps_usage = keeps_usage

    def open(self) -> None:
        """Connect, migrate, and release the sessions of dead servers. Implicit on first use."""
        self.database.open()

    def close(self) -> None:
        self.database.close()

    def add(self, session: Session) -> Session:
        """Insert a new session without a turn."""

        def work(connection: Connection) -> Session:
            return _insert(connection, session)

        return self.database.write(work)

    def add_fork(self, session: Session, parent: Session) -> Session:
        """Insert a new session with copies of its parent's turns. Raises NotFound, or Conflict while the parent runs one."""

        def work(connection: Connection) -> Session:
            now = _reload(connection, parent)
            if now.status == "running":
                raise turns.busy(parent.id)
            kept = _insert(connection, replace(session, turn_count=now.turn_count))
            turns.copy(connection, parent.id, kept.id)
            return kept

        return self.database.write(work)

    def get(self, id: str, scope: Scope) -> Session:
        """The session with an id or a unique prefix of one. Raises NotFound, or Conflict for an ambiguous prefix."""
        with self.database.reading() as connection:
            return _find(connection, id, scope)

    def get_whole(self, id: str, scope: Scope) -> Session:
        """The session with an id. Raises NotFound, also for a prefix."""
        found = self.get(id, scope) if len(id) == ID_CHARS else None
        if found is None:
            raise _no_session(id)
        return found

    def list(self, wanted: Filter, scope: Scope, *, limit: int = 20, offset: int = 0, cursor: str | None = None) -> Page:
        """A page, most recently used first. Raises InvalidRequest for an invalid cursor."""
        with self.database.reading() as connection:
            return list_page(connection, wanted, scope, limit, offset, cursor)

    def count(self) -> int:
        with self.database.reading() as connection:
            return connection.execute(select(totals.c.sessions)).scalar() or 0

    def delete(self, session: Session) -> None:
        """Delete a session and its turns. Raises NotFound, or Conflict while a turn runs."""

        def work(connection: Connection) -> None:
            if not self._remove(connection, session.id):
                _reload(connection, session)  # raises NotFound
                raise turns.busy(session.id)

        self._free(session.id)
        self.database.write(work)

    def expired(self, before: int, limit: int) -> tuple[Session, ...]:
        """At most ``limit`` sessions last used before ``before`` and not running a turn, oldest first."""
        statement = select(sessions).where(sessions.c.updated_at < before, sessions.c.status != "running")
        with self.database.reading() as connection:
            return tuple(map(to_session, connection.execute(statement.order_by(sessions.c.updated_at).limit(limit))))

    def begin(self, session: Session, turn: NewTurn) -> Turn:
        """Insert a new session whose first turn is running."""

        def work(connection: Connection) -> Turn:
            owners.sign_in(connection, self.us())
            kept = _insert(connection, replace(session, status="running", turn_count=1), worker=self.us().id)
            return turns.add_running(connection, kept.id, 1, turn, kept.created_at)

        return self.database.write(work)

    def start_turn(self, session: Session, turn: NewTurn, *, run_id: str | None = None) -> Turn:
        """Claim the session for a turn. Raises NotFound, or Conflict if any server runs one or a run other than ``run_id`` waits in
        the queue to run one."""

        def work(connection: Connection) -> Turn:
            if not turns.is_free(connection, session.id):
                _reload(connection, session)
                raise turns.busy(session.id)
            if turns.is_awaited(connection, session.id, but=run_id):
                raise turns.busy(session.id)
            return turns.start(connection, session.id, turn, self.us(), _now())

        self._free(session.id)
        return self.database.write(work)

    def end_turn(self, turn: Turn, end: TurnEnd) -> None:
        """Store the outcome of a turn and release its session. Idempotent."""
        kept = end if self._keeps_usage else replace(end, usage=None)
        self.database.write(lambda connection: turns.end(connection, turn, kept, _now()))

    def drop_turn(self, turn: Turn) -> None:
        """Remove a turn that was not started."""
        self.database.write(lambda connection: turns.drop(connection, turn))

    def turns(self, session: Session, *, after: int = 0, limit: int = 100) -> tuple[Turn, ...]:
        """Turns of a session in order, from number ``after`` + 1. Raises NotFound if it has been deleted."""
        with self.database.reading() as connection:
            _reload(connection, session)
            return turns.read(connection, session.id, after, limit)

    def usage_of_turns(self, session: Session) -> Usage:
        """The usage of all turns of a session, including those copied from its parent."""
        with self.database.reading() as connection:
            return turns.usage(connection, session.id)

    def release_dead(self) -> int:
        """Release the sessions that dead servers left running. Returns their number."""

        def work(connection: Connection) -> int:
            us = self.us()
            dead = owners.dead_among(connection, turns.workers_of_running(connection), us)
            count = turns.interrupt(connection, dead, _now()) if dead else 0
            owners.forget_dead(connection, us)
            return count

        return self.database.write(work)

    def beat(self) -> None:
        """Renew the lease of this process; see `leases`."""
        self.database.write(lambda connection: owners.sign_in(connection, self.us()))

    def _prepare(self, database: Database) -> None:
        self._us = owners.this_process()
        database.write(migrate)
        self.release_dead()

    def us(self) -> owners.Owner:
        """This process, once the database is open."""
        assert self._us is not None, "not open"
        return self._us

    def _free(self, id: str) -> None:
        """Release the session if its server is dead. Costs a read; writes only if necessary."""
        with self.database.reading() as connection:
            worker = turns.worker_of(connection, id)
            dead = owners.dead_among(connection, {worker}, self.us()) if worker else set()
        if dead:
            self.database.write(lambda connection: turns.interrupt(connection, dead, _now()))

    def _remove(self, connection: Connection, id: str) -> bool:
        gone = connection.execute(delete(sessions).where(sessions.c.id == id, sessions.c.status != "running")).rowcount
        if gone:
            connection.execute(update(totals).values(sessions=totals.c.sessions - 1))
        return bool(gone)


ONE_MORE = update(totals).values(sessions=totals.c.sessions + 1)


def new_id() -> str:
    return str(uuid.uuid4())


def _insert(connection: Connection, session: Session, worker: str | None = None) -> Session:
    now = _now()
    session = replace(session, created_at=now, updated_at=now)
    connection.execute(insert(sessions), {**from_session(session), "worker": worker, "running_turn": 1 if worker else None})
    if session.tags:
        owned = {"session_id": session.id, "owner": session.owner, "updated_at": now}
        connection.execute(insert(session_tags), [{**owned, "tag": storable(tag)} for tag in session.tags])
    connection.execute(ONE_MORE)
    terms = filter_terms(session.owner, session.backend, session.workdir)
    documents.add(connection, session.id, indexed_words(session.title, " ".join(session.tags)), terms)
    return session


def _find(connection: Connection, id: str, scope: Scope) -> Session:
    prefix = id.lower()
    if not ID_PREFIX.fullmatch(prefix):
        raise _no_session(id)
    # "g" sorts after every character of an id, in both databases' byte order.
    begins = (sessions.c.id >= prefix, sessions.c.id < prefix + "g")
    rows = connection.execute(select(sessions).where(scope.covers(sessions.c.owner), *begins).order_by(sessions.c.id).limit(2)).all()
    if not rows:
        raise _no_session(id)
    if len(rows) > 1 and rows[0].id != prefix:
        raise Conflict(f"several sessions begin with {id!r}; give more of the id", field="session_id", issue="ambiguous prefix")
    return to_session(rows[0])


def _reload(connection: Connection, session: Session) -> Session:
    """The session as it is now. Raises NotFound."""
    return _find(connection, session.id, Scope(session.owner))


def _no_session(id: str) -> NotFound:
    return NotFound(f"there is no session {id[:64]!r}", field="session_id")


def _now() -> int:
    return time_ns() // 1000
