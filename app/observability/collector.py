"""Counts requests and runs into the metrics of `app.observability.metrics`, and renders them for Prometheus.

Counters and histograms are counted as things happen. Gauges are read from their source (admission, pools) at each
scrape, and every few seconds for scrapes that another worker answers: they cannot drift. Imported only where metrics are on.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from itertools import combinations, product
from typing import Any

import gevent
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from app.observability.context import CurrentRequest
from app.observability.metric_labels import ModelLabels, method_label, route_label
from app.observability.metrics import BUCKETS, METRICS, NO_KEY, Metric
from app.observability.multiprocess import LIVE_GAUGES, files
from app.observability.run_log import KEY
from app.version import program_version
from blueprints.context import Services
from services.access.rights import BUDGET_UNITS
from services.clis.spec import BackendSpec
from services.errors import BudgetExceeded, StoreUnavailable
from services.events import FAILURE_KINDS
from services.fallback import REASONS
from services.runs.record import ENDED, KINDS
from services.runs.tally import ATTEMPT_RESULTS
from services.telemetry import RunTelemetry

REFRESH_S = 2.0
"""How old another worker's gauges may be."""
STREAM_TYPES = ("text/event-stream", "application/x-ndjson")
BY_NAME = {metric.name.removeprefix("clinvk_"): metric for metric in METRICS}
AT_SCRAPE = ("backend_available", "background_runs_queued", "build_info", "plan_window_resets_at_seconds", "plan_window_used_ratio")
"""What any worker knows for all."""


class Meter:
    """One per process. Gauges are read from ``services``."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._slot = files()
        self._registry = CollectorRegistry()
        disable_created_metrics()  # type: ignore[no-untyped-call]
        slot = self._slot[1] if self._slot else None
        in_files = slot is not None
        values.ValueClass = values.MultiProcessValue(lambda: slot) if in_files else values.MutexValue  # type: ignore[no-untyped-call]
        made = {name: _make(metric, self._registry) for name, metric in BY_NAME.items() if name not in AT_SCRAPE}
        self.gauges = {name: made[name] for name in made if BY_NAME[name].kind == "gauge"}
        self.requests = RequestMeter(made)
        self.runs = RunMeter(made)
        self.runs.expect([spec for spec in services.runner.backends.values() if spec.enabled])
        services.runs.tally.count = lambda name, labels: (made[name].labels(*labels) if labels else made[name]).inc()
        for kind, end in product(KINDS, ENDED):
            made["background_runs_total"].labels(kind, end)
        services.ledger.on_lost = made["usage_runs_lost_total"].inc
        for unit in BUDGET_UNITS:
            made["budget_refusals_total"].labels(unit)
        for result in ATTEMPT_RESULTS:
            made["webhook_attempts_total"].labels(result)
        made["worker_starts_total"].inc()
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        """Keep the gauges fresh for the workers that are asked instead of this one."""
        if self._slot and self._greenlet is None:
            self._greenlet = gevent.spawn(self._keep_fresh)

    def render(self) -> bytes:
        """All of it in Prometheus' text format."""
        self.refresh()
        if self._slot:
            # In a thread: with many keys and workers it takes tens of milliseconds, in which no stream would move.
            counted: bytes = gevent.get_hub().threadpool.apply(_read_files, (self._slot[0],))
        else:
            counted = generate_latest(self._registry)
        facts = CollectorRegistry()
        facts.register(Facts(self._services))
        return counted + generate_latest(facts)

    def refresh(self) -> None:
        runner = self._services.runner
        gauges = self.gauges
        gauges["workers"].set(1)
        gauges["http_requests_in_flight"].set(len(self.requests.going))
        gauges["open_streams"].set(sum(map(_is_stream, self.requests.going)))
        gauges["runs_in_flight"].set(runner.admission.running)
        gauges["runs_limit"].set(runner.admission.limit)
        gauges["queue_depth"].set(runner.admission.queued)
        gauges["queue_limit"].set(runner.admission.queue_limit)
        gauges["usage_runs_pending"].set(self._services.ledger.pending)
        ready = runner.ready_counts()
        for spec in runner.backends.values():
            if spec.warmth:
                gauges["warm_processes"].labels(spec.name).set(ready.get(spec.name, 0))

    def _keep_fresh(self) -> None:
        while True:
            self.refresh()
            gevent.sleep(REFRESH_S)


class RequestMeter:
    """An observer of requests."""

    def __init__(self, made: dict[str, Any]) -> None:
        self.going: set[CurrentRequest] = set()
        self._count = made["http_requests_total"]
        self._errors = made["http_errors_total"]
        self._duration = made["http_request_duration_seconds"]

    def begin(self, request: CurrentRequest) -> None:
        self.going.add(request)

    def finish(self, request: CurrentRequest) -> None:
        self.going.discard(request)
        route, method = route_label(request.route), method_label(request.method)
        self._count.labels(route, method, request.status).inc()
        self._duration.labels(route, method).observe(request.duration_s)
        if request.error_code:
            self._errors.labels(request.surface, request.error_code).inc()


class RunMeter:
    """An observer of runs."""

    def __init__(self, made: dict[str, Any]) -> None:
        self._made = made
        self._models = ModelLabels()

    def expect(self, specs: Iterable[BackendSpec]) -> None:
        """Begin with 0 what may be: the first failure is then a rise from 0, and not a series that begins with 1."""
        for spec in specs:
            backend = spec.name
            for (passed, asked), why in product(combinations((backend, *spec.fallback), 2), REASONS):
                self._made["fallbacks_total"].labels(passed, asked, why)
            for outcome in ("completed", *FAILURE_KINDS):
                self._made["runs_total"].labels(backend, outcome)
            for reason in ("queue_full", "backend_unavailable", "cancelled"):
                self._made["runs_refused_total"].labels(backend, reason)
            for start in ("cold", "warm", "fallback"):
                self._made["run_starts_total"].labels(backend, start)

    def begin(self, run: RunTelemetry) -> None: ...

    def finish(self, run: RunTelemetry) -> None:
        made, backend = self._made, run.backend
        if passed_over := run.invocation.request.passed_over:
            made["fallbacks_total"].labels(passed_over[-1].backend, backend, passed_over[-1].reason).inc()
        if run.admitted_at:
            made["queue_wait_seconds"].labels(backend).observe(run.admitted_at - run.requested_at)
        if run.refusal:
            made["runs_refused_total"].labels(backend, run.outcome).inc()
            if isinstance(run.refusal, BudgetExceeded):
                made["budget_refusals_total"].labels(run.refusal.details["unit"]).inc()
            return
        made["runs_total"].labels(backend, run.outcome).inc()
        made["run_starts_total"].labels(backend, run.start).inc()
        made["run_duration_seconds"].labels(backend).observe(run.ended_at - run.requested_at)
        if run.spawned_at and run.admitted_at:
            made["spawn_seconds"].labels(backend, run.start).observe(run.spawned_at - run.admitted_at)
        if run.first_token_at:
            made["time_to_first_token_seconds"].labels(backend, run.start).observe(run.first_token_at - run.requested_at)
        self._account(run)

    def _account(self, run: RunTelemetry) -> None:
        usage, cost_usd = run.fold.usage, run.end.cost_usd if run.end else None
        if usage is None and not cost_usd:
            return
        model = self._models.label(run.invocation.spec, run.model, is_vouched=run.outcome == "completed")
        key = run.notes.get(KEY) or NO_KEY
        if usage:
            counts = {
                "input": usage.input_tokens,
                "output": usage.output_tokens,
                "cached": usage.cached_tokens,
                "cache_write": usage.cache_write_tokens,
                "reasoning": usage.reasoning_tokens,
            }
            for kind, tokens in counts.items():
                if tokens > 0:
                    self._made["tokens_total"].labels(kind, run.backend, model, key).inc(tokens)
        if cost_usd and cost_usd > 0:
            self._made["cost_usd_total"].labels(run.backend, model, key).inc(cost_usd)


class Facts:
    """A collector of what needs no counting."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[GaugeMetricFamily]:
        available = _family("backend_available")
        for spec in self._services.runner.backends.values():
            if spec.enabled:
                available.add_metric([spec.name], float(self._services.prober.availability(spec).available))
        yield available
        yield from self._queued()
        yield from self._plans()
        build = _family("build_info")
        build.add_metric([program_version(), platform.python_version()], 1.0)
        yield build

    def _plans(self) -> Iterator[GaugeMetricFamily]:
        """Every worker knows the windows that any of them has heard of."""
        used, resets_at = _family("plan_window_used_ratio"), _family("plan_window_resets_at_seconds")
        runner = self._services.runner
        for plan in runner.plans.plans():
            for window in plan.windows if plan.backend in runner.backends else ():
                if window.used is not None:
                    used.add_metric([plan.backend, window.name], window.used)
                if window.resets_at is not None:
                    resets_at.add_metric([plan.backend, window.name], float(window.resets_at))
        yield used
        yield resets_at

    def _queued(self) -> Iterator[GaugeMetricFamily]:
        """Nothing while the store is unavailable: 0 would be wrong."""
        try:
            count = self._services.runs.store.count_queued()
        except StoreUnavailable:
            return
        queued = _family("background_runs_queued")
        queued.add_metric([], float(count))
        yield queued


def _read_files(folder: str) -> bytes:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _make(metric: Metric, registry: CollectorRegistry) -> Any:
    match metric.kind:
        case "counter":
            return Counter(metric.name, metric.help, metric.labels, registry=registry)
        case "histogram":
            return Histogram(metric.name, metric.help, metric.labels, buckets=BUCKETS, registry=registry)
        case "gauge":
            return Gauge(metric.name, metric.help, metric.labels, registry=registry, multiprocess_mode=LIVE_GAUGES)


def _family(name: str) -> GaugeMetricFamily:
    metric = BY_NAME[name]
    return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)


def _is_stream(request: CurrentRequest) -> bool:
    return any(name == "Content-Type" and value.startswith(STREAM_TYPES) for name, value in request.headers)
