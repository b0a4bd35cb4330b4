"""The event log: the SSE frames of every run, stored in the database before any reader gets them.

A process appends to the log of a run only while it executes the run (`RunStore.claim`, `RunStore.begin`), and only what follows the
last event there. A process that was presumed dead is refused, so no number is ever given twice. The terminal event is not in the log
but in the row of the run (`RunStore.end`), and `EventLog.follow` puts it behind the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from time import monotonic

from sqlalchemy import BigInteger, Connection, Text, bindparam, func, insert, select
from sqlalchemy.exc import IntegrityError

from services.runs import chunks
from services.runs.committer import COMMIT_INTERVAL_S, PENDING_LIMIT_BYTES, RETRY_S, Committer
from services.runs.committer import Fenced as Fenced
from services.runs.feed import QUEUE_LIMIT_BYTES, Feed, Subscription
from services.runs.record import LIVE, Chunk, RunKind, first_number
from services.runs.watch import Watch
from services.store.db import Database
from services.store.leases import Owner
from services.store.schema import run_events, runs

READ_LIMIT_BYTES = 1024 * 1024
READ_LIMIT_CHUNKS = 256
"""A read ends after one of these, so that no reader holds up the event loop."""

KEEP_ALIVE_S = 10.0
FIRST_POLL_S, LONGEST_POLL_S = 0.1, 1.0
"""How often the table is asked for runs that other processes execute; the time grows while nothing comes."""

# For each run of a batch that this process executes: the number that is next in its log. On PostgreSQL its row is locked, so that
# nobody ends the run before this transaction has. In the order of ids: two transactions never wait for each other.
NEXT_NUMBER = (
    select(run_events.c.first + run_events.c.count)
    .where(run_events.c.run_id == runs.c.id)
    .order_by(run_events.c.first.desc())
    .limit(1)
    .scalar_subquery()
)
OURS = (
    select(runs.c.id, runs.c.kind, NEXT_NUMBER.label("next"))
    .where(runs.c.id.in_(bindparam("ids", expanding=True, type_=Text)), runs.c.worker == bindparam("of_worker"), runs.c.status.in_(LIVE))
    .order_by(runs.c.id)
    .with_for_update(read=True, of=runs)
)
STATES = select(runs.c.id, NEXT_NUMBER.label("next"), runs.c.terminal_first).where(
    runs.c.id.in_(bindparam("ids", expanding=True, type_=Text))
)
INSERT = insert(run_events)

# The chunk that holds the event after number `after`, and those behind it.
IS_OF_RUN = run_events.c.run_id == bindparam("of_run")
AT = select(func.max(run_events.c.first)).where(IS_OF_RUN, run_events.c.first <= bindparam("next", type_=BigInteger)).scalar_subquery()
SIZES = (
    select(run_events.c.first, run_events.c.count, func.length(run_events.c.data).label("bytes"))
    .where(IS_OF_RUN, run_events.c.first >= func.coalesce(AT, 0), run_events.c.first + run_events.c.count > bindparam("next"))
    .order_by(run_events.c.first)
    .limit(READ_LIMIT_CHUNKS)
)
CHUNKS = (
    select(run_events.c.first, run_events.c.count.label("events"), run_events.c.data)
    .where(IS_OF_RUN, run_events.c.first.between(bindparam("low"), bindparam("high")))
    .order_by(run_events.c.first)
)
OF_RUN = select(runs.c.kind, NEXT_NUMBER.label("next")).where(runs.c.id == bindparam("of_run"))


class EventLog:
    """One per process. Usable on both sides of a fork.

    ``on_commit`` is called with the ids of the runs whose events were stored. ``poll_s``: the shortest and longest time between
    two looks at the runs that other processes execute.
    """

    def __init__(
        self,
        database: Database,
        us: Callable[[], Owner],
        *,
        on_commit: Callable[[Collection[str]], None] = lambda run_ids: None,
        commit_interval_s: float = COMMIT_INTERVAL_S,
        pending_limit_bytes: int = PENDING_LIMIT_BYTES,
        queue_limit_bytes: int = QUEUE_LIMIT_BYTES,
        retry_s: float = RETRY_S,
        poll_s: tuple[float, float] = (FIRST_POLL_S, LONGEST_POLL_S),
    ) -> None:
        self._database = database
        self._us = us
        self._on_commit = on_commit
        self._feed = Feed(queue_limit_bytes)
        self._committer = Committer(
            self._write, self._committed, interval_s=commit_interval_s, pending_limit_bytes=pending_limit_bytes, retry_s=retry_s
        )
        self._watch = Watch(self._states, self._committer.has, self._feed.wake, poll_s)

    def append(self, run_id: str, chunk: Chunk) -> None:
        """Queue a chunk for the next commit. The chunks of a run follow each other without gaps.

        Blocks while more than ``pending_limit_bytes`` of the run wait. Raises Fenced once this process no longer executes the run,
        StoreUnavailable once the events of the run could not be stored; either holds until `close`.
        """
        self._committer.append(run_id, chunk)

    def flush(self, run_id: str) -> None:
        """Return when everything appended is stored. Raises as `append` does."""
        self._committer.flush(run_id)

    def close(self, run_id: str) -> None:
        """This process appends no more to the run, whose end, if any, is stored. Readers look for it."""
        self._committer.close(run_id)
        self._feed.wake(run_id)

    def notify(self, run_id: str) -> None:
        """Another process has stored events of the run, or its end. Readers look for them."""
        self._feed.wake(run_id)

    def wake_readers(self) -> None:
        """Have all readers look at their runs."""
        self._feed.wake_all()

    def subscribe(self, run_id: str) -> Subscription:
        """The chunks that this process stores from now on. Close the subscription after use."""
        return self._feed.subscribe(run_id)

    def read(self, run_id: str, after: int, limit_bytes: int = READ_LIMIT_BYTES) -> list[Chunk]:
        """Stored chunks from event ``after`` + 1 on, at least one if there is any, without the terminal event."""
        with self._database.reading() as connection:
            sizes, taken = connection.execute(SIZES, {"of_run": run_id, "next": after + 1}).all(), 0
            fitting = [size for size in sizes if (taken := taken + size.bytes) <= limit_bytes] or sizes[:1]
            if not fitting:
                return []
            between = {"of_run": run_id, "low": fitting[0].first, "high": fitting[-1].first}
            rows = connection.execute(CHUNKS, between).all()
        found = (chunks.after(Chunk(row.first, row.events, row.data), after) for row in rows)
        return [chunk for chunk in found if chunk]

    def first(self, run_id: str) -> Chunk | None:
        """The beginning of the log; None if it is empty."""
        return next(iter(self.read(run_id, -1, limit_bytes=0)), None)

    def last(self, run_id: str) -> int:
        """The number of the last event in the log, one less than the first number if it is empty. The terminal event does not count."""
        with self._database.reading() as connection:
            row = connection.execute(OF_RUN, {"of_run": run_id}).first()
        return _next_number(row.kind, row.next) - 1 if row else 0

    def follow(
        self, run_id: str, after: int, is_over: Callable[[], Chunk | None], *, keep_alive_s: float = KEEP_ALIVE_S
    ) -> Iterator[bytes]:
        """Yield the frames with numbers above ``after``, each once and in order, then the terminal event, and stop.

        Yields empty bytes after ``keep_alive_s`` of silence. ``is_over`` reads the run and returns its terminal event if it has ended.
        """
        with self._watch.watching(run_id), self._feed.subscribe(run_id) as subscription:
            silent_since = monotonic()
            while True:
                terminal = is_over()  # before the log is read: an event stored after that read would be missed, were it asked later
                while found := self.read(run_id, after):
                    for chunk in found:
                        yield chunk.data
                        after = chunk.last
                    silent_since = monotonic()
                if terminal:
                    if rest := chunks.after(terminal, after):
                        yield rest.data
                    return
                must_read = False
                while not must_read:
                    fed = subscription.next(max(0.0, silent_since + keep_alive_s - monotonic()))
                    if isinstance(fed, Chunk):
                        must_read = fed.first > after + 1
                        if not must_read and (rest := chunks.after(fed, after)):
                            yield rest.data
                            after, silent_since = rest.last, monotonic()
                        continue
                    must_read = fed == "look"
                    if monotonic() - silent_since >= keep_alive_s:
                        yield b""
                        silent_since = monotonic()

    def _states(self, run_ids: Collection[str]) -> Mapping[str, Hashable]:
        """What changes when events of a run are stored, or its end."""
        with self._database.reading() as connection:
            rows = connection.execute(STATES, {"ids": list(run_ids)})
            return {row.id: (row.next, row.terminal_first) for row in rows}

    def _write(self, batch: Mapping[str, Chunk]) -> Collection[str]:
        """Store one chunk of each run. Returns the runs that are not this process's, or whose chunk does not follow the log."""

        def work(connection: Connection) -> Collection[str]:
            rows = connection.execute(OURS, {"ids": list(batch), "of_worker": self._us().id})
            next_numbers = {row.id: _next_number(row.kind, row.next) for row in rows}
            refused, new = set(batch) - next_numbers.keys(), []
            for run_id, number in next_numbers.items():
                chunk = batch[run_id]
                if number == chunk.first:
                    new.append({"run_id": run_id, "first": chunk.first, "count": chunk.count, "data": chunk.data})
                elif not _is_stored(connection, run_id, chunk):
                    refused.add(run_id)
            if new:
                connection.execute(INSERT, new)
            return refused

        try:
            return self._database.write(work)
        except IntegrityError:  # the log of a run has grown since this transaction read where it ends
            return self._database.write(work)

    def _committed(self, stored: Mapping[str, Chunk], lost: Collection[str]) -> None:
        for run_id, chunk in stored.items():
            self._feed.put(run_id, chunk)
        for run_id in lost:
            self._feed.wake(run_id)
        if stored:
            self._on_commit(stored.keys())


def _is_stored(connection: Connection, run_id: str, chunk: Chunk) -> bool:
    """Whether an earlier try has stored the chunk, though it seemed to fail."""
    row = connection.execute(CHUNKS, {"of_run": run_id, "low": chunk.first, "high": chunk.first}).first()
    return row is not None and Chunk(row.first, row.events, row.data) == chunk


def _next_number(kind: RunKind, stored: int | None) -> int:
    return first_number(kind) if stored is None else stored
