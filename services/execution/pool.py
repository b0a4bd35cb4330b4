"""The processes of one backend that exist before their runs: which run gets which, how many there are, and for how long.

As in an HTTP client's connection pool, there is one list of workers, and each says what it can serve. A kind of run that comes a
second time gets a worker for the third; each time none is ready, one more is kept, up to the limits; one that was idle for too long
is not replaced.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from time import monotonic

import gevent
from gevent.event import Event

from services.cancellation import Cancellation
from services.clis.spec import BackendSpec, Invocation
from services.clis.warmth import WarmLimits
from services.errors import BackendUnavailable
from services.execution.circuit_breaker import CircuitBreaker
from services.execution.closing import Closing
from services.execution.demand import Demand, Demands
from services.execution.driver import Limits, Running
from services.execution.worker import Need, Problem, Worker, WorkerFactory
from services.processes import memory

log = logging.getLogger("clinvk.warm")

LOOK_EVERY_S = 5.0
LOOK_MOST_OFTEN_S = 0.1


class Pool:
    def __init__(
        self,
        spec: BackendSpec,
        factory: Callable[[BackendSpec], WorkerFactory],
        breaker: CircuitBreaker,
        *,
        clock: Callable[[], float] = monotonic,
        free_mb: Callable[[], float] = memory.recent_free_mb,
    ) -> None:
        self.breaker = breaker
        self._make_factory = factory
        self._clock = clock
        self._free_mb = free_mb
        self.workers: list[Worker] = []
        """Those that can take a run."""
        self._closing = Closing()
        self._demands = Demands(clock)
        self._generation = 0
        """Rises when nothing is to be kept of the runs that have begun until then."""
        self._is_closed = False
        self._changed = Event()
        self._greenlet: gevent.Greenlet | None = None
        self._configure(spec)

    def _configure(self, spec: BackendSpec) -> None:
        assert spec.warm
        self._spec = spec
        self._limits: WarmLimits = spec.warm
        self._factory = self._make_factory(spec)
        self._most = 1 if self._factory.is_multiplexed else spec.warm.max

    # -- runs --

    def start(self, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> Running | None:
        """The run in a worker, or in a process that is started for it and may become one; None where it must have one of its own.
        Raises BackendUnavailable."""
        session_id = "" if invocation.request.ephemeral else invocation.request.resume or ""
        need = self._factory.need(invocation) if self.breaker.is_closed else None
        keep = partial(self._attach, self._generation) if self._limits.live_max and not self._is_closed else None
        if need and (not need.session_id or keep) and (worker := self._take(need)):
            try:
                return worker.run(need, limits, cancellation, keep)
            except OSError:  # a process of its own will show what is wrong
                self._end(worker)
                return None
        if session_id:
            self.evict_session(session_id)
        return self._factory.start_reusable(need, limits, cancellation, keep) if need and keep else None

    def prestart(self, invocation: Invocation, count: int) -> None:
        """Keep so many workers ready for runs like this one, from now on."""
        if need := self._factory.need(invocation):
            self._expect(need, count)

    def on_run_finished(self, cwd: str, *, used_tools: bool) -> None:
        """``used_tools``: they may have changed what idle workers have read of the folder."""
        if used_tools and not self._factory.is_multiplexed:
            for worker in tuple(self.workers):
                if not worker.session_id and worker.need.invocation.cwd == cwd:
                    self._end(worker)
        self._wake()

    def evict_session(self, session_id: str) -> None:
        """End the session's worker, if there is one. Returns when it has gone."""
        for worker in (*self.workers, *self._closing):
            if worker.session_id == session_id:
                log.debug("%s: process %d serves its session no more", self._spec.name, worker.pid)
                self._end(worker).join()

    # -- the pool as a whole --

    def reconfigure(self, spec: BackendSpec) -> None:
        """Workers that were started with another spec serve no more runs."""
        if spec != self._spec:
            self.drain()
            self._configure(spec)

    def drain(self) -> None:
        """End every worker, with the runs that it serves; keep none until runs ask again."""
        self._generation += 1
        self._demands.clear()
        for worker in tuple(self.workers):
            self._end(worker)

    def close(self) -> None:
        """End every worker at once. Returns when they have gone."""
        self._is_closed = True
        if self._greenlet:
            self._greenlet.kill()
            self._greenlet = None
        self._closing.hurry()
        self.drain()
        self._closing.join()

    @property
    def ready_count(self) -> int:
        """Workers for any session."""
        return sum(not worker.session_id and worker.is_sound for worker in self.workers)

    # -- which run gets which worker --

    def _take(self, need: Need) -> Worker | None:
        found = [worker for worker in self.workers if worker.can_serve(need)]
        found.sort(key=lambda worker: not worker.is_initialized)  # stable: of two like it, the older one
        worker = next((worker for worker in found if not self._ended(worker)), None)
        if worker and not worker.is_multiplexed:
            self.workers.remove(worker)
        if not need.session_id:
            self._note(need, is_served=worker is not None)
        return worker

    def _ended(self, worker: Worker) -> bool:
        """End the worker if it has expired."""
        has_expired = worker.has_expired(self._limits, self._clock())
        if has_expired:
            self._end(worker)
        return has_expired

    def _note(self, need: Need, *, is_served: bool) -> None:
        demand = self._visit(need)
        is_first = demand.parameters is None
        demand.observe(need.parameters)
        if not is_served and (not is_first or self._factory.is_multiplexed):
            demand.miss(self._most)
            if self._factory.is_multiplexed:
                self._wake()

    def _expect(self, need: Need, count: int) -> None:
        demand = self._visit(need)
        demand.min_size = demand.target = min(count, self._most)
        demand.parameters, demand.is_steady = need.parameters, True
        self._wake()

    def _visit(self, need: Need) -> Demand:
        demand, forgotten = self._demands.visit(need)
        for key in forgotten:
            self._end_key(key)
        return demand

    def _attach(self, generation: int, worker: Worker) -> None:
        """Keep the worker that a run leaves for its session's next turn, unless there is a reason against it."""
        is_wanted = worker.session_id and generation == self._generation and not self._is_closed and self.breaker.is_closed
        is_taken = any(other.session_id == worker.session_id for other in self.workers)
        if not is_wanted or is_taken or self._free_mb() < self._limits.min_free_mb or worker.has_expired(self._limits, self._clock()):
            worker.close()
            return
        self.workers.append(worker)
        bound = [other for other in self.workers if other.session_id]
        for oldest in bound[: max(0, len(bound) - self._limits.live_max)]:
            self._end(oldest)
        self._wake()

    # -- how many workers there are --

    def _wake(self) -> None:
        self._changed.set()
        if (self._greenlet is None or self._greenlet.dead) and not self._is_closed:
            self._greenlet = gevent.spawn(self._work)

    def _work(self) -> None:
        while True:
            self._changed.clear()
            self.maintain()
            self._changed.wait(max(LOOK_MOST_OFTEN_S, min(LOOK_EVERY_S, self._limits.idle_s)))

    def maintain(self) -> None:
        """End the workers that are not to serve any more; start those that are missing."""
        self._expire()
        while self.breaker.is_closed and (demand := self._demands.next_to_fill(self._sizes())) and self._has_room_for(demand):
            self._fill(demand)

    def _expire(self) -> None:
        now, limits = self._clock(), self._limits
        is_short = self._free_mb() < limits.min_free_mb / 2
        sizes = self._sizes()
        states = {demand.need.key: self._factory.state(demand.need) for demand in self._demands if sizes[demand.need.key]}
        for worker in tuple(self.workers):
            if problem := worker.problem:
                self._record(problem)
            is_stale = states.get(worker.need.key, worker.need.state) != worker.need.state
            is_late = worker.is_idle and now - worker.idle_since > limits.idle_s and self._is_spare(worker)
            if is_late or (is_short and worker.is_idle) or is_stale or worker.has_expired(limits, now):
                self._end(worker)
                if is_late and (demand := self._demands.get(worker.need.key)) and not worker.session_id:
                    demand.relax()

    def _is_spare(self, worker: Worker) -> bool:
        demand = self._demands.get(worker.need.key)
        return bool(worker.session_id) or demand is None or self._sizes()[worker.need.key] > demand.min_size

    def _has_room_for(self, demand: Demand) -> bool:
        if self._free_mb() < self._limits.min_free_mb:
            return False
        sizes = self._sizes()
        if sizes.total() < self._limits.max:
            return True
        if other := self._demands.next_to_evict(self._sizes(idle_only=True), demand):
            worker = next(
                worker for worker in self.workers if worker.need.key == other.need.key and not worker.session_id and worker.is_idle
            )
            other.target = max(other.min_size, sizes[other.need.key] - 1)
            self._end(worker).join()
            return True
        demand.target = sizes[demand.need.key]
        return False

    def _fill(self, demand: Demand) -> None:
        need = self._factory.renewed(demand.need)
        if need is None or need.key != demand.need.key:
            self._replace(demand, need)
            return
        try:
            worker = self._factory.start(need, demand.parameters if demand.is_steady else None)
        except (BackendUnavailable, OSError) as error:
            log.warning("%s: a process could not be prestarted: %s", self._spec.name, error)
            demand.record_failure()
            return
        try:
            problem = worker.wait_ready()
        except BaseException:  # `close` ends this greenlet, or a bug does
            self._end(worker)
            demand.record_failure()
            raise
        if not problem and worker.rss_mb > self._limits.max_rss_mb:
            setting = f"backends.{self._spec.name}.warm.max_rss_mb"
            problem = Problem(f"it holds more than {self._limits.max_rss_mb} MB as soon as it is up ({setting})")
        if problem:
            self._end(worker)
            demand.record_failure()
            self._record(problem)
        elif self._sizes()[need.key] >= demand.target:  # nobody wants it any more
            self._end(worker)
        else:
            demand.backoff.record_success()
            self.workers.append(worker)
            where = "for every folder" if worker.is_multiplexed else f"in {need.invocation.cwd}"
            log.debug("%s: process %d waits %s", self._spec.name, worker.pid, where)

    def _replace(self, demand: Demand, need: Need | None) -> None:
        """The CLI's configuration has changed, and its runs have another key now."""
        log.debug("%s: what a process in %s is started with has changed", self._spec.name, demand.need.invocation.cwd)
        min_size = demand.min_size
        self._demands.forget(demand.need.key)
        self._end_key(demand.need.key)
        if need and min_size:
            self._expect(need, min_size)

    def _record(self, problem: Problem) -> None:
        self.breaker.record_failure(problem.message, is_permanent=problem.is_permanent)

    def _sizes(self, *, idle_only: bool = False) -> Counter[Hashable]:
        """By key, the workers for any session."""
        return Counter(one.need.key for one in self.workers if not one.session_id and (one.is_idle or not idle_only))

    def _end_key(self, key: Hashable) -> None:
        for worker in tuple(self.workers):
            if worker.need.key == key and not worker.session_id:
                self._end(worker)

    def _end(self, worker: Worker) -> gevent.Greenlet:
        if worker in self.workers:
            self.workers.remove(worker)
        return self._closing.end(worker)
