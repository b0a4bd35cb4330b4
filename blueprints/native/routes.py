"""The native REST API: `/api/v1`."""

from __future__ import annotations

from typing import Any

from flask import jsonify

from blueprints.context import services
from blueprints.current_request import owner, request_id, rights
from blueprints.marks import can_fail, runs_cli, streams
from blueprints.native.background import in_background, respond_now_or_later
from blueprints.native.plans import dry_run, plan_prompt
from blueprints.native.schemas import BackendListSchema, PromptResultSchema, PromptSchema
from blueprints.native.translate import meta, to_backend
from blueprints.runs.plan import current_origin
from blueprints.streaming import EVENT_STREAM, NDJSON
from blueprints.validation import Blueprint

blp = Blueprint("native", __name__, url_prefix="/api/v1", description="Prompts and backends")


@blp.route("/prompt", methods=["POST"])
@blp.arguments(PromptSchema())
@blp.response(200, PromptResultSchema())
@in_background(blp)
@runs_cli
@streams(EVENT_STREAM, NDJSON)
@can_fail("conflict", "backend_unavailable", "timeout")
def run_prompt(body: dict[str, Any]) -> Any:
    """Run one prompt on one backend."""
    origin = current_origin()
    run = plan_prompt(body, origin)
    if body["dry_run"] or services().dry_run:
        return dry_run(run)
    return respond_now_or_later(run.plan, body, origin, check=run.check, output_formats=[body["output_format"]])


@blp.route("/backends", methods=["GET"])
@blp.response(200, BackendListSchema())
def list_backends() -> Any:
    """Every backend that the caller may use, its availability and its supported options."""
    svc, own = services(), rights()
    ready, default = svc.runner.ready_counts(), svc.models_of(owner()).default_backend
    listed = [
        to_backend(spec, svc.prober.availability(spec), own, is_default=spec.name == default, ready=ready.get(spec.name, 0))
        for spec in svc.runner.usable(own)
    ]
    return jsonify({"backends": listed, "meta": meta(request_id())})
