"""All that a process has for its runs."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from services.access.scope import Scope
from services.errors import NotFound
from services.runs.limits import RunLimits
from services.runs.live import LiveRuns
from services.runs.log import EventLog
from services.runs.lookup import RunLookup
from services.runs.peers import Peers
from services.runs.performer import Performer
from services.runs.record import ENDED, Chunk, Run, RunStatus
from services.runs.store import RunStore
from services.runs.tally import Tally
from services.runs.webhooks.deliverer import Deliverer
from services.runs.worker import RunWorker

POLL_S = 1.0
"""How often a waiting reader looks at a run that another process executes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """One per process, built once; a new configuration replaces ``limits``."""

    store: RunStore
    events: EventLog
    live: LiveRuns
    performer: Performer
    worker: RunWorker
    lookup: RunLookup
    peers: Peers
    deliverer: Deliverer
    tally: Tally
    limits: RunLimits = RunLimits()

    def wake_workers(self) -> None:
        """A run was put into the queue: this process takes it if it has room, or another one."""
        self.worker.wake()
        self.peers.tell("wake")

    def terminal_of(self, id: str) -> Chunk | None:
        """The terminal event of a run that has ended; None while it goes on. Raises NotFound."""
        return self.store.terminal_of(id)

    def will_not_end(self, id: str) -> bool:
        """Whether this process stops before the run can end: then nobody waits for it here."""
        return self.worker.is_draining and self.live.get(id) is None

    def wait(self, run: Run, timeout_s: float) -> Run:
        """The run when it has ended, waits for an answer, or ``timeout_s`` have passed. Raises NotFound if nothing of it is kept."""
        deadline, status, has_waited = monotonic() + timeout_s, run.status, False

        def left_s() -> float:
            return max(0.0, deadline - monotonic())

        # No gevent.Timeout: it would interrupt a query, which PostgreSQL's driver does not survive.
        with self.events.subscribe(run.id) as subscription:
            while status not in (*ENDED, "waiting") and left_s() and not self.will_not_end(run.id):
                while isinstance(subscription.next(min(POLL_S, left_s())), Chunk) and left_s():
                    pass  # the end is not told by events
                status, has_waited = self._status_of(run), True
        return self.lookup.get(run.id, Scope(run.owner)) if has_waited else run

    def _status_of(self, run: Run) -> RunStatus:
        try:
            return self.store.status_of(run.id)
        except NotFound:  # of a foreground run that is not stored
            return self.lookup.get(run.id, Scope(run.owner)).status
