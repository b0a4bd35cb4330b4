"""Executes a request's plan and answers its client: one JSON object, or a stream of events."""

from __future__ import annotations

from contextlib import ExitStack

from flask import Response, jsonify, request

from blueprints.client_watch import watch_client
from blueprints.context import services
from blueprints.current_request import current_request, owner, request_id
from blueprints.response_headers import RUN_ID, fallback_header
from blueprints.runs.kept import respond_kept
from blueprints.runs.keys import HEADER
from blueprints.runs.late import respond_late
from blueprints.runs.plan import Beginning, RunPlan
from blueprints.streaming import is_sse, stream_response
from services.runs.live import LiveRun
from services.runs.record import first_number


def respond(plan: RunPlan, content_type: str | None) -> Response:
    """``content_type``: of the stream that the client wants; None: one JSON object.

    Raises the plan's errors before the first byte, and RunFailed where the surface answers a failed run with an error.
    """
    live = services().runs.live
    cancellation, watch = watch_client()
    run = LiveRun(
        id=plan.id,
        kind=plan.kind,
        owner=owner(),
        request_id=request_id(),
        cancellation=cancellation,
        title=plan.title,
        tags=plan.tags,
        metadata=plan.metadata,
        expected=plan.expected,
        alias=plan.alias,
    )
    with ExitStack() as closing:
        closing.callback(watch.close)
        live.enter(run)
        closing.callback(live.leave, run)
        if plan.is_stored or (plan.is_repeatable and HEADER in request.headers):
            return respond_kept(plan, run, content_type, closing)
        if content_type and plan.to_refusal:
            return respond_late(plan, run, content_type, closing)
        work = plan.start(Beginning(run_id=run.id, cancellation=cancellation, first=first_number(plan.kind)))
        closing.callback(work.close)
        run.begin(work)
        current_request().answer_headers |= {RUN_ID: run.id, **fallback_header(run.facts.passed_over)}
        if content_type:
            if plan.waits_for_output:
                work.await_output()
            return stream_response(work.frames(as_sse=is_sse(content_type)), content_type, work.headers, closing.pop_all())
        answer = work.answer()
    response = jsonify(answer.body)
    response.headers.extend({**work.headers, **answer.headers})
    return response
