"""Who watches the requests and the runs of a process: the log always; metrics and traces where they are on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from app.config.schema import ServerSettings
from app.observability.context import CurrentRequest
from app.observability.middleware import RequestObserver
from app.observability.run_log import RunLog
from blueprints.context import Services
from services.telemetry import Observer, RunTelemetry

log = logging.getLogger("clinvk.error")


T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Watcher(Protocol[T_contra]):
    """An observer of requests or of runs."""

    def begin(self, one: T_contra, /) -> None: ...

    def finish(self, one: T_contra, /) -> None: ...


class CompositeObserver(Generic[T]):
    """Several observers as one. An observer's exception is logged and affects neither the request nor the run."""

    def __init__(self, observers: Sequence[Watcher[T]]) -> None:
        self._observers = observers

    def begin(self, one: T) -> None:
        self._tell([observer.begin for observer in self._observers], one)

    def finish(self, one: T) -> None:
        self._tell([observer.finish for observer in self._observers], one)

    def _tell(self, listeners: Sequence[Callable[[T], None]], one: T) -> None:
        for listener in listeners:
            try:
                listener(one)
            except Exception:
                log.exception("an observer failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Of one process: a renewed configuration goes on with it, so that nothing is counted anew."""

    runs: Observer
    requests: Sequence[RequestObserver] = ()
    render_metrics: Callable[[], bytes] | None = None
    """`GET /metrics`; None where metrics are off."""
    starters: Sequence[Callable[[], None]] = field(default=())

    def start(self) -> None:
        """Background tasks of a serving process."""
        for start in self.starters:
            start()


def build_observation(server: ServerSettings, services: Services) -> Observation:
    runs: list[Watcher[RunTelemetry]] = [RunLog()]
    requests: list[Watcher[CurrentRequest]] = []
    render = None
    starters = []
    if server.tracing_enabled:
        from app.observability.tracing import RequestSpans, RunSpans, make_tracer

        tracer = make_tracer()
        requests.append(RequestSpans(tracer))
        runs.append(RunSpans(tracer))
    if server.metrics_enabled:
        from app.observability.collector import Meter

        meter = Meter(services)
        requests.append(meter.requests)
        runs.append(meter.runs)
        render = meter.render
        starters.append(meter.start)
    return Observation(
        runs=CompositeObserver(runs), requests=[CompositeObserver(requests)] if requests else [], render_metrics=render, starters=starters
    )
