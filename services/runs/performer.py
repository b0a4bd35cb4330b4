"""Executes a started run for its event log: stores each event, then the end. Nobody's connection is involved."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import TypeVar

import gevent
import orjson

from services.errors import RunFailed, StoreUnavailable
from services.runs.live import LiveRun
from services.runs.log import EventLog, Fenced
from services.runs.record import Chunk, Run, RunEnd, RunError, StoredAnswer
from services.runs.store import RunStore
from services.runs.tally import Tally
from services.runs.work import OutcomeStatus, RunFacts, Work, status_of, to_error

T = TypeVar("T")

log = logging.getLogger("clinvk.runs")

FRAME_END = b"\n\n"
COMMENT = b":"
NOTE_INTERVAL_S = 1.0
"""How often a run's row gets its latest tool."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
END_ATTEMPTS_S = 3_600.0
"""How long the end of a run is tried to be stored while the database is unavailable."""

ToTerminal = Callable[[Run, int, RunError], Chunk]
"""(run, number, error) → the last event of a run that has none of its own."""
ToStored = Callable[[Work, RunError | None], StoredAnswer]
"""(a run that is over, the error that ended it instead) → its HTTP answer, for a repeated idempotency key."""

BUG = RunError(code="internal_error", message="an internal error ended this run; see the server log")


class Performer:
    """One per process."""

    def __init__(self, store: RunStore, events: EventLog, to_terminal: ToTerminal, tally: Tally) -> None:
        self._store = store
        self._tally = tally
        self._events = events
        self._to_terminal = to_terminal
        self.on_end: Callable[[], None] = lambda: None
        """Called when the end of a run was stored."""

    def perform(self, run: Run, live: LiveRun, work: Work, first: int, to_stored: ToStored | None = None) -> RunEnd | None:
        """Read ``work`` to its end. ``first``: the number of its first event. Closes ``work``; raises nothing.

        Returns the end as it was stored, or None if the run was ended by another process.
        """
        number, terminal, error = first, None, None
        notes = Notes(self._store, run, live)
        try:
            for data in work.frames(is_kept=True):
                notes.update(work.facts())
                if not data or data.startswith(COMMENT):
                    continue
                chunk = Chunk(number, data.count(FRAME_END), data)
                if work.is_over:
                    terminal = chunk
                    break
                self._events.append(run.id, chunk)
                number = chunk.last + 1
            self._events.flush(run.id)
        except Fenced:
            log.warning("run %s was ended by another process, so it is stopped here", run.id)
            live.cancel()
            work.close()
            self._events.close(run.id)
            return None
        except StoreUnavailable as unavailable:
            log.error("run %s is stopped: its events cannot be stored: %s", run.id, unavailable.message)
            error, number = RunError(code=unavailable.code, message=unavailable.message), self.last(run) + 1
        except Exception:
            log.exception("run %s", run.id)
            error, number = BUG, self._after_flush(run)
        finally:
            work.close()
        facts = work.facts()
        end = _end(run, work, facts, terminal or self._terminal(run, number, error or BUG), error, to_stored)
        return end if self.end(run, end) else None

    def _after_flush(self, run: Run) -> int:
        """Store what was appended, if that is possible. Returns the number of the next event."""
        with suppress(Fenced, StoreUnavailable):
            self._events.flush(run.id)
        return self.last(run) + 1

    def refuse(self, run: Run, number: int, error: RunError) -> None:
        """End a claimed run that could not be started. ``number``: of its last event."""
        status: OutcomeStatus = "cancelled" if error.is_cancellation else "failed"
        self.end(run, RunEnd(status=status, terminal=self._terminal(run, number, error), error=error))

    def end(self, run: Run, end: RunEnd) -> bool:
        """Store the end, and tell the readers of the log. Waits while the database is unavailable. False: it is not stored."""
        deadline, pause_s = monotonic() + END_ATTEMPTS_S, FIRST_PAUSE_S
        while True:
            try:
                is_ours = self._store.end(run.id, end, attempt=run.attempt)
                break
            except StoreUnavailable as error:
                if monotonic() > deadline:
                    log.error("the end of run %s could not be stored: %s", run.id, error.message)
                    return False
            gevent.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        if not is_ours:
            log.warning("run %s had been ended by another process", run.id)
        elif run.is_background:
            self._tally.ended(run.kind, end.status)
        self._events.close(run.id)
        self.on_end()
        return is_ours

    def last(self, run: Run) -> int:
        """The number of the last event in the log. Waits while the database is unavailable."""
        return _patiently(lambda: self._events.last(run.id))

    def _terminal(self, run: Run, number: int, error: RunError) -> Chunk:
        return self._to_terminal(replace(run, begun=_patiently(lambda: self._events.first(run.id))), number, error)


def _patiently(read: Callable[[], T]) -> T:
    """Repeat ``read`` while the database is unavailable."""
    while True:
        try:
            return read()
        except StoreUnavailable:
            gevent.sleep(LONGEST_PAUSE_S)


class Notes:
    """Stores what becomes known of a run while it executes: of a background run its session and model at once, and the rest now and
    then. Most foreground runs have ended by then, and cost nothing."""

    def __init__(self, store: RunStore, run: Run, live: LiveRun) -> None:
        self._store = store
        self._run = run
        self._live = live
        self._known = RunFacts(backend=run.backend, model=run.model, session_id=run.session_id)
        self._noted_at = 0.0 if run.is_background else monotonic()

    def update(self, facts: RunFacts) -> None:
        known = self._known
        is_new = (facts.session_id, facts.model) != (known.session_id, known.model)
        if not is_new and facts.last_tool == known.last_tool:
            return
        if not (is_new and self._run.is_background) and monotonic() - self._noted_at < NOTE_INTERVAL_S:
            return
        self._known, self._noted_at = facts, monotonic()
        try:
            self._store.note(self._run.id, session_id=facts.session_id, model=facts.model, last_tool=facts.last_tool)
        except StoreUnavailable as error:  # the end has them too
            log.warning("%s", error.message)


def _end(run: Run, work: Work, facts: RunFacts, terminal: Chunk, error: RunError | None, to_stored: ToStored | None) -> RunEnd:
    failure, answer = work.failure, None
    if not error:
        try:
            answer = work.answer()
        except RunFailed as failed:
            failure = failed.failure
    return RunEnd(
        status="failed" if error else status_of(failure),
        terminal=terminal,
        result=orjson.dumps(answer.body) if answer else None,
        error=error or (to_error(failure) if failure else None),
        answer=to_stored(work, error) if to_stored else None,
        session_id=facts.session_id,
        cli_session_id=facts.cli_session_id,
        backend=facts.backend,
        model=facts.model,
        last_tool=facts.last_tool,
        passed_over=facts.passed_over,
        webhook_event=answer.webhook_event if answer else None,
    )
