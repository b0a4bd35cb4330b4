"""Workers without processes, for a pool with a clock of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from gevent.event import Event

from services.cancellation import Cancellation
from services.clis.gemini import spec as gemini
from services.clis.spec import BackendSpec, Invocation
from services.clis.warmth import Parameters, WarmLimits
from services.execution.circuit_breaker import CircuitBreaker
from services.execution.driver import Limits
from services.execution.pool import Pool
from services.execution.worker import Keep, Need, Problem
from tests.unit.services.clis.invoked import invoked

PIDS = count(1)


@dataclass
class FakeRun:
    """What the pool hands out. `finish` is the end of a turn whose process can be kept."""

    worker: FakeWorker
    need: Need
    keep: Keep | None
    began_as: str = "warm"

    def finish(self, session_id: str) -> FakeWorker:
        assert self.keep
        bound = replace(self.worker, need=self.need, session_id=session_id, uses=self.worker.uses + 1, pid=self.worker.pid)
        bound.idle_since = self.worker.factory.clock()
        self.keep(bound)
        return bound

    def end(self) -> None:
        """Of a run in a multiplexed worker."""
        self.worker.active -= 1
        if not self.worker.active:
            self.worker.unused.set()


@dataclass(eq=False)
class FakeWorker:
    factory: FakeFactory
    need: Need
    parameters: Parameters | None = None
    session_id: str = ""
    pid: int = field(default_factory=lambda: next(PIDS))
    uses: int = 0
    active: int = 0
    rss_mb: float = 1.0
    is_sound: bool = True
    problem: Problem | None = None
    not_ready: Problem | BaseException | None = None
    run_error: OSError | None = None
    closes: list[bool] = field(default_factory=list)
    """Whether each call waited for runs."""

    def __post_init__(self) -> None:
        self.is_multiplexed = self.factory.is_multiplexed
        self.unused = Event()
        self.unused.set()
        self.started_at = self.idle_since = self.factory.clock()
        self.factory.workers.append(self)

    @property
    def is_closed(self) -> bool:
        return bool(self.closes)

    @property
    def is_idle(self) -> bool:
        return not self.active

    @property
    def is_initialized(self) -> bool:
        return self.parameters is not None

    def can_serve(self, need: Need) -> bool:
        fits = (need.key, need.state, need.session_id) == (self.need.key, self.need.state, self.session_id) and self.is_sound
        return fits and self.parameters in (None, need.parameters)

    def has_expired(self, limits: WarmLimits, now: float) -> bool:
        is_old = now - self.started_at > limits.max_age_s or self.uses >= limits.max_uses
        return is_old or not self.is_sound or self.rss_mb > limits.max_rss_mb

    def wait_ready(self) -> Problem | None:
        if isinstance(self.not_ready, BaseException):
            raise self.not_ready
        return self.not_ready

    def run(self, need: Need, limits: Limits, cancellation: Cancellation, keep: Keep | None) -> Any:
        if self.run_error:
            raise self.run_error
        self.active += self.is_multiplexed
        if self.active:
            self.unused.clear()
        self.uses += self.is_multiplexed
        return FakeRun(self, need, keep)

    def close(self, *, wait_for_runs: bool = True) -> None:
        self.closes.append(wait_for_runs)
        if not wait_for_runs:
            self.unused.set()
        self.unused.wait()


@dataclass
class FakeFactory:
    clock: Callable[[], float]
    is_multiplexed: bool = False
    keeps_sessions: bool = True
    workers: list[FakeWorker] = field(default_factory=list)
    started: list[tuple[Need, Parameters | None]] = field(default_factory=list)
    now_state: object = "state"
    renewed_key: Callable[[Any], Any] = lambda key: key
    start_error: OSError | None = None
    not_ready: Problem | BaseException | None = None
    rss_mb: float = 1.0

    def need(self, invocation: Invocation) -> Need:
        key = (invocation.cwd, invocation.model)
        parameters = {name: value for name, value in invocation.request.options.items() if name == "system_prompt"}
        return Need(key, parameters, self.now_state, invocation.request.resume or "", invocation)

    def state(self, need: Need) -> object:
        return self.now_state

    def renewed(self, need: Need) -> Need | None:
        return replace(need, key=self.renewed_key(need.key), state=self.now_state)

    def start(self, need: Need, parameters: Parameters | None) -> FakeWorker:
        if self.start_error:
            raise self.start_error
        self.started.append((need, parameters))
        return FakeWorker(self, need, parameters, not_ready=self.not_ready, rss_mb=self.rss_mb)

    def start_reusable(self, need: Need, limits: Limits, cancellation: Cancellation, keep: Keep) -> Any:
        return FakeRun(FakeWorker(self, need, need.parameters), need, keep, "cold") if self.keeps_sessions else None


class Harness:
    """A pool of fake workers."""

    def __init__(self, *, is_multiplexed: bool = False, keeps_sessions: bool = False, **limits: Any) -> None:
        self.now = 1000.0
        self.free = 10_000.0
        self.factory = FakeFactory(lambda: self.now, is_multiplexed, keeps_sessions)
        self.breaker = CircuitBreaker("fake", lambda: self.now)
        self.spec = replace(gemini.SPEC, warm=WarmLimits(**{"max": 3, "live_max": 2, "min_free_mb": 100} | limits))
        self.pool = Pool(self.spec, self._make, self.breaker, clock=lambda: self.now, free_mb=lambda: self.free)

    def _make(self, spec: BackendSpec) -> Any:
        return self.factory

    def ask(self, cwd: str = "/work", **request: Any) -> Any:
        """The run in a worker, or one that is started for it; None for a process of its own."""
        options = {name: request.pop(name) for name in ("model", "system_prompt") if name in request}
        invocation = replace(invoked(self.spec, options=options, **request), cwd=cwd)
        return self.pool.start(invocation, Limits(), Cancellation())

    def demand(self, cwd: str = "/work", times: int = 2, **request: Any) -> None:
        """Ask often enough that a worker is kept, and have it started."""
        for _ in range(times):
            self.ask(cwd, **request)
        self.pool.maintain()

    def prestart(self, count: int, cwd: str = "/work") -> None:
        self.pool.prestart(replace(invoked(self.spec), cwd=cwd), count)
        self.pool.maintain()

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.pool.maintain()

    @property
    def ready(self) -> list[FakeWorker]:
        return [worker for worker in self.pool.workers if not worker.session_id]  # type: ignore[misc]

    @property
    def folders(self) -> list[str]:
        return [os.path.basename(worker.need.invocation.cwd) for worker in self.ready]
