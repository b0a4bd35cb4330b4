"""The one line of a run in the log: whose, on what, how it ended, where the time went. Never a prompt or a key of this server's, and of a
CLI's own words only an error that callers see redacted: the operator needs it whole."""

from __future__ import annotations

import logging
from typing import Any

from app.observability.context import current_request
from app.observability.trace_context import VARIABLE
from app.security.authentication import presented_keys
from services.errors import BackendUnavailable, RunFailed
from services.events import Failed
from services.redaction import REDACTED, redact
from services.telemetry import RunTelemetry

WELL = ("completed", "cancelled", "shutdown")
"""Outcomes that are not failures."""
MODEL_LIMIT_CHARS = 128
REASON_LIMIT_CHARS = 300

run_log = logging.getLogger("clinvk.run")

KEY, TRACE_ID = "key", "trace_id"


class RunLog:
    """An observer of runs. Also hands the caller's trace on to the run's process; `app.observability.tracing` puts its own span there."""

    def begin(self, run: RunTelemetry) -> None:
        request = current_request()
        if request is None:
            return
        run.notes[KEY] = request.key_name
        if request.trace:
            run.notes[TRACE_ID] = request.trace.id
            run.env = {**run.env, VARIABLE: str(request.trace)}

    def finish(self, run: RunTelemetry) -> None:
        level = logging.INFO if run.outcome in WELL else logging.WARNING
        if run_log.isEnabledFor(level):
            run_log.log(level, "refused run" if run.refusal else "run", extra={"fields": fields_of_run(run)})


def fields_of_run(run: RunTelemetry) -> dict[str, Any]:
    usage = run.fold.usage
    fields = {
        "backend": run.backend,
        "model": run.model and run.model[:MODEL_LIMIT_CHARS],
        "outcome": run.outcome,
        "reason": _refusal(run),
        "exit_code": run.end.exit_code if run.end else None,
        "start": None if run.refusal else run.start,
        "duration_ms": _ms(run.requested_at, run.ended_at),
        "queue_ms": _ms(run.requested_at, run.admitted_at),
        "spawn_ms": _ms(run.admitted_at, run.spawned_at),
        "first_token_ms": _ms(run.requested_at, run.first_token_at),
        "input_tokens": usage and usage.input_tokens,
        "output_tokens": usage and usage.output_tokens,
        "cost_usd": run.end.cost_usd if run.end else None,
        "denied_tools": _denied_tools(run),
        "key": run.notes.get(KEY),
        "error": _redacted_error(run),
        "request_id": run.invocation.request.request_id or None,
        "trace_id": run.notes.get(TRACE_ID),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _refusal(run: RunTelemetry) -> str | None:
    """Why nothing was started. Only of an unavailable backend: other refusals may quote the request."""
    return run.refusal.message[:REASON_LIMIT_CHARS] if isinstance(run.refusal, BackendUnavailable) else None


def _denied_tools(run: RunTelemetry) -> str | None:
    """Names only: a reason quotes paths and commands."""
    denials = run.end.denied_tools if run.end else ()
    return ", ".join(dict.fromkeys(denial.tool for denial in denials)) or None


def _redacted_error(run: RunTelemetry) -> str | None:
    """The whole text of an error in which something was redacted for the caller, but for the keys that the caller presented."""
    failure = run.refusal.failure if isinstance(run.refusal, RunFailed) else run.end
    if not isinstance(failure, Failed) or redact(failure.message) == failure.message:
        return None
    request, text = current_request(), failure.message
    for key in presented_keys(request.environ) if request else ():
        text = text.replace(key, REDACTED)
    return text


def _ms(since: float | None, until: float | None) -> float | None:
    return None if since is None or until is None else round((until - since) * 1000, 1)
