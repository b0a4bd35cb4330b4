"""The one line of a run in the log: whose, on what, how it ended, where the time went. Never a prompt or a key of this server's, and of a
CLI's own words only an error that callers see redacted: the operator needs it whole."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from app.observability.context import current_request
from app.observability.trace_context import VARIABLE, to_trace
from app.security.authentication import presented_keys
from services.access.rights import LOCAL
from services.errors import RUN_FAILURE_CODES, BackendUnavailable, ClinvkError, RunFailed
from services.events import Failed, FailureKind
from services.redaction import REDACTED, redact
from services.requests import PassedOver
from services.telemetry import RunTelemetry

WELL = ("completed", "cancelled", "shutdown", "server_stopped")
"""Outcomes that are not failures."""
MODEL_LIMIT_CHARS = 128
REASON_LIMIT_CHARS = 300

OWN_KINDS = ("timeout", "cancelled", "shutdown", "server_stopped", "unavailable")
"""Failures whose text is this server's."""

REASONS: Mapping[FailureKind, str] = {
    "rate_limited": "the model's vendor limits the rate or the quota",
    "overloaded": "the model's vendor is overloaded",
    "prompt_too_long": "the prompt is too long for the model",
    "invalid_prompt": "the model's vendor refused the request as invalid",
    "unknown_model": "the CLI does not accept the model",
    "unknown_session": "the CLI does not have the session any more",
    "not_logged_in": "the CLI is not logged in on the server",
}
"""Reasons of the CLI's failures in this server's words: the CLI's text may quote the prompt, and may hold any secret. The caller
gets it in the answer, under the same request id."""

run_log = logging.getLogger("clinvk.run")

KEY, TRACE_ID = "key", "trace_id"


class RunLog:
    """An observer of runs. Also hands the caller's trace on to the run's process; `app.observability.tracing` puts its own span there."""

    def begin(self, run: RunTelemetry) -> None:
        if request := current_request():
            run.notes[KEY], trace = request.key_name, request.trace
        else:
            asked = run.invocation.request
            run.notes[KEY], trace = asked.caller if asked.caller != LOCAL else None, to_trace(asked.traceparent)
        if trace:
            run.notes[TRACE_ID] = trace.id
            run.env = {**run.env, VARIABLE: str(trace)}

    def finish(self, run: RunTelemetry) -> None:
        level = logging.INFO if run.outcome in WELL else logging.WARNING
        if run_log.isEnabledFor(level):
            run_log.log(level, "refused run" if run.refusal else "run", extra={"fields": fields_of_run(run)})


def fields_of_run(run: RunTelemetry) -> dict[str, Any]:
    usage = run.fold.usage
    fields = {
        "backend": run.backend,
        "model": run.model and run.model[:MODEL_LIMIT_CHARS],
        "fallback": _fallback(run.invocation.request.passed_over),
        "outcome": run.outcome,
        "code": _code(run),
        "reason": _reason(run),
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
        "run_id": run.invocation.request.run_id or None,
        "request_id": run.invocation.request.request_id or None,
        "trace_id": run.notes.get(TRACE_ID),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _fallback(passed_over: Sequence[PassedOver]) -> str | None:
    """The backends that did not answer before this one, each with the reason."""
    return ",".join(f"{backend}={reason}" for backend, reason in passed_over) or None


def _failure(run: RunTelemetry) -> Failed | None:
    end = run.refusal.failure if isinstance(run.refusal, RunFailed) else run.end
    return end if isinstance(end, Failed) else None


def _code(run: RunTelemetry) -> str | None:
    """The error code that a caller gets, or would get where a failed run is a result."""
    if failure := _failure(run):
        return RUN_FAILURE_CODES[failure.kind]
    return run.refusal.code if isinstance(run.refusal, ClinvkError) else None


def _reason(run: RunTelemetry) -> str | None:
    """Why the run failed, or why nothing was started. Of refusals only those of an unavailable backend: others may quote the request."""
    if failure := _failure(run):
        text = failure.message if failure.kind in OWN_KINDS else REASONS.get(failure.kind) or _exit(failure)
    elif isinstance(run.refusal, BackendUnavailable):
        text = run.refusal.message
    else:
        return None
    return redact(text)[:REASON_LIMIT_CHARS]


def _exit(failure: Failed) -> str:
    return "the CLI failed" + (f" with exit code {failure.exit_code}" if failure.exit_code else "; its error is in the answer")


def _denied_tools(run: RunTelemetry) -> str | None:
    """Names only: a reason quotes paths and commands."""
    denials = run.end.denied_tools if run.end else ()
    return ", ".join(dict.fromkeys(denial.tool for denial in denials)) or None


def _redacted_error(run: RunTelemetry) -> str | None:
    """The whole text of an error in which something was redacted for the caller, but for the keys that the caller presented."""
    failure = _failure(run)
    if failure is None or redact(failure.message) == failure.message:
        return None
    request, text = current_request(), failure.message
    for key in presented_keys(request.environ) if request else ():
        text = text.replace(key, REDACTED)
    return text


def _ms(since: float | None, until: float | None) -> float | None:
    return None if since is None or until is None else round((until - since) * 1000, 1)
