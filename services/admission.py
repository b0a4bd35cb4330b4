"""Admission: how many CLI processes run at a time, and who waits. Nothing is started for a request that is refused."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from time import monotonic

from gevent.event import Event

from services.cancellation import Cancellation
from services.errors import QueueFull, RunFailed

SMOOTHING = 0.2
"""Weight of the latest run in the running mean of run times."""
FIRST_GUESS_S = 10.0
LONGEST_WAIT_S = 600.0
"""No client is told to stay away for longer, whatever the estimate says."""


class Slot:
    """The right to run one process; given back by `release`."""

    def __init__(self, admission: AdmissionControl, backend: str) -> None:
        self._admission: AdmissionControl | None = admission
        self._backend = backend
        self._since = monotonic()

    def release(self) -> None:
        if self._admission:
            admission, self._admission = self._admission, None
            admission._leave(self._backend, monotonic() - self._since)


class _Waiter:
    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.changed = Event()
        self.is_admitted = False
        self.is_displaced = False


class AdmissionControl:
    """At most ``limit`` runs at a time, and per backend what ``backend_limits`` says; beyond that a bounded queue.

    Fair between callers: they are served in turn, whoever has how many requests waiting; one caller's own in order. Where the
    queue is full, who has the most in it makes room for who has fewer.
    """

    def __init__(self, limit: int, *, queue_limit: int, queue_timeout_s: float, backend_limits: Mapping[str, int]) -> None:
        self._running: Counter[str] = Counter()
        self._queues: dict[str, deque[_Waiter]] = {}
        self._mean_run_s = FIRST_GUESS_S
        self.renew(limit, queue_limit=queue_limit, queue_timeout_s=queue_timeout_s, backend_limits=backend_limits)

    def renew(self, limit: int, *, queue_limit: int, queue_timeout_s: float, backend_limits: Mapping[str, int]) -> None:
        """Other limits from now on. Who is in stays in."""
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
        return sum(map(len, self._queues.values()))

    @property
    def limit(self) -> int:
        return self._limit

    @property
    def queue_limit(self) -> int:
        return self._queue_limit

    def acquire(self, backend: str, caller: str, cancellation: Cancellation) -> Slot:
        """Wait for a place. Raises QueueFull when there is none to be had in time, RunFailed when cancelled meanwhile."""
        # `_admit_waiting` runs whenever a place is freed, so where there is room, no queued request could have used it.
        if self._has_room(backend):
            self._running[backend] += 1
            return Slot(self, backend)
        if self.queued >= self._queue_limit and not self._displace_for(caller):
            raise self._full(backend)
        return self._wait(_Waiter(backend), caller, cancellation)

    def _wait(self, waiter: _Waiter, caller: str, cancellation: Cancellation) -> Slot:
        self._queues.setdefault(caller, deque()).append(waiter)
        self._admit_waiting()
        stop_listening = cancellation.listen(waiter.changed.set)
        try:
            waiter.changed.wait(self._queue_timeout_s)
        finally:
            stop_listening()
            if not waiter.is_admitted:
                self._forget(waiter, caller)
        if waiter.is_admitted:
            return Slot(self, waiter.backend)
        if cancellation.failure:
            raise RunFailed(cancellation.failure)
        if waiter.is_displaced:
            raise self._full(waiter.backend)
        raise QueueFull(
            f"no place became free in {self._queue_timeout_s:g} s (server.queue_timeout_secs)",
            retry_after_s=self._wait_estimate_s(waiter.backend),
        )

    def _displace_for(self, caller: str) -> bool:
        """Whether the latest of the caller with the most in the queue has made room for one with fewer."""
        own = len(self._queues.get(caller, ()))
        greediest = max(self._queues, key=lambda name: len(self._queues[name]), default=caller)
        if greediest == caller or len(self._queues[greediest]) <= own + 1:
            return False
        waiter = self._queues[greediest][-1]
        waiter.is_displaced = True
        waiter.changed.set()
        self._forget(waiter, greediest)
        return True

    def _full(self, backend: str) -> QueueFull:
        return QueueFull(
            f"{self.running} runs are going and {self.queued} wait: the queue is full (server.max_queued_runs)",
            retry_after_s=self._wait_estimate_s(backend),
        )

    def _has_room(self, backend: str) -> bool:
        of_backend = self._backend_limits.get(backend, self._limit)
        return self.running < self._limit and self._running[backend] < of_backend

    def _leave(self, backend: str, run_s: float) -> None:
        self._running[backend] -= 1
        self._mean_run_s += SMOOTHING * (run_s - self._mean_run_s)
        self._admit_waiting()

    def _admit_waiting(self) -> None:
        """Give free places to the callers in turn; the caller that got one goes to the end of the round."""
        admitted = True
        while admitted:
            admitted = False
            for caller, queue in tuple(self._queues.items()):
                waiter = next((waiter for waiter in queue if self._has_room(waiter.backend)), None)
                if waiter is None:
                    continue
                self._running[waiter.backend] += 1
                waiter.is_admitted = admitted = True
                waiter.changed.set()
                self._forget(waiter, caller)
                if queue:
                    self._queues[caller] = self._queues.pop(caller)

    def _forget(self, waiter: _Waiter, caller: str) -> None:
        queue = self._queues.get(caller)
        if queue and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self._queues[caller]

    def _wait_estimate_s(self, backend: str) -> float:
        """What a caller who comes now would wait, from what runs have been taking."""
        at_a_time = min(self._limit, self._backend_limits.get(backend, self._limit))
        return min(max(1.0, self._mean_run_s * (self.queued + 1) / at_a_time), LONGEST_WAIT_S)
