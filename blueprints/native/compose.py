"""`/api/v1/parallel`, `/chain` and `/compare`: several runs per request, returned as results or as one merged event stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flask import Response, jsonify

from blueprints.context import services
from blueprints.marks import can_fail, runs_cli, streams
from blueprints.native.background import in_background, respond_now_or_later
from blueprints.native.compose_schemas import (
    ChainResultSchema,
    ChainSchema,
    CompareResultSchema,
    CompareSchema,
    ParallelResultSchema,
    ParallelSchema,
)
from blueprints.native.composed_work import Composed, ComposedWork, Results
from blueprints.native.plans import to_request
from blueprints.runs.plan import Beginning, Origin, RunPlan, current_origin
from blueprints.streaming import EVENT_STREAM, NDJSON
from blueprints.validation import Blueprint
from services.clis.spec import Invocation
from services.compose.chain import Step, plan_chain
from services.compose.composition import Composition
from services.compose.parallel import plan_compare, plan_parallel
from services.compose.plan import located
from services.event_loop import yield_to_others
from services.requests import RunRequest

blp = Blueprint("compose", __name__, url_prefix="/api/v1", description="Several runs in one request")


@blp.route("/parallel", methods=["POST"])
@blp.arguments(ParallelSchema())
@blp.response(200, ParallelResultSchema())
@in_background(blp)
@runs_cli
@streams(EVENT_STREAM, NDJSON)
@can_fail("conflict", "backend_unavailable")
def run_parallel(body: dict[str, Any]) -> Any:
    """Run several prompts at once."""
    return _execute(compose_parallel, body)


@blp.route("/chain", methods=["POST"])
@blp.arguments(ChainSchema())
@blp.response(200, ChainResultSchema())
@in_background(blp)
@runs_cli
@streams(EVENT_STREAM, NDJSON)
@can_fail("conflict", "backend_unavailable")
def run_chain(body: dict[str, Any]) -> Any:
    """Run prompts one after the other. Each can use the outputs of earlier steps."""
    return _execute(compose_chain, body)


@blp.route("/compare", methods=["POST"])
@blp.arguments(CompareSchema())
@blp.response(200, CompareResultSchema())
@in_background(blp)
@runs_cli
@streams(EVENT_STREAM, NDJSON)
@can_fail("conflict", "backend_unavailable")
def run_compare(body: dict[str, Any]) -> Any:
    """Run one prompt on several backends or models."""
    return _execute(compose_compare, body)


def compose_parallel(body: Mapping[str, Any], origin: Origin) -> Composed:
    svc, tasks = services(), body["tasks"]
    plan = plan_parallel(
        svc.runner,
        _to_requests(tasks, "tasks", origin),
        max_parallel=body.get("max_parallel", svc.max_parallel),
        fail_fast=body.get("fail_fast", svc.fail_fast),
    )

    def to_fields(results: Results, statuses: Counter[str]) -> dict[str, Any]:
        return {"total_tasks": len(results), "completed": statuses["completed"]}

    return Composed(kind="parallel", plan=plan, member="task", names=[task.get("name") for task in tasks], to_fields=to_fields)


def compose_chain(body: Mapping[str, Any], origin: Origin) -> Composed:
    requests = _to_requests(body["steps"], "steps", origin)
    steps = [Step(request=request, name=step.get("name", "")) for request, step in zip(requests, body["steps"], strict=True)]
    plan = plan_chain(services().runner, steps, stop_on_failure=body["stop_on_failure"], pass_working_dir=body["pass_working_dir"])

    def to_fields(results: Results, statuses: Counter[str]) -> dict[str, Any]:
        failed = next((result["step"] for result in results if result["status"] == "failed"), None)
        return {"total_steps": len(results), "completed_steps": statuses["completed"], "failed_step": failed}

    return Composed(kind="chain", plan=plan, member="step", names=[step.get("name") for step in body["steps"]], to_fields=to_fields)


def compose_compare(body: Mapping[str, Any], origin: Origin) -> Composed:
    field = "targets" if "targets" in body else "backends"
    targets = body.get("targets") or [{"backend": name} for name in body["backends"]]
    plan = plan_compare(
        services().runner,
        _to_requests([{**body, **target} for target in targets], field, origin),
        sequential=body["sequential"],
        field=field,
        shared=body.keys() - {"backend", "model"},
    )

    def to_fields(results: Results, statuses: Counter[str]) -> dict[str, Any]:
        backends = [result["backend"] for result in results]
        return {"prompt": body["prompt"], "backends": backends, "completed": statuses["completed"]}

    return Composed(kind="compare", plan=plan, member="task", names=[None] * len(targets), to_fields=to_fields)


def _to_requests(items: Sequence[Mapping[str, Any]], field: str, origin: Origin) -> list[RunRequest]:
    """Raises InvalidRequest with the item's path in ``field``."""
    requests = []
    for index, item in enumerate(items):
        with located(f"{field}[{index}]"):
            requests.append(to_request(item, origin))
        yield_to_others()
    return requests


def to_plan(composed: Composed, origin: Origin, to_work: Callable[..., ComposedWork] = ComposedWork) -> RunPlan:
    """``to_work``: how the runs are encoded for their client."""

    def start(beginning: Beginning) -> ComposedWork:
        composition = Composition(services().runner, composed.plan, beginning.cancellation, run_id=beginning.run_id)
        return to_work(composition, composed, beginning, origin)

    return RunPlan(kind=composed.kind, start=start)


def _execute(compose: Callable[[Mapping[str, Any], Origin], Composed], body: Mapping[str, Any]) -> Response:
    """Answer with a dry run, a stream of merged events, or the results of all runs."""
    origin = current_origin()
    composed = compose(body, origin)
    if body["dry_run"] or services().dry_run:
        return _dry_run(composed, origin)
    forms: list[Mapping[str, Any]] = [body, *body.get("tasks", ()), *body.get("steps", ())]  # any of them may request a stream
    formats = [form["output_format"] for form in forms if "output_format" in form]
    return respond_now_or_later(to_plan(composed, origin), body, origin, check=lambda: None, output_formats=formats)


def _dry_run(composed: Composed, origin: Origin) -> Response:
    parts = []
    for index, invocation in enumerate(composed.plan.invocations):
        parts.append({composed.member: index, "name": composed.names[index], **_to_dry_part(invocation)})
        yield_to_others()
    return jsonify({**composed.to_body(parts, 0, None, origin), "dry_run": True})


def _to_dry_part(invocation: Invocation) -> dict[str, Any]:
    return {
        "status": None,
        "backend": invocation.spec.name,
        "model": invocation.model,
        "argv": invocation.shown_argv,
        "ignored": list(invocation.ignored),
    }
