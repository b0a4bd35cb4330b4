"""The native REST API: `/api/v1`."""

from __future__ import annotations

from typing import Any

from flask import jsonify

from blueprints.context import services
from blueprints.current_request import caller, request_id
from blueprints.marks import can_fail, runs_cli, streams
from blueprints.native.answers import answer_run
from blueprints.native.schemas import BackendListSchema, PromptResultSchema, PromptSchema
from blueprints.native.session_translate import to_about
from blueprints.native.translate import meta, to_backend, to_dry_run, to_run_request
from blueprints.streaming import EVENT_STREAM, NDJSON
from blueprints.validation import Blueprint

blp = Blueprint("native", __name__, url_prefix="/api/v1", description="Prompts and backends")


@blp.route("/prompt", methods=["POST"])
@blp.arguments(PromptSchema())
@blp.response(200, PromptResultSchema())
@runs_cli
@streams(EVENT_STREAM, NDJSON)
@can_fail("backend_unavailable", "timeout")
def run_prompt(body: dict[str, Any]) -> Any:
    """Run one prompt on one backend."""
    svc = services()
    run_request = to_run_request(body, models=svc.models, default=svc.models.resolve(None), request_id=request_id(), caller=caller())
    if body["dry_run"] or svc.dry_run:
        return jsonify(to_dry_run(svc.runner.prepare(run_request), request_id()))
    about = to_about(body)
    return answer_run(lambda cancellation: svc.conversations.begin(run_request, about, cancellation), body)


@blp.route("/backends", methods=["GET"])
@blp.response(200, BackendListSchema())
def list_backends() -> Any:
    """Every configured backend, its availability and its supported options."""
    svc = services()
    ready = svc.runner.ready_counts()
    listed = [
        to_backend(spec, svc.prober.availability(spec), is_default=spec.name == svc.default_backend, ready=ready.get(spec.name, 0))
        for spec in svc.runner.backends.values()
        if spec.enabled
    ]
    return jsonify({"backends": listed, "meta": meta(request_id())})
