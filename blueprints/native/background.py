"""Requests of the native API that run in the background: the fields that ask for it, and the 202 that answers them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flask import Response, jsonify, url_for

from blueprints.context import services
from blueprints.current_request import current_request, scope
from blueprints.marks import View
from blueprints.native.answers import stream_type
from blueprints.native.run_schemas import RunAnswerSchema
from blueprints.native.run_translate import from_run
from blueprints.native.translate import meta
from blueprints.runs.plan import Origin, RunPlan
from blueprints.runs.respond import respond
from blueprints.runs.submit import RESPOND_ASYNC, Submission, prefers_async, submit
from blueprints.times import to_time
from blueprints.validation import Blueprint
from blueprints.webhook_field import to_webhook
from services.errors import InvalidRequest
from services.runs.record import Run

ONLY_IN_BACKGROUND = ("priority", "on_worker_lost", "webhook")
ATTEMPTS = {"fail": 1, "retry": 2}


def in_background(blp: Blueprint) -> Callable[[View], View]:
    """Documents the answer to a request that runs in the background."""
    location = {"Location": {"schema": {"type": "string"}, "description": "URL of the run"}}
    documented: Callable[[View], View] = blp.alt_response(
        202, schema=RunAnswerSchema(), headers=location, description="The run is queued, and goes on whether or not the client stays"
    )
    return documented


def respond_now_or_later(
    plan: RunPlan,
    body: Mapping[str, Any],
    origin: Origin,
    *,
    check: Callable[[], None],
    output_formats: Iterable[str],
    target: Mapping[str, str] | None = None,
) -> Response:
    """Execute the plan for the client's connection, or put it into the queue if the request asks for that.

    ``check``: see `Submission`. ``output_formats``: those that the body names.
    """
    asked = body.get("background")
    if not (prefers_async() if asked is None else asked):
        for name in ONLY_IN_BACKGROUND:
            if name in body:
                raise InvalidRequest(
                    f"{name}: only for a run in the background; add `background: true`", field=name, issue="needs background"
                )
        return respond(plan, stream_type(output_formats))
    if asked is None:
        current_request().answer_headers["Preference-Applied"] = RESPOND_ASYNC
    limits = services().runs.limits
    webhook = body.get("webhook")
    submission = Submission(
        plan=plan,
        origin=origin,
        check=check,
        target=target or {},
        priority=body.get("priority", 5),
        attempts=ATTEMPTS[body.get("on_worker_lost", "fail")],
        timeout_s=body.get("timeout_secs"),
        webhooks=(to_webhook(webhook, default_secret=limits.webhook_secret, allowed_hosts=limits.webhook_allowed_hosts),)
        if webhook
        else (),
    )
    return submit(submission, stream_type(()), accepted)


def accepted(run: Run) -> Response:
    response = jsonify({**from_run(run, scope()), "meta": meta(run.request_id, to_time(run.created_at))})
    response.status_code = 202
    response.headers["Location"] = url_for("runs.get_run", run_id=run.id)
    return response
