"""OpenAI's Responses: `/openai/v1/responses`."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify

from blueprints.compat.answer import RUN_ERRORS, SSE
from blueprints.compat.context import FieldsAsSent
from blueprints.context import services
from blueprints.current_request import current_request, scope
from blueprints.marks import can_fail, runs_cli, streams
from blueprints.openai.responses.ids import RESPONSE, node_of, run_of
from blueprints.openai.responses.input_items import to_items, to_page
from blueprints.openai.responses.plan import PlannedResponse, find_response_run, plan_response
from blueprints.openai.responses.schemas import (
    CreateResponseSchema,
    DeletedResponseSchema,
    InputItemListSchema,
    InputItemQuerySchema,
    ResponseQuerySchema,
    ResponseSchema,
)
from blueprints.openai.responses.stored import to_current
from blueprints.response_headers import RUN_ID
from blueprints.runs.follow import follow_run
from blueprints.runs.plan import Origin, current_origin
from blueprints.runs.respond import respond
from blueprints.runs.submit import Submission, stored_body, submit
from blueprints.streaming import EVENT_STREAM
from blueprints.validation import Blueprint
from blueprints.webhook_field import to_webhook
from services.errors import EventsExpired, InvalidRequest, NotFound
from services.runs.record import Run, Webhook
from services.sessions.response_tree import OURS

blp = Blueprint("responses", __name__, url_prefix="/openai/v1/responses", description="Compatible with OpenAI's Responses")

CANCEL_S = 5.0
"""How long an answer waits until a cancelled run has ended."""

RESPONSE_ERRORS = ("not_found", "backend_unavailable")
"""Errors of a route with a response's id: unknown, or the store is unavailable."""


@blp.route("", methods=["POST"])
@blp.arguments(CreateResponseSchema())
@blp.response(200, ResponseSchema())
@runs_cli
@streams(EVENT_STREAM)
@can_fail(*RUN_ERRORS)
def create_response(body: dict[str, Any]) -> Any:
    """Respond to an input, or continue an earlier response.

    With `stream: true` the response is a stream of server-sent events. With `background: true` it is answered at once and goes on
    without its client.
    """
    origin = current_origin()
    planned = plan_response(body, origin, typos=current_request().misspelled)
    content_type = SSE if body["stream"] else None
    if body.get("webhook") and not body.get("background"):
        raise InvalidRequest("webhook: only for a background response; add `background: true`", field="webhook", issue="needs background")
    with FieldsAsSent(origin):
        if planned.is_background:
            return submit(_to_submission(planned, origin, body), content_type, answer_of)
        return respond(planned.plan, content_type)


@blp.route("/<response_id>", methods=["GET"])
@blp.arguments(ResponseQuerySchema(), location="query")
@blp.response(200, ResponseSchema())
@streams(EVENT_STREAM)
@can_fail(*RESPONSE_ERRORS, "gone")
def get_response(query: dict[str, Any], response_id: str) -> Any:
    """Get a stored response as it is now.

    With `stream=true` its events are sent from the first one, or after the one numbered `starting_after`, until it has ended.
    """
    run, response = _find(response_id)
    if not query["stream"]:
        return _named(run, jsonify(response))
    if run.are_events_expired:
        raise EventsExpired("the events of this response were deleted (runs.events_retention_hours); get it without `stream`")
    return _named(run, follow_run(services().runs, run, query.get("starting_after"), SSE, {}))


@blp.route("/<response_id>/cancel", methods=["POST"])
@blp.response(200, ResponseSchema())
@can_fail("invalid_request", *RESPONSE_ERRORS)
def cancel_response(response_id: str) -> Any:
    """Cancel a background response. One that has ended stays as it is."""
    run, _ = _find(response_id)
    if not run.is_background:
        raise InvalidRequest("Cannot cancel a synchronous response.", issue="not in the background")
    return _named(run, answer_of(_cancelled(run)))


@blp.route("/<response_id>", methods=["DELETE"])
@blp.response(200, DeletedResponseSchema())
@can_fail(*RESPONSE_ERRORS, "conflict")
def delete_response(response_id: str) -> Any:
    """Delete a stored response, after cancelling it if it has not ended. It cannot be continued any more; the CLI's session stays."""
    svc = services()
    run = _cancelled(_find(response_id)[0])
    if run.backend and run.cli_session_id:
        is_ours = run.cli_session_id == run.session_id
        svc.responses.delete(OURS if is_ours else run.backend, run.cli_session_id, node_of(run.id).hex())
    svc.runs.lookup.delete(run.id, scope())
    return _named(run, jsonify({"id": response_id, "object": "response", "deleted": True}))


@blp.route("/<response_id>/input_items", methods=["GET"])
@blp.arguments(InputItemQuerySchema(), location="query")
@blp.response(200, InputItemListSchema())
@can_fail(*RESPONSE_ERRORS)
def list_input_items(query: dict[str, Any], response_id: str) -> Any:
    """List the items of a stored response's input."""
    run, _ = _find(response_id)
    items = to_items(stored_body(services().runs.store.request_of(run))["input"], run.id)
    return _named(run, jsonify(to_page(items, limit=query["limit"], order=query["order"], after=query.get("after"))))


def _named(run: Run, response: Response) -> Response:
    response.headers[RUN_ID] = run.id
    return response


def answer_of(run: Run) -> Response:
    return jsonify(_current(run))


def _current(run: Run) -> dict[str, Any]:
    begun = None if run.terminal else services().runs.events.first(run.id)
    return to_current(run, begun, services().secret.value())


def _find(response_id: str) -> tuple[Run, dict[str, Any]]:
    """The caller's stored response, and its run. Raises NotFound."""
    run_id = run_of(services().secret.value(), scope(), response_id, RESPONSE)
    if run_id and (run := find_response_run(run_id, scope())):
        response = _current(run)
        if response["store"]:  # an idempotency key keeps also the run of a response that is not to be stored
            return run, response
    raise NotFound(f"Response with id {response_id[:200]!r} not found.", field="response_id")


def _cancelled(run: Run) -> Run:
    """The run when it has ended, cancelled if it had not. If that takes too long: as it is."""
    runs = services().runs
    return run if run.ended_at else runs.wait(runs.lookup.cancel(run.id, scope()), CANCEL_S)


def _to_submission(planned: PlannedResponse, origin: Origin, body: dict[str, Any]) -> Submission:
    return Submission(
        plan=planned.plan,
        origin=origin,
        check=planned.check,
        target={"created_at": str(planned.created_at)},
        webhooks=_webhooks(body),
        begun=planned.to_queued(),
        headers=planned.headers(),
    )


def _webhooks(body: dict[str, Any]) -> tuple[Webhook, ...]:
    """That of the request, or else those of the configuration."""
    limits = services().runs.limits
    if field := body.get("webhook"):
        return (to_webhook(field, default_secret=limits.webhook_secret, allowed_hosts=limits.webhook_allowed_hosts),)
    return limits.webhooks
