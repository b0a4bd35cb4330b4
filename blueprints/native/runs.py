"""`/api/v1/runs`: what is queued, what runs, and what has ended and was kept."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify, request
from marshmallow import RAISE

from blueprints.context import services
from blueprints.current_request import request_id, scope
from blueprints.marks import can_fail, streams
from blueprints.native.answers import stream_type
from blueprints.native.run_schemas import (
    WAIT_LIMIT_S,
    EventsQuerySchema,
    RunAnswerSchema,
    RunListSchema,
    RunQuerySchema,
    WaitQuerySchema,
)
from blueprints.native.run_translate import from_run, to_run_filter
from blueprints.native.translate import meta
from blueprints.request_fields import EVENT_NUMBER_LIMIT
from blueprints.runs.follow import follow_run
from blueprints.runs.keys import events_expired
from blueprints.streaming import EVENT_STREAM, NDJSON
from blueprints.validation import Blueprint
from services.errors import InvalidRequest
from services.runs.record import ENDED, Run

blp = Blueprint("runs", __name__, url_prefix="/api/v1/runs", description="Runs: queued, running, kept")

RUN_ERRORS = ("not_found", "backend_unavailable")
"""Errors of a route with a run id: unknown, or the store is unavailable."""


@blp.route("", methods=["GET"])
@blp.arguments(RunQuerySchema(), location="query", unknown=RAISE)
@blp.response(200, RunListSchema())
@can_fail("backend_unavailable")
def list_runs(query: dict[str, Any]) -> Any:
    """List your runs, newest first: all that are queued or running, and those that were kept. An admin key lists everybody's."""
    page = services().runs.lookup.list(to_run_filter(query), scope(), limit=query["limit"], cursor=query.get("cursor"))
    return jsonify({"runs": [from_run(run, scope()) for run in page.runs], "next_cursor": page.next_cursor, "meta": meta(request_id())})


@blp.route("/<run_id>", methods=["GET"])
@blp.arguments(WaitQuerySchema(), location="query", unknown=RAISE)
@blp.response(200, RunAnswerSchema())
@can_fail(*RUN_ERRORS)
def get_run(query: dict[str, Any], run_id: str) -> Any:
    """Get a run, or wait for its end first."""
    runs = services().runs
    run = runs.lookup.get(run_id, scope())
    if query["wait"]:
        run = runs.wait(run, min(query["wait"], WAIT_LIMIT_S))
    return answer_of(run)


@blp.route("/<run_id>/events", methods=["GET"])
@blp.arguments(EventsQuerySchema(), location="query", unknown=RAISE)
@blp.response(200, description="The events, as server-sent events or, by Accept, as NDJSON")
@blp.alt_response(204, description="No event can follow")
@streams(EVENT_STREAM, NDJSON)
@can_fail(*RUN_ERRORS, "gone")
def follow_events(query: dict[str, Any], run_id: str) -> Any:
    """Follow a run's events, from the first one or after the last one that you have. The stream ends after the terminal event."""
    runs = services().runs
    run = runs.store.get(run_id, scope())
    sent = last_event_id()
    after = query.get("after") if sent is None else sent
    if run.terminal and after is not None and after >= run.terminal.last:
        return Response(status=204)
    if run.are_events_expired:
        raise events_expired(run)
    return follow_run(runs, run, after, stream_type(()) or EVENT_STREAM, {})


@blp.route("/<run_id>/cancel", methods=["POST"])
@blp.response(200, RunAnswerSchema())
@blp.alt_response(202, schema=RunAnswerSchema(), description="The run is being stopped")
@can_fail(*RUN_ERRORS)
def cancel_run(run_id: str) -> Any:
    """Cancel a run. One that is queued has ended with the answer; one that runs is stopped within seconds; one that has ended stays as it is."""
    run = services().runs.lookup.cancel(run_id, scope())
    response = answer_of(run)
    response.status_code = 200 if run.status in ENDED else 202
    return response


@blp.route("/<run_id>", methods=["DELETE"])
@blp.response(204)
@can_fail(*RUN_ERRORS, "conflict")
def delete_run(run_id: str) -> Any:
    """Delete a run that has ended, with its events and its webhooks that were not delivered. Its session stays."""
    services().runs.lookup.delete(run_id, scope())
    return Response(status=204)


def answer_of(run: Run) -> Response:
    return jsonify({**from_run(run, scope()), "meta": meta(request_id())})


def last_event_id() -> int | None:
    """The number in the header that browsers send when they reconnect. Raises InvalidRequest."""
    sent = request.headers.get("Last-Event-ID")
    if not sent:
        return None
    if not sent.isascii() or not sent.isdecimal() or len(sent) > 18 or int(sent) > EVENT_NUMBER_LIMIT:
        raise InvalidRequest("Last-Event-ID: expected the number of an event", field="Last-Event-ID", issue="not a number")
    return int(sent)
