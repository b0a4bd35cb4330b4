"""Group commit of the chunks of many runs, by one greenlet per process.

What comes while a commit is under way goes with the next one: chunks of one run that wait become one chunk, so one chunk of a run is
under way at a time, and its first number is the fence for all of its frames.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping
from time import monotonic

import gevent
from gevent.event import Event

from services.errors import StoreUnavailable
from services.runs import chunks
from services.runs.record import Chunk

log = logging.getLogger("clinvk.runs")

COMMIT_INTERVAL_S = 0.02
"""The least time between two commits that nobody waits for."""
PENDING_LIMIT_BYTES = 4 * 1024 * 1024
"""How much of one run may wait for a commit."""
RETRY_S = 60.0
"""How long a commit is retried."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0


class Fenced(Exception):
    """This process no longer executes the run: it has been ended or put back into the queue by somebody else."""


class _Pending:
    """The chunks of one run that are not committed."""

    def __init__(self) -> None:
        self.waiting: list[Chunk] = []
        self.bytes = 0
        self.last = -1
        """The number of the last event."""
        self.appended = self.committed = 0
        """How many chunks were appended, and how many of them are committed."""
        self._taken = 0
        self.error: Fenced | StoreUnavailable | None = None
        self.changed = Event()

    def take(self) -> Chunk:
        taken, self.waiting, self._taken = self.waiting, [], self.appended
        return chunks.join(taken)

    def settle(self, chunk: Chunk, error: Fenced | StoreUnavailable | None) -> None:
        """What `take` gave is committed, or lost with all that has come since."""
        if error:
            self.error, self.waiting, self.bytes = error, [], 0
        else:
            self.committed = self._taken
            self.bytes -= len(chunk.data)
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = Event()


class Committer:
    """``write`` stores one chunk of each run in one transaction and returns the runs whose chunk was refused. It is called again
    if it raises StoreUnavailable, though it may have stored the chunks. ``report`` receives the chunks that were stored and the runs
    whose chunks are lost."""

    def __init__(
        self,
        write: Callable[[Mapping[str, Chunk]], Collection[str]],
        report: Callable[[Mapping[str, Chunk], Collection[str]], None],
        *,
        interval_s: float = COMMIT_INTERVAL_S,
        pending_limit_bytes: int = PENDING_LIMIT_BYTES,
        retry_s: float = RETRY_S,
    ) -> None:
        self._write = write
        self._report = report
        self._interval_s = interval_s
        self._pending_limit_bytes = pending_limit_bytes
        self._retry_s = retry_s
        self._runs: dict[str, _Pending] = {}
        self._filled: dict[str, _Pending] = {}
        """The runs with waiting chunks."""
        self._wanted = Event()
        self._urgent = Event()
        """Somebody waits for the next commit: it is not put off."""
        self._greenlet: gevent.Greenlet | None = None
        self._pid = 0

    def append(self, run_id: str, chunk: Chunk) -> None:
        """Queue ``chunk`` for the next commit. Blocks while too much of the run waits. Raises Fenced, StoreUnavailable."""
        self._start()
        run = self._runs.setdefault(run_id, _Pending())
        while not run.error and run.bytes and run.bytes + len(chunk.data) > self._pending_limit_bytes:
            run.changed.wait()
        if run.error:
            raise run.error
        if run.waiting and chunk.first != run.last + 1:
            raise ValueError(f"event {chunk.first} of {run_id} does not follow event {run.last}")
        run.waiting.append(chunk)
        run.bytes += len(chunk.data)
        run.last = chunk.last
        run.appended += 1
        self._filled[run_id] = run
        self._wanted.set()

    def flush(self, run_id: str) -> None:
        """Return when what was appended is committed, which is not put off. Raises Fenced, StoreUnavailable."""
        run = self._runs.get(run_id)
        if run is None or self._pid != os.getpid():
            return
        wanted = run.appended
        if not run.error and run.committed < wanted:
            self._urgent.set()
        while not run.error and run.committed < wanted:
            run.changed.wait()
        if run.error:
            raise run.error

    def has(self, run_id: str) -> bool:
        """Whether this process appends to the log of the run."""
        run = self._runs.get(run_id)
        return run is not None and run.error is None and self._pid == os.getpid()

    def close(self, run_id: str) -> None:
        """Forget the run. What is not committed is dropped."""
        self._filled.pop(run_id, None)
        if run := self._runs.pop(run_id, None):
            run.error = run.error or Fenced(run_id)
            run.wake()

    def _start(self) -> None:
        """Start the greenlet where none runs: at the first use, and after a fork, which leaves the parent's chunks to the parent."""
        if self._pid != os.getpid():
            self._runs, self._filled, self._wanted, self._urgent, self._greenlet = {}, {}, Event(), Event(), None
            self._pid = os.getpid()
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = gevent.spawn(self._work)

    def _work(self) -> None:
        committed_at = -self._interval_s
        while True:
            self._wanted.wait()
            self._urgent.wait(max(0.0, committed_at + self._interval_s - monotonic()))
            if self._pid != os.getpid() or self._greenlet is not gevent.getcurrent():
                return  # the copy of the parent's greenlet after a fork
            self._wanted.clear()
            self._urgent.clear()
            filled, self._filled = self._filled, {}
            if filled:
                self._commit(filled)
                committed_at = monotonic()

    def _commit(self, filled: Mapping[str, _Pending]) -> None:
        batch = {run_id: run.take() for run_id, run in filled.items()}
        lost = self._store(batch)
        for run_id, run in filled.items():
            run.settle(batch[run_id], lost.get(run_id))
            if run_id in lost:
                self._filled.pop(run_id, None)
        try:
            self._report({run_id: chunk for run_id, chunk in batch.items() if run_id not in lost}, lost)
        except Exception:
            log.exception("the readers of %d runs were not told of new events", len(batch))

    def _store(self, batch: Mapping[str, Chunk]) -> dict[str, Fenced | StoreUnavailable]:
        """Returns the runs whose chunk is lost, with the reason. What the database cannot take costs its own run alone."""
        try:
            refused = self._write_again(batch)
        except StoreUnavailable as unavailable:
            return dict.fromkeys(batch, unavailable)
        except Exception:
            log.exception("the events of %s could not be stored", ", ".join(batch))
            if len(batch) == 1:
                return dict.fromkeys(batch, StoreUnavailable("the events of this run could not be stored"))
            alone = [self._store({run_id: chunk}) for run_id, chunk in batch.items()]
            return {run_id: error for lost in alone for run_id, error in lost.items()}
        return {run_id: Fenced(f"another process has ended {run_id}, or executes it again") for run_id in refused}

    def _write_again(self, batch: Mapping[str, Chunk]) -> Collection[str]:
        give_up_at = monotonic() + self._retry_s
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return self._write(batch)
            except StoreUnavailable as error:
                if monotonic() + pause_s > give_up_at:
                    raise
                if pause_s == FIRST_PAUSE_S:
                    log.warning("the events of %d runs are stored later: %s", len(batch), error.message)
            gevent.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
