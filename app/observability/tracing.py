"""OpenTelemetry spans: one for a request, one below it for each of its runs. Imported only where `server.tracing_enabled` is set.

Where they are sent, sampled and named is for the standard OTEL_* variables to say, which OpenTelemetry's own SDK reads
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/): OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER,
OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_SDK_DISABLED and so on. No span holds a prompt, a key, a query string or what a CLI has written.
"""

from __future__ import annotations

import atexit
import os
from time import monotonic, time_ns

import gevent
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer, set_span_in_context

from app.observability.context import CurrentRequest, current_request
from app.observability.metric_labels import method_label, route_label
from app.observability.run_log import KEY, TRACE_ID, WELL
from app.observability.trace_context import VARIABLE, Trace, to_trace
from app.version import program_version
from services.telemetry import RunTelemetry

SPAN = "span"
FLUSH_S = 2.0
"""How long a process that ends may take to send its last spans."""


def make_tracer() -> Tracer:
    """The tracer of this process. Call it in the process that serves: what sends the spans does not outlive a fork."""
    detected = OTELResourceDetector().detect().attributes
    own = {"service.name": "clinvk", "service.version": program_version()}
    resource = Resource.create({name: value for name, value in own.items() if name not in detected})
    # Its own way to end waits for a collector that is not there for as long as half a minute.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    atexit.register(gevent.with_timeout, FLUSH_S, provider.shutdown, timeout_value=None)
    exporter = make_exporter(os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp")
    if exporter:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider.get_tracer("clinvk", program_version())


def make_exporter(name: str) -> SpanExporter | None:
    """By a name of `app.observability.trace_context.EXPORTERS`; None for ``none``."""
    if name == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    return ConsoleSpanExporter() if name == "console" else None


class RequestSpans:
    """An observer of requests."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def begin(self, request: CurrentRequest) -> None:
        method, caller = method_label(request.method), request.trace
        parent = set_span_in_context(NonRecordingSpan(_context_of(caller))) if caller else None
        attributes = {"http.request.method": method, "clinvk.request_id": request.request_id}
        span = self._tracer.start_span(method, context=parent, kind=SpanKind.SERVER, attributes=attributes)
        request.notes[SPAN] = span
        request.trace = _trace_of(span) or caller

    def finish(self, request: CurrentRequest) -> None:
        span: Span = request.notes[SPAN]
        route = route_label(request.route)
        span.update_name(f"{method_label(request.method)} {route}")
        span.set_attributes({"http.route": route, "http.response.status_code": request.status, "clinvk.surface": request.surface})
        if request.key_name:
            span.set_attribute("clinvk.key", request.key_name)
        if request.error_code:
            span.set_attribute("error.type", request.error_code)
        if request.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()


class RunSpans:
    """An observer of runs. The run's process gets the run's span as its parent."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def begin(self, run: RunTelemetry) -> None:
        span = self._tracer.start_span("run", context=_parent_of(run), attributes={"clinvk.backend": run.backend})
        run.notes[SPAN] = span
        if trace := _trace_of(span):
            run.notes[TRACE_ID] = trace.id
            run.env = {**run.env, VARIABLE: str(trace)}

    def finish(self, run: RunTelemetry) -> None:
        span: Span = run.notes[SPAN]
        span.update_name(f"run {run.backend}")
        for name, at in (("admitted", run.admitted_at), ("spawned", run.spawned_at), ("first token", run.first_token_at)):
            if at:
                span.add_event(name, timestamp=_to_ns(at))
        attributes = {
            "clinvk.outcome": run.outcome,
            "clinvk.start": None if run.refusal else run.start,
            "clinvk.key": run.notes.get(KEY),
            "clinvk.exit_code": run.end.exit_code if run.end else None,
            "gen_ai.request.model": run.invocation.model,
            "gen_ai.response.model": run.model,
        }
        if usage := run.fold.usage:
            # https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
            attributes |= {"gen_ai.usage.input_tokens": usage.input_tokens, "gen_ai.usage.output_tokens": usage.output_tokens}
        span.set_attributes({name: value for name, value in attributes.items() if value is not None})
        if run.outcome not in WELL:
            span.set_status(Status(StatusCode.ERROR, run.outcome))
        span.end()


def _parent_of(run: RunTelemetry) -> Context | None:
    """The span of the request, or, in the background, that of the submission."""
    request = current_request()
    if request:
        return set_span_in_context(request.notes[SPAN]) if SPAN in request.notes else None
    submission = to_trace(run.invocation.request.traceparent)
    return set_span_in_context(NonRecordingSpan(_context_of(submission))) if submission else None


def _context_of(trace: Trace) -> SpanContext:
    return SpanContext(int(trace.id, 16), int(trace.parent, 16), is_remote=True, trace_flags=TraceFlags(trace.is_sampled))


def _trace_of(span: Span) -> Trace | None:
    """None where OTEL_SDK_DISABLED has it that there are no spans."""
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return Trace(f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled)


def _to_ns(at: float) -> int:
    """A reading of `monotonic` as a time of day."""
    return time_ns() - round((monotonic() - at) * 1e9)
