"""Takes queued runs from the store while this process has room, and executes each in its own greenlet."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from time import monotonic

import gevent
from gevent.event import Event

from services.access.scope import EVERYONE
from services.admission import AdmissionControl
from services.cancellation import SERVER_STOPPED, Cancellation
from services.errors import ClinvkError, RunFailed, StoreUnavailable
from services.event_loop import yield_to_others
from services.events import Failed
from services.runs.burial import WORKER_LOST
from services.runs.limits import RunLimits
from services.runs.live import LiveRun, LiveRuns
from services.runs.log import EventLog
from services.runs.performer import BUG, Performer
from services.runs.record import Chunk, Run, RunError
from services.runs.store import RunStore
from services.runs.tally import Tally
from services.runs.work import RunFacts, Work, to_error
from services.store.leases import BEAT_S

log = logging.getLogger("clinvk.runs")

ANY = ""
"""Stands for the backend of a run that may use several."""
CANCEL_S = 1.0
"""How often the store is asked for cancellations."""
TIMEOUT_MARGIN_S = 1.0
"""A run of one CLI has the same limit itself, and its message names the open tool call: it is first."""

Start = Callable[[Run, Cancellation, int], Work]
"""(a claimed run, its cancellation, the number of its first event) → the started run. Raises ClinvkError if it cannot be started."""


class RunWorker:
    """One per serving process. `start` may be called again, also after a fork."""

    def __init__(
        self,
        store: RunStore,
        events: EventLog,
        performer: Performer,
        live: LiveRuns,
        admission: AdmissionControl,
        tally: Tally,
        *,
        backends: Callable[[], list[str]],
        to_lost: Callable[[Run, int], Chunk],
        to_restarted: Callable[[Run, int], Chunk],
        end_leftovers: Callable[[], object],
    ) -> None:
        """``backends``: those that this process has. ``to_lost``: the last event of a run whose worker was lost; ``to_restarted``: the
        event before its second attempt; ``end_leftovers`` ends the processes of dead servers of this machine."""
        self._store = store
        self._events = events
        self._performer = performer
        self._live = live
        self._admission = admission
        self._tally = tally
        self._backends = backends
        self._limits = RunLimits()
        self._to_lost = to_lost
        self._to_restarted = to_restarted
        self._end_leftovers = end_leftovers
        self._starting: Counter[str] = Counter()
        self._runs: dict[str, LiveRun] = {}
        self._astray: set[str] = set()
        """The runs that differed at the latest beat; see `_reconcile`."""
        self._asked_at = 0.0
        self._woken = Event()
        self.is_draining = False
        """Whether it takes no more runs."""
        self._greenlet: gevent.Greenlet | None = None

    def start(self, start_run: Start, limits: RunLimits) -> None:
        """Called again, it replaces both: the configuration has changed."""
        self._start_run = start_run
        self._limits = limits
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = gevent.spawn(self._work)

    @property
    def busy(self) -> int:
        """Runs that this process executes."""
        return len(self._runs)

    def wake(self) -> None:
        """A run may be waiting."""
        self._woken.set()

    def drain(self) -> None:
        """Take no more runs. Those in progress go on."""
        self.is_draining = True

    def stop(self) -> None:
        """End the runs in progress that are stored, those of waiting clients too. Each has failed with `server_stopped`."""
        for run in self._live:
            if run.is_stored:
                run.cancellation.cancel(SERVER_STOPPED)

    def beat(self) -> None:
        """Cancel what was cancelled elsewhere, and end or queue again the runs of dead processes."""
        self._cancel(self._store.to_cancel())
        for run in self._store.bury(self._to_lost, self._to_restarted, self._end_leftovers):
            log.warning("run %s: its worker was lost; it is %s now", run.id, run.status)
            self._events.close(run.id)
            self._tally.lost()
        self._reconcile()
        self.wake()

    def _reconcile(self) -> None:
        """Bring together what the store says that this process executes, and what it does execute. They differ for a moment at each start
        and end, so only what differs at two beats in a row counts."""
        held = self._store.held()
        executed = {run.id for run in self._live if run.is_stored}
        astray, self._astray = self._astray, held ^ executed
        for id in astray & self._astray:
            if live := self._live.get(id):
                log.warning("run %s was ended by another process, so it is stopped here", id)
                live.cancel()
            else:
                log.error("run %s is executed by nobody, so it has failed", id)
                self._performer.refuse(self._store.get(id, EVERYONE), self._events.last(id) + 1, WORKER_LOST)

    def expire(self) -> None:
        """Delete what has been kept for long enough."""
        limits = self._limits
        if count := self._store.expire(retention_s=limits.retention_s, events_retention_s=limits.events_retention_s):
            log.info("deleted %d runs (runs.retention_days)", count)

    def _work(self) -> None:
        while not self.is_draining:
            try:
                self._claim()
                self._cancel_requested()
            except StoreUnavailable as error:  # the next beat retries
                log.warning("%s", error.message)
            except Exception:
                log.exception("runs could not be taken from the queue")
            self._woken.wait(CANCEL_S if self._runs else BEAT_S)
            self._woken.clear()

    def _cancel_requested(self) -> None:
        """Cancel what was cancelled on another machine. One of this machine tells at once (`services.runs.lookup`)."""
        if self._runs and monotonic() - self._asked_at >= CANCEL_S:
            self._asked_at = monotonic()
            self._cancel(self._store.to_cancel())

    def _cancel(self, ids: Iterable[str]) -> None:
        for id in ids:
            if live := self._live.get(id):
                live.cancel()

    def _claim(self) -> None:
        while not self.is_draining and (free := self._free_backends()):
            run = self._store.claim(free)
            if run is None:
                return
            live = _to_live(run)
            self._runs[run.id] = live
            self._starting[run.backend or ANY] += 1
            self._live.enter(live)
            gevent.spawn(self._execute, run, live)
            yield_to_others()  # a request may have 10 MB

    def _free_backends(self) -> list[str]:
        """The backends that a run would get a slot of, apart from those that claimed runs are about to take."""
        if self._admission.room() <= self._starting.total():
            return []
        return [name for name in self._backends() if self._admission.room(name) > self._starting[name]]

    def _execute(self, run: Run, live: LiveRun) -> None:
        timeout_s = min(run.timeout_s or self._limits.timeout_s, self._limits.timeout_s)
        timeout = Failed("timeout", f"the run exceeded its time limit of {timeout_s:g} s (runs.timeout_secs) and was stopped")
        timer = gevent.spawn_later(timeout_s + TIMEOUT_MARGIN_S, live.cancellation.cancel, timeout)
        try:
            first = self._performer.last(run) + 1
            if work := self._started(run, live, first):
                live.begin(work)
                self._performer.perform(run, live, work, first)
        except Exception:
            log.exception("run %s", run.id)
        finally:
            timer.kill()
            self._live.leave(live)
            del self._runs[run.id]
            self.wake()

    def _started(self, run: Run, live: LiveRun, first: int) -> Work | None:
        """The started run; None if it could not be started, which is its end."""
        try:
            return self._start_run(run, live.cancellation, first)
        except RunFailed as error:  # cancelled while it waited for its slot
            self._performer.refuse(run, first, to_error(error.failure))
        except ClinvkError as error:
            self._performer.refuse(run, first, RunError(code=error.code, message=error.message))
        except Exception:
            log.exception("run %s could not be started", run.id)
            self._performer.refuse(run, first, BUG)
        finally:
            self._starting[run.backend or ANY] -= 1
        return None


def _to_live(run: Run) -> LiveRun:
    return LiveRun(
        id=run.id,
        kind=run.kind,
        owner=run.owner,
        request_id=run.request_id,
        cancellation=Cancellation(),
        is_background=True,
        is_stored=True,
        title=run.title,
        tags=run.tags,
        metadata=run.metadata,
        expected=RunFacts(backend=run.backend, model=run.model, session_id=run.session_id),
        created_at=run.created_at,
    )
