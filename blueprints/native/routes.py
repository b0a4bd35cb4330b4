"""The native REST API: `/api/v1`."""

from __future__ import annotations

from time import monotonic
from typing import Any

from flask import Response, jsonify, request

from blueprints.context import caller, request_id, services
from blueprints.http import stream_response, watch_client
from blueprints.native.schemas import BackendListSchema, PromptResultSchema, PromptSchema
from blueprints.native.translate import EventEncoder, meta, to_backend, to_dry_run, to_result, to_run_request
from blueprints.validation import Blueprint
from services.errors import RunFailed
from services.run import RunRequest

blp = Blueprint("native", __name__, url_prefix="/api/v1", description="Prompts, backends and sessions, in this server's own terms")

NOT_A_RESULT = {"timeout", "not_logged_in", "cancelled", "shutdown"}
"""Kinds of failure that are an error answer (504, 503); after any other the CLI has run, and this is its result."""


@blp.route("/prompt", methods=["POST"])
@blp.arguments(PromptSchema())
@blp.response(200, PromptResultSchema())
def run_prompt(body: dict[str, Any]) -> Any:
    """Run one prompt on one backend."""
    desk = services()
    run_request = to_run_request(body, models=desk.models, default_backend=desk.default_backend, request_id=request_id(), caller=caller())
    if body["dry_run"] or desk.dry_run:
        return jsonify(to_dry_run(desk.runner.prepare(run_request), request_id()))
    as_sse = request.accept_mimetypes.best == "text/event-stream"
    if as_sse or body["output_format"] == "stream-json":
        return stream_prompt(run_request, as_sse=as_sse)
    cancellation, watch = watch_client()
    try:
        result = desk.runner.run(run_request, cancellation)
    finally:
        watch.close()
    if result.failure and result.failure.kind in NOT_A_RESULT:
        raise RunFailed(result.failure, result)
    response = jsonify(to_result(result, request_id()))
    response.headers.extend(ignored_header(result.ignored))
    return response


def stream_prompt(run_request: RunRequest, *, as_sse: bool) -> Response:
    """The same run as events, while it goes."""
    cancellation, watch = watch_client()
    try:
        stream = services().runner.stream(run_request, cancellation)
    except BaseException:
        watch.close()
        raise
    invocation = stream.invocation
    facts = {
        "backend": invocation.spec.name,
        "model": invocation.model,
        "ignored": list(invocation.ignored),
        "elapsed_ms": lambda: round((monotonic() - stream.started_at) * 1000),
    }
    content_type = "text/event-stream" if as_sse else "application/x-ndjson"
    return stream_response(stream, watch, EventEncoder(facts, as_sse=as_sse), content_type, ignored_header(invocation.ignored))


@blp.route("/backends", methods=["GET"])
@blp.response(200, BackendListSchema())
def list_backends() -> Any:
    """Every configured backend: whether it is available, and which options it honours."""
    desk = services()
    listed = [
        to_backend(spec, desk.prober.availability(spec), is_default=spec.name == desk.default_backend)
        for spec in desk.runner.backends.values()
        if spec.enabled
    ]
    return jsonify({"backends": listed, "meta": meta(request_id())})


def ignored_header(ignored: tuple[str, ...]) -> dict[str, str]:
    return {"X-Clinvk-Ignored": ", ".join(ignored)} if ignored else {}
