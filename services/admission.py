"""Admission control: limits the CLI processes that run at a time and queues the requests beyond the limit."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from time import monotonic

from gevent.event import Event

from services.cancellation import Cancellation
from services.errors import QueueFull, RunFailed

SMOOTHING = 0.2
"""Weight of the latest run in the exponential moving average of run times."""
INITIAL_MEAN_RUN_S = 10.0
MAX_RETRY_AFTER_S = 600.0
"""Upper bound of the ``Retry-After`` estimate."""


class Slot:
    """The right to run one process, until `release`."""

    def __init__(self, admission: AdmissionControl, backend: str) -> None:
        self._admission: AdmissionControl | None = admission
        self._backend = backend
        self._since = monotonic()

    def release(self) -> None:
        if self._admission:
            admission, self._admission = self._admission, None
            admission._release(self._backend, monotonic() - self._since)


class _Waiter:
    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.changed = Event()
        self.is_admitted = False
        self.is_displaced = False


_Queues = dict[str, deque[_Waiter]]
"""By caller."""


class AdmissionControl:
    """At most ``limit`` runs at a time, at most ``backend_limits[name]`` of a backend, and a bounded queue for the rest.

    The queue is fair: callers are served round-robin, each caller's requests in order. When it is full, the newest request of the
    caller with the most queued requests is displaced by that of a caller with fewer.

    Background runs wait behind all others, without a bound or a time limit of this class: their queue is in the run store, and a worker
    claims one only when there is room. Here wait those of a composed run, and those that lost their room to another meanwhile.
    """

    def __init__(self, limit: int, *, queue_limit: int, queue_timeout_s: float, backend_limits: Mapping[str, int]) -> None:
        self._running: Counter[str] = Counter()
        self._queues: _Queues = {}
        self._background: _Queues = {}
        self._mean_run_s = INITIAL_MEAN_RUN_S
        self.reconfigure(limit, queue_limit=queue_limit, queue_timeout_s=queue_timeout_s, backend_limits=backend_limits)

    def reconfigure(self, limit: int, *, queue_limit: int, queue_timeout_s: float, backend_limits: Mapping[str, int]) -> None:
        """Replace the limits. Runs that hold a slot keep it."""
        self._limit = limit
        self._queue_limit = queue_limit
        self._queue_timeout_s = queue_timeout_s
        self._backend_limits = backend_limits
        self._admit_waiting()

    @property
    def running(self) -> int:
        return self._running.total()

    @property
    def queued(self) -> int:
        """Requests in the bounded queue."""
        return sum(map(len, self._queues.values()))

    @property
    def limit(self) -> int:
        return self._limit

    @property
    def queue_limit(self) -> int:
        return self._queue_limit

    @property
    def queue_timeout_s(self) -> float:
        return self._queue_timeout_s

    def room(self, backend: str = "") -> int:
        """How many runs of ``backend``, or of any, would get a slot at once."""
        free = self._limit - self.running
        if backend in self._backend_limits:
            free = min(free, self._backend_limits[backend] - self._running[backend])
        return max(0, free)

    def acquire(self, backend: str, caller: str, cancellation: Cancellation, *, is_background: bool = False) -> Slot:
        """Wait for a slot. Raises QueueFull when the queue is full or the wait times out, RunFailed when cancelled while waiting."""
        # `_admit_waiting` runs whenever a slot is freed, so no queued request can use the room that is left.
        if self.room(backend):
            self._running[backend] += 1
            return Slot(self, backend)
        if is_background:
            return self._wait(_Waiter(backend), self._background, caller, cancellation, None)
        if self.queued >= self._queue_limit and not self._displace_for(caller):
            raise self._full(backend)
        return self._wait(_Waiter(backend), self._queues, caller, cancellation, self._queue_timeout_s)

    def _wait(self, waiter: _Waiter, queues: _Queues, caller: str, cancellation: Cancellation, timeout_s: float | None) -> Slot:
        queues.setdefault(caller, deque()).append(waiter)
        self._admit_waiting()
        stop_listening = cancellation.listen(waiter.changed.set)
        try:
            waiter.changed.wait(timeout_s)
        finally:
            stop_listening()
            if not waiter.is_admitted:
                _forget(queues, waiter, caller)
        if waiter.is_admitted:
            return Slot(self, waiter.backend)
        if cancellation.failure:
            raise RunFailed(cancellation.failure)
        if waiter.is_displaced:
            raise self._full(waiter.backend)
        raise QueueFull(
            f"no slot became free in {self._queue_timeout_s:g} s (server.queue_timeout_secs)",
            retry_after_s=self._wait_estimate_s(waiter.backend),
        )

    def _displace_for(self, caller: str) -> bool:
        """Displace the newest request of the caller with the most queued ones, if ``caller`` has fewer. Returns whether it did."""
        own = len(self._queues.get(caller, ()))
        greediest = max(self._queues, key=lambda name: len(self._queues[name]), default=caller)
        if greediest == caller or len(self._queues[greediest]) <= own + 1:
            return False
        waiter = self._queues[greediest][-1]
        waiter.is_displaced = True
        waiter.changed.set()
        _forget(self._queues, waiter, greediest)
        return True

    def _full(self, backend: str) -> QueueFull:
        return QueueFull(
            f"the queue is full: {self.running} runs in progress, {self.queued} waiting (server.max_queued_runs)",
            retry_after_s=self._wait_estimate_s(backend),
        )

    def _release(self, backend: str, run_s: float) -> None:
        self._running[backend] -= 1
        self._mean_run_s += SMOOTHING * (run_s - self._mean_run_s)
        self._admit_waiting()

    def _admit_waiting(self) -> None:
        """Give free slots to the callers round-robin: a caller that got one moves to the end of the round."""
        for queues in (self._queues, self._background):
            while self._admit_round(queues):
                pass

    def _admit_round(self, queues: _Queues) -> bool:
        """Admit at most one waiter of each caller. Returns whether there was one."""
        admitted = False
        for caller, queue in tuple(queues.items()):
            waiter = next((waiter for waiter in queue if self.room(waiter.backend)), None)
            if waiter is None:
                continue
            self._running[waiter.backend] += 1
            waiter.is_admitted = admitted = True
            waiter.changed.set()
            _forget(queues, waiter, caller)
            if queue:
                queues[caller] = queues.pop(caller)
        return admitted

    def _wait_estimate_s(self, backend: str) -> float:
        """Expected wait of a new request, from the mean run time."""
        at_a_time = min(self._limit, self._backend_limits.get(backend, self._limit))
        return min(max(1.0, self._mean_run_s * (self.queued + 1) / at_a_time), MAX_RETRY_AFTER_S)


def _forget(queues: _Queues, waiter: _Waiter, caller: str) -> None:
    queue = queues.get(caller)
    if queue and waiter in queue:
        queue.remove(waiter)
        if not queue:
            del queues[caller]
