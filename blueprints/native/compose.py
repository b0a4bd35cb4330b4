"""`/api/v1/parallel`, `/chain` and `/compare`: several runs per request, returned as results or as one merged event stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import orjson
from flask import jsonify

from blueprints import sse
from blueprints.context import services
from blueprints.current_request import caller, request_id
from blueprints.marks import can_fail, runs_cli, streams
from blueprints.native.answers import stream_type
from blueprints.native.compose_schemas import (
    ChainResultSchema,
    ChainSchema,
    CompareResultSchema,
    CompareSchema,
    ParallelResultSchema,
    ParallelSchema,
)
from blueprints.native.translate import EventEncoder, meta, now, to_denied_tools, to_run_request, to_usage
from blueprints.streaming import EVENT_STREAM, NDJSON, open_run, stream_response
from blueprints.validation import Blueprint
from services.clis.spec import Invocation
from services.compose.chain import Step, plan_chain
from services.compose.composition import Composition
from services.compose.parallel import plan_compare, plan_parallel
from services.compose.plan import Outcome, Plan, located
from services.errors import RUN_FAILURE_CODES, RunFailed
from services.event_loop import yield_to_others
from services.requests import RunRequest

blp = Blueprint("compose", __name__, url_prefix="/api/v1", description="Several runs in one request")

Answer = Callable[[list[dict[str, Any]], Counter[str]], dict[str, Any]]
"""Builds the response fields specific to a route from the results and the count per status."""


@blp.route("/parallel", methods=["POST"])
@blp.arguments(ParallelSchema())
@blp.response(200, ParallelResultSchema())
@runs_cli
@streams(EVENT_STREAM, NDJSON)
def run_parallel(body: dict[str, Any]) -> Any:
    """Run several prompts at once."""
    svc = services()
    plan = plan_parallel(
        svc.runner,
        _to_requests(body["tasks"], "tasks"),
        max_parallel=body.get("max_parallel", svc.max_parallel),
        fail_fast=body.get("fail_fast", svc.fail_fast),
    )

    def answer(results: list[dict[str, Any]], statuses: Counter[str]) -> dict[str, Any]:
        return {"total_tasks": len(results), "completed": statuses["completed"]}

    return _execute(plan, body, answer, member="task", names=[task.get("name") for task in body["tasks"]])


@blp.route("/chain", methods=["POST"])
@blp.arguments(ChainSchema())
@blp.response(200, ChainResultSchema())
@runs_cli
@streams(EVENT_STREAM, NDJSON)
@can_fail("backend_unavailable")
def run_chain(body: dict[str, Any]) -> Any:
    """Run prompts one after the other. Each can use the outputs of earlier steps."""
    requests = _to_requests(body["steps"], "steps")
    steps = [Step(request=run_request, name=step.get("name", "")) for run_request, step in zip(requests, body["steps"], strict=True)]
    plan = plan_chain(services().runner, steps, stop_on_failure=body["stop_on_failure"], pass_working_dir=body["pass_working_dir"])

    def answer(results: list[dict[str, Any]], statuses: Counter[str]) -> dict[str, Any]:
        failed = next((result["step"] for result in results if result["status"] == "failed"), None)
        return {"total_steps": len(results), "completed_steps": statuses["completed"], "failed_step": failed}

    return _execute(plan, body, answer, member="step", names=[step.get("name") for step in body["steps"]])


@blp.route("/compare", methods=["POST"])
@blp.arguments(CompareSchema())
@blp.response(200, CompareResultSchema())
@runs_cli
@streams(EVENT_STREAM, NDJSON)
def run_compare(body: dict[str, Any]) -> Any:
    """Run one prompt on several backends or models."""
    field = "targets" if "targets" in body else "backends"
    targets = body.get("targets") or [{"backend": name} for name in body["backends"]]
    shared = body.keys() - {"backend", "model"}
    plan = plan_compare(
        services().runner,
        _to_requests([{**body, **target} for target in targets], field),
        sequential=body["sequential"],
        field=field,
        shared=shared,
    )

    def answer(results: list[dict[str, Any]], statuses: Counter[str]) -> dict[str, Any]:
        backends = [result["backend"] for result in results]
        return {"prompt": body["prompt"], "backends": backends, "completed": statuses["completed"]}

    return _execute(plan, body, answer, member="task", names=[None] * len(targets))


def _to_requests(items: Sequence[Mapping[str, Any]], field: str) -> list[RunRequest]:
    """Raises InvalidRequest with the item's path in ``field``."""
    requests = []
    for index, item in enumerate(items):
        with located(f"{field}[{index}]"):
            requests.append(_to_request(item))
        yield_to_others()
    return requests


def _to_request(fields: Mapping[str, Any]) -> RunRequest:
    svc = services()
    return to_run_request(fields, models=svc.models, default=svc.models.resolve(None), request_id=request_id(), caller=caller())


def _execute(plan: Plan, body: Mapping[str, Any], answer: Answer, *, member: str, names: Sequence[str | None]) -> Any:
    """Execute the plan and return a dry run, a stream of merged events, or the results of all runs."""
    svc = services()
    if body["dry_run"] or svc.dry_run:
        parts = []
        for i, invocation in enumerate(plan.invocations):
            parts.append({member: i, "name": names[i], **_to_dry_part(invocation)})
            yield_to_others()
        return jsonify({**_to_body(parts, answer, 0, request_id()), "dry_run": True})

    def to_body(composition: Composition, request_id: str) -> dict[str, Any]:
        outcomes = composition.outcomes()
        parts = [{member: i, "name": names[i], **_to_part(outcome)} for i, outcome in enumerate(outcomes)]
        return _to_body(parts, answer, composition.elapsed_ms(), request_id)

    forms: list[Mapping[str, Any]] = [body, *body.get("tasks", ()), *body.get("steps", ())]  # any of them may request a stream
    content_type = stream_type(part["output_format"] for part in forms if "output_format" in part)
    composition, closing = open_run(lambda cancellation: Composition(svc.runner, plan, cancellation))
    with closing:
        if not content_type:
            return jsonify(to_body(composition, request_id()))
        events = MergedEvents(composition, partial(to_body, request_id=request_id()), member=member, content_type=content_type)
        return stream_response(events, bytes, content_type, {}, closing.pop_all())


def _to_body(parts: list[dict[str, Any]], answer: Answer, duration_ms: int, request_id: str) -> dict[str, Any]:
    statuses = Counter(part["status"] for part in parts)
    counts = {status: statuses[status] for status in ("failed", "cancelled", "skipped")}
    return {**answer(parts, statuses), **counts, "total_duration_ms": duration_ms, "results": parts, "meta": meta(request_id)}


def _to_part(outcome: Outcome) -> dict[str, Any]:
    result = outcome.result
    return {
        "status": outcome.status,
        "backend": result.backend,
        "model": result.model,
        "exit_code": result.exit_code,
        "duration_ms": result.duration_ms,
        "output": result.output,
        "error": result.failure.message if result.failure else None,
        "error_code": RUN_FAILURE_CODES[result.failure.kind] if result.failure else None,
        "token_usage": to_usage(result.usage),
        "cost_usd": result.cost_usd,
        "ignored": list(result.ignored),
        "denied_tools": to_denied_tools(result.denied_tools),
    }


def _to_dry_part(invocation: Invocation) -> dict[str, Any]:
    return {
        "status": None,
        "backend": invocation.spec.name,
        "model": invocation.model,
        "argv": invocation.shown_argv,
        "ignored": list(invocation.ignored),
    }


class MergedEvents(Iterator[bytes]):
    """The events of all runs as they arrive, each with the index of its run, then one ``result`` event with the whole response."""

    def __init__(
        self, composition: Composition, answer: Callable[[Composition], dict[str, Any]], *, member: str, content_type: str
    ) -> None:
        self._composition = composition
        self._answer = answer
        self._as_sse = content_type == EVENT_STREAM
        self._sequence = count(1)
        self._encoders = [self._encoder(index, invocation, member) for index, invocation in enumerate(composition.plan.invocations)]
        self._is_over = False

    def _encoder(self, index: int, invocation: Invocation, member: str) -> EventEncoder:
        facts = {
            "backend": invocation.spec.name,
            "model": invocation.model,
            "ignored": list(invocation.ignored),
            "elapsed_ms": partial(self._composition.elapsed_ms, index),
        }
        return EventEncoder(facts, as_sse=self._as_sse, mark={member: index}, sequence=self._sequence)

    def __next__(self) -> bytes:
        item = next(self._composition, None)
        if item is not None:
            index, batch = item
            return self._encoders[index or 0](batch)
        if self._is_over:
            raise StopIteration
        self._is_over = True
        try:
            return self._result(self._answer(self._composition))
        except RunFailed:  # the client disconnected
            raise StopIteration from None

    def _result(self, content: dict[str, Any]) -> bytes:
        number = next(self._sequence)
        line = orjson.dumps({"type": "result", "timestamp": now(), "sequence": number, "content": content})
        return sse.frame(line, event=b"result", id=number) if self._as_sse else line + b"\n"
