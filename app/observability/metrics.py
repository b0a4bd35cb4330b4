"""The table of metrics: every name, type, label and meaning. `GET /metrics` and the documentation are generated from it.

For a reference: iterate `METRICS`; each has ``name``, ``kind`` (counter, gauge, histogram), ``labels`` (names, explained in
`LABELS`) and ``help``. Histograms are in seconds with `BUCKETS`. What is measured is `app.observability.collector`'s business, and how several
workers make one answer `app.observability.multiprocess`'. Nothing here holds a prompt or a key; keys appear by name only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from app.api.errors import STATUS
from app.api.surfaces import SURFACES
from services.access.rights import BUDGET_UNITS
from services.events import FAILURE_KINDS
from services.fallback import REASONS
from services.runs.record import ENDED, KINDS
from services.telemetry import Start

Kind = Literal["counter", "gauge", "histogram"]

BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600)
"""Upper bounds in seconds: a start takes milliseconds, an agent's work up to an hour."""


@dataclass(frozen=True, slots=True)
class Metric:
    """``name`` is the name in queries: a counter's includes ``_total``; a histogram's gets ``_bucket``, ``_sum`` and ``_count``."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


def _of(kind: Kind, name: str, labels: str, text: str) -> Metric:
    return Metric(f"clinvk_{name}", kind, tuple(labels.split()), text)


METRICS = (
    _of("counter", "http_requests_total", "route method status", "Requests answered, by route template, method and status."),
    _of(
        "counter",
        "http_errors_total",
        "surface code",
        "Requests answered with an error, by code. Includes rate-limited and rejected requests.",
    ),
    _of("histogram", "http_request_duration_seconds", "route method", "Time from the request's head to the end of the response."),
    _of("gauge", "http_requests_in_flight", "", "Requests in progress."),
    _of("gauge", "open_streams", "", "Streaming responses in progress."),
    _of("counter", "runs_total", "backend outcome", "Finished runs, by outcome."),
    _of(
        "counter",
        "runs_refused_total",
        "backend reason",
        "Runs that never started: the queue was full, the CLI is not installed, or the client disconnected.",
    ),
    _of(
        "counter",
        "run_starts_total",
        "backend start",
        "Finished runs, by kind of process. `fallback`: the warm process failed and the run was retried in a new one.",
    ),
    _of("counter", "fallbacks_total", "from to reason", "Runs that another backend of the chain was asked to answer."),
    _of("gauge", "plan_window_used_ratio", "backend window", "Used share of a window of the backend's subscription, from 0 to 1."),
    _of("gauge", "plan_window_resets_at_seconds", "backend window", "When the window begins anew, in seconds since the epoch."),
    _of("histogram", "run_duration_seconds", "backend", "Time from the request to the end of the run, including the wait in the queue."),
    _of("histogram", "time_to_first_token_seconds", "backend start", "Time from the request to the first token of the answer."),
    _of("histogram", "queue_wait_seconds", "backend", "Time that a run waited in the queue."),
    _of("histogram", "spawn_seconds", "backend start", "Time to start the run's process, or to lease a warm one."),
    _of("gauge", "runs_in_flight", "", "Runs in progress."),
    _of("gauge", "runs_limit", "", "Maximum concurrent runs (server.max_concurrent_runs, summed over all workers)."),
    _of("gauge", "queue_depth", "", "Runs waiting in the queue."),
    _of("gauge", "queue_limit", "", "Maximum queue length (server.max_queued_runs, summed over all workers)."),
    _of("gauge", "background_runs_queued", "", "Background runs waiting in the queue of the run store."),
    _of("counter", "background_runs_total", "kind end", "Background runs that have ended, by kind and status."),
    _of("counter", "runs_lost_total", "", "Runs whose server process died. Each has failed with `worker_lost` or was queued again."),
    _of("counter", "webhook_attempts_total", "result", "Webhook requests, by result."),
    _of("gauge", "warm_processes", "backend", "Warm CLI processes that are ready for a run."),
    _of("counter", "tokens_total", "type backend model key", "Tokens, as reported by the CLIs."),
    _of(
        "counter",
        "cost_usd_total",
        "backend model key",
        "Cost in US dollars, as the CLI reports it, else by `prices` of the configuration.",
    ),
    _of("counter", "budget_refusals_total", "unit", "Runs that never started because a budget of their key was used up."),
    _of("gauge", "usage_runs_pending", "", "Finished runs that are not in the usage ledger yet."),
    _of("counter", "usage_runs_lost_total", "", "Finished runs that the usage ledger has given up: the database did not take them."),
    _of("gauge", "backend_available", "backend", "1 if the backend's CLI is installed, otherwise 0."),
    _of("gauge", "workers", "", "Worker processes."),
    _of("counter", "worker_starts_total", "", "Worker processes started, including replacements of dead ones."),
    _of("gauge", "build_info", "version python", "Always 1; the labels have the versions."),
)

OVERFLOW = "other"
UNMATCHED = "unmatched"
NO_KEY = ""

TOKEN_TYPES = ("input", "output", "cached", "cache_write", "reasoning")

LABELS: Mapping[str, str] = {
    "route": f"the route's template (`/api/v1/sessions/{{session_id}}`), `{UNMATCHED}` for an unknown path",
    "method": f"the HTTP method, `{OVERFLOW}` for a method that no route has",
    "status": "the HTTP status; 0 if the client disconnected before there was one",
    "surface": ", ".join(surface.name for surface in SURFACES),
    "code": f"the error's code: {', '.join(STATUS)}",
    "backend": "the backend's name in the configuration",
    "unit": f"what the budget counts: {', '.join(BUDGET_UNITS)}",
    "outcome": f"completed, or the kind of failure: {', '.join(FAILURE_KINDS)}",
    "reason": f"queue_full, backend_unavailable, cancelled, or another error code; of a fallback {', '.join(REASONS)}",
    "from": "the backend that did not answer",
    "to": "the backend that was asked instead",
    "window": "the window's name as the CLI has it, for example five_hour",
    "start": ", ".join(get_args(Start)),
    "kind": f"the kind of the run: {', '.join(KINDS)}",
    "end": f"how the run ended: {', '.join(ENDED)}",
    "result": "accepted, failed (it is sent again), or given_up",
    "type": f"{', '.join(TOKEN_TYPES)}; input includes cached and cache_write, output includes reasoning",
    "model": f"the model, if the configuration or a successful run has named it; otherwise `{OVERFLOW}`; `default` if the request names none",
    "key": "the name of the API key; empty if no key is required",
    "version": "this program's version",
    "python": "the version of Python",
}
