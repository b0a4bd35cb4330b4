"""Runs in processes that are there already, where there is one for the run; else, and where that fails, in one of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Protocol

from services.cancellation import Cancellation
from services.clis.spec import BackendSpec, Invocation
from services.errors import BackendUnavailable
from services.events import Batch, Failed, Started, ToolCall, UsageUpdate
from services.execution.circuit_breaker import CircuitBreaker
from services.execution.driver import Breakable, Driver, Limits, Running
from services.execution.multiplexed_pool import SharedPool
from services.execution.pool import ProcessPool
from services.execution.session_pool import LivePool
from services.processes.spawner import Spawner
from services.telemetry import Start

log = logging.getLogger("clinvk.warm")


class Pool(Protocol):
    def start(self, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> Running | None: ...
    def begin(self, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> Running | None: ...
    def release(self, session_id: str) -> None: ...
    def settle(self, cwd: str, *, has_worked: bool) -> None: ...
    def prestart(self, invocation: Invocation, count: int) -> None: ...
    def renew(self, spec: BackendSpec) -> None: ...
    def retire(self) -> None: ...
    def close(self) -> None: ...
    @property
    def ready_count(self) -> int: ...


POOLS: dict[str, Callable[[BackendSpec, Spawner, Mapping[str, str], CircuitBreaker], Pool]] = {
    "claude-stream": LivePool,
    "codex-app-server": SharedPool,
    "held-stdin": ProcessPool,
}
"""By `Warmth.driver`."""


class WarmDriver:
    """A `Driver` over another one, which starts a process for every run."""

    def __init__(self, cold: Driver, spawner: Spawner, environ: Mapping[str, str]) -> None:
        self._cold = cold
        self._spawner = spawner
        self._environ = environ
        self._pools: dict[str, tuple[Pool, CircuitBreaker]] = {}
        self._is_retired = False

    def start(self, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> Running:
        spec = invocation.spec
        if self._is_retired or not spec.may_be_warm:
            if session_id := invocation.request.resume:
                self.release(spec.name, session_id)
            return self._cold.start(invocation, limits, cancellation)
        pool, breaker = self._pool(spec)

        def start_cold() -> Running:
            return self._cold.start(invocation, limits, cancellation)

        warm = pool.start(invocation, limits, cancellation)
        log.debug("%s: a run %s", spec.name, "is warm" if warm else "starts a process of its own")
        running = warm or pool.begin(invocation, limits, cancellation)
        run = WarmRun(running or start_cold(), start_cold if running else None, pool, breaker, invocation, cancellation)
        run.began_as = "warm" if warm else "cold"
        return run

    def prestart(self, invocation: Invocation, count: int) -> None:
        """Have processes ready for runs like this one, where its backend may have any."""
        spec = invocation.spec
        if spec.may_be_warm and not self._is_retired:
            self._pool(spec)[0].prestart(invocation, count)

    def renew(self, backends: Mapping[str, BackendSpec]) -> None:
        """Go on with other specs. What was started by the old ones waits no more; runs that go on are left alone."""
        for name, (pool, _) in self._pools.items():
            spec = backends.get(name)
            if spec and spec.may_be_warm:
                pool.renew(spec)
            else:
                pool.retire()

    def retire(self) -> None:
        """Keep nothing ready from now on: what waits is ended, what serves ends with its runs."""
        self._is_retired = True
        for pool, _ in self._pools.values():
            pool.retire()

    def release(self, backend: str, session_id: str) -> None:
        if backend in self._pools:
            self._pools[backend][0].release(session_id)

    def ready_counts(self) -> dict[str, int]:
        return {name: pool.ready_count for name, (pool, _) in self._pools.items()}

    def close(self) -> None:
        """End every process that waits. Runs that go on are their streams' to end."""
        pools, self._pools = self._pools, {}
        for pool, _ in pools.values():
            pool.close()

    def _pool(self, spec: BackendSpec) -> tuple[Pool, CircuitBreaker]:
        assert spec.warmth
        if spec.name not in self._pools:
            breaker = CircuitBreaker(spec.name)
            self._pools[spec.name] = POOLS[spec.warmth.driver](spec, self._spawner, self._environ, breaker), breaker
        return self._pools[spec.name]


class WarmRun:
    """A run of a backend that has warm processes. One in such a process that breaks before it has said anything is run again in
    a process of its own, once."""

    def __init__(
        self,
        running: Running,
        start_cold: Callable[[], Running] | None,
        pool: Pool,
        breaker: CircuitBreaker,
        invocation: Invocation,
        cancellation: Cancellation,
    ) -> None:
        self._running = running
        self._start_cold = start_cold
        self._pool = pool
        self._breaker = breaker
        self._invocation = invocation
        self._cancellation = cancellation
        self.began_as: Start = "cold"
        self._has_worked = False
        self._is_closed = False

    @property
    def last_output_at(self) -> float:
        return self._running.last_output_at

    def batches(self) -> Iterator[Batch]:
        if self._start_cold is None:
            yield from self._watched(self._running.batches())
            return
        held: Batch = []
        batches = self._running.batches()
        for batch in batches:
            if all(isinstance(event, Started | UsageUpdate) for event in batch):
                # Not to be said twice, should the run begin again. Silence is told at once.
                held += batch
                if not batch:
                    yield batch
                continue
            if self._has_broken(batch):
                yield from self._watched(self._again(batch[-1]).batches())
                return
            self._breaker.record_success()
            yield from self._watched(iter([held + batch]))
            yield from self._watched(batches)
            return

    def close(self) -> None:
        self._running.close()
        if not self._is_closed:
            self._is_closed = True
            self._pool.settle(self._invocation.cwd, has_worked=self._has_worked)

    def _has_broken(self, batch: Batch) -> bool:
        is_failure = len(batch) == 1 and isinstance(batch[0], Failed)
        running = self._running
        return is_failure and not self._cancellation.failure and isinstance(running, Breakable) and running.has_broken

    def _again(self, failed: object) -> Running:
        why = failed.message if isinstance(failed, Failed) else ""
        log.warning("%s: a warm process broke before it said anything; the run gets one of its own", self._invocation.spec.name)
        self._breaker.record_failure(why)
        self.began_as = "fallback"
        self._running.close()
        assert self._start_cold
        try:
            self._running = self._start_cold()
        except BackendUnavailable as error:
            self._running = NotStarted(error)
        return self._running

    def _watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            if not self._has_worked:
                self._has_worked = any(isinstance(event, ToolCall) for event in batch)
            yield batch


class NotStarted:
    """The second attempt that could not even begin."""

    def __init__(self, error: BackendUnavailable) -> None:
        self._error = error
        self.last_output_at = monotonic()

    def batches(self) -> Iterator[Batch]:
        yield [Failed("backend", self._error.message)]

    def close(self) -> None:
        pass
