"""The table of metrics: every name, type, label and meaning. `GET /metrics` and the documentation are both made of it.

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
from services.events import FAILURE_KINDS
from services.telemetry import Start

Kind = Literal["counter", "gauge", "histogram"]

BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600)
"""Upper bounds in seconds: a start takes milliseconds, an agent's work up to an hour."""


@dataclass(frozen=True, slots=True)
class Metric:
    """``name`` is the one that is queried, a counter's with its ``_total``; a histogram's has ``_bucket``, ``_sum`` and ``_count``."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


def _of(kind: Kind, name: str, labels: str, text: str) -> Metric:
    return Metric(f"clinvk_{name}", kind, tuple(labels.split()), text)


METRICS = (
    _of("counter", "http_requests_total", "route method status", "Requests answered, by route template, method and status."),
    _of(
        "counter", "http_errors_total", "surface code", "Requests answered with an error, rate-limited and refused ones included, by code."
    ),
    _of("histogram", "http_request_duration_seconds", "route method", "Time from a request's head to the end of its answer."),
    _of("gauge", "http_requests_in_flight", "", "Requests that are being answered."),
    _of("gauge", "open_streams", "", "Answers that are being streamed."),
    _of("counter", "runs_total", "backend outcome", "Runs that were started and have ended, by how they ended."),
    _of("counter", "runs_refused_total", "backend reason", "Runs that were not started: no place in the queue, no such CLI, client gone."),
    _of(
        "counter",
        "run_starts_total",
        "backend start",
        "Runs that have ended, by where they ran; fallback: the warm process broke, a second one was started.",
    ),
    _of("histogram", "run_duration_seconds", "backend", "Time from the request for a run to its end, the wait for a place included."),
    _of("histogram", "time_to_first_token_seconds", "backend start", "Time from the request for a run to the agent's first word."),
    _of("histogram", "queue_wait_seconds", "backend", "Time that a run waited for its place before it was started."),
    _of("histogram", "spawn_seconds", "backend start", "Time to start a run's process, or to find one that is warm."),
    _of("gauge", "runs_in_flight", "", "Runs that hold a place."),
    _of("gauge", "runs_limit", "", "Places that there are (server.max_concurrent_runs, of all workers)."),
    _of("gauge", "queue_depth", "", "Runs that wait for a place."),
    _of("gauge", "queue_limit", "", "Places in the queue (server.max_queued_runs, of all workers)."),
    _of("gauge", "warm_processes", "backend", "Prewarmed CLI processes ready."),
    _of("counter", "tokens_total", "type backend model key", "Tokens, as reported by the CLIs."),
    _of("counter", "cost_usd_total", "backend model key", "Cost in US dollars, if the CLI reports it."),
    _of("gauge", "backend_available", "backend", "1 where the backend's CLI is there, 0 where it is missing."),
    _of("gauge", "workers", "", "Worker processes that serve."),
    _of("counter", "worker_starts_total", "", "Worker processes that have started, those that took over from a dead one included."),
    _of("gauge", "build_info", "version python", "Always 1; which program this is."),
)

OVERFLOW = "other"
UNMATCHED = "unmatched"
NO_KEY = ""

TOKEN_TYPES = ("input", "output", "cached", "cache_write", "reasoning")

LABELS: Mapping[str, str] = {
    "route": f"the route's template (`/api/v1/sessions/{{session_id}}`), `{UNMATCHED}` for an unknown path",
    "method": f"the HTTP method, `{OVERFLOW}` for one that no route has",
    "status": "the HTTP status; 0 where the client left before there was one",
    "surface": ", ".join(surface.name for surface in SURFACES),
    "code": f"the error's code: {', '.join(STATUS)}",
    "backend": "the backend's name in the configuration",
    "outcome": f"completed, or the kind of failure: {', '.join(FAILURE_KINDS)}",
    "reason": "queue_full, backend_unavailable, cancelled, or another error code",
    "start": ", ".join(get_args(Start)),
    "type": f"{', '.join(TOKEN_TYPES)}; input includes cached and cache_write, output includes reasoning",
    "model": f"the model, where the configuration or a run that went well has named it; `{OVERFLOW}` else, `default` if none is named",
    "key": "the name of the API key, empty if none is required",
    "version": "this program's version",
    "python": "the version of Python",
}
