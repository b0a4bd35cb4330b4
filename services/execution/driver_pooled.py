"""Runs in processes that exist already, where there is one for the run; else, and where that fails, in one that is started for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from time import monotonic

from services.cancellation import Cancellation
from services.clis.spec import BackendSpec, Invocation
from services.errors import BackendUnavailable
from services.events import Batch, Failed, ToolCall
from services.execution.circuit_breaker import CircuitBreaker
from services.execution.driver import Driver, Limits, Running
from services.execution.multiplexed import MultiplexedWorkers
from services.execution.pool import Pool
from services.execution.process_workers import ProcessWorkers
from services.execution.worker import WorkerFactory
from services.processes.spawner import Spawner
from services.retried import retried
from services.telemetry import Start

log = logging.getLogger("clinvk.warm")


class PooledDriver(Driver):
    """A `Driver` over another one, which starts a process for every run."""

    def __init__(self, cold: Driver, spawner: Spawner, environ: Mapping[str, str]) -> None:
        self._cold = cold
        self._spawner = spawner
        self._environ = environ
        self._pools: dict[str, Pool] = {}
        self._is_draining = False

    def start(self, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> Running:
        spec = invocation.spec

        def start_cold() -> Running:
            return self._cold.start(invocation, limits, cancellation)

        if self._is_draining or not invocation.may_be_warm:
            if session_id := invocation.request.resume:
                self.evict_session(spec.name, session_id)
            return start_cold()
        pool = self._pool(spec)
        running = pool.start(invocation, limits, cancellation) or start_cold()
        is_warm = running.began_as == "warm"
        log.debug("%s: a run %s", spec.name, "is warm" if is_warm else "starts a process of its own")
        return PooledRun(running, start_cold if is_warm else None, pool, invocation, cancellation)

    def prestart(self, invocation: Invocation, count: int) -> None:
        spec = invocation.spec
        if invocation.may_be_warm and not self._is_draining:
            self._pool(spec).prestart(invocation, count)

    def reconfigure(self, backends: Mapping[str, BackendSpec]) -> None:
        for name, pool in self._pools.items():
            spec = backends.get(name)
            if spec and spec.may_be_warm:
                pool.reconfigure(spec)
            else:
                pool.drain()

    def drain(self) -> None:
        self._is_draining = True
        for pool in self._pools.values():
            pool.drain()

    def evict_session(self, backend: str, session_id: str) -> None:
        if backend in self._pools:
            self._pools[backend].evict_session(session_id)

    def ready_counts(self) -> dict[str, int]:
        return {name: pool.ready_count for name, pool in self._pools.items()}

    def close(self) -> None:
        """End every idle process. Active runs are ended by their streams."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    def _pool(self, spec: BackendSpec) -> Pool:
        if spec.name not in self._pools:
            self._pools[spec.name] = Pool(spec, self._workers, CircuitBreaker(spec.name))
        return self._pools[spec.name]

    def _workers(self, spec: BackendSpec) -> WorkerFactory:
        if spec.warmth and spec.warmth.is_multiplexed:
            return MultiplexedWorkers(spec, self._spawner)
        return ProcessWorkers(spec, self._spawner, self._environ)


class PooledRun:
    """A run of a backend with a pool. If its warm process fails before anything can have happened, it is started again, once, in a
    process of its own."""

    def __init__(
        self,
        running: Running,
        start_cold: Callable[[], Running] | None,
        pool: Pool,
        invocation: Invocation,
        cancellation: Cancellation,
    ) -> None:
        """``start_cold``: None where the process is the run's own; and once the run has had output."""
        self._running = running
        self._start_cold = start_cold
        self._pool = pool
        self._invocation = invocation
        self._cancellation = cancellation
        self.began_as: Start = running.began_as
        self._used_tools = False
        self._is_closed = False

    @property
    def last_output_at(self) -> float:
        return self._running.last_output_at

    @property
    def is_retryable(self) -> bool:
        return False

    def batches(self) -> Iterator[Batch]:
        batches = self._running.batches()
        for batch in retried(batches, self._again) if self._start_cold else batches:
            if batch:
                self._observe(batch)
            yield batch

    def close(self) -> None:
        self._running.close()
        if not self._is_closed:
            self._is_closed = True
            self._pool.on_run_finished(self._invocation.cwd, used_tools=self._used_tools)

    def _again(self, failed: Failed) -> Iterator[Batch] | None:
        if self._cancellation.failure or not self._running.is_retryable or not self._start_cold:
            return None
        log.warning("%s: a warm process failed before any output; starting a new process for the run", self._invocation.spec.name)
        self._pool.breaker.record_failure(failed.message)
        self.began_as = "fallback"
        self._running.close()
        try:
            self._running = self._start_cold()
        except BackendUnavailable as error:
            self._running = NotStarted(error)
        self._start_cold = None
        return self._running.batches()

    def _observe(self, batch: Batch) -> None:
        if self._start_cold:
            self._start_cold = None
            self._pool.breaker.record_success()
        self._used_tools = self._used_tools or any(isinstance(event, ToolCall) for event in batch)


class NotStarted:
    """The second attempt, where its process could not be started."""

    began_as: Start = "fallback"
    is_retryable = False

    def __init__(self, error: BackendUnavailable) -> None:
        self._error = error
        self.last_output_at = monotonic()

    def batches(self) -> Iterator[Batch]:
        yield [Failed("backend", self._error.message)]

    def close(self) -> None:
        pass
