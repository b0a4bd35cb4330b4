"""`/api/v1/sessions`: stored conversations."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify, url_for
from marshmallow import RAISE

from blueprints.context import services
from blueprints.current_request import owner, request_id, scope
from blueprints.marks import can_fail, runs_cli, streams
from blueprints.native.background import in_background, respond_now_or_later
from blueprints.native.plans import dry_run, plan_turn, to_request
from blueprints.native.schemas import PromptResultSchema
from blueprints.native.session_schemas import (
    ForkSchema,
    NewSessionSchema,
    ResumeSchema,
    SessionAnswerSchema,
    SessionDeletedSchema,
    SessionListSchema,
    SessionQuerySchema,
    TurnListSchema,
    TurnQuerySchema,
)
from blueprints.native.session_translate import from_session, from_turn, to_about, to_filter
from blueprints.native.translate import meta
from blueprints.runs.plan import current_origin
from blueprints.streaming import EVENT_STREAM, NDJSON
from blueprints.validation import Blueprint
from services.store.records import Session

blp = Blueprint("sessions", __name__, url_prefix="/api/v1/sessions", description="Stored conversations")

SESSION_ERRORS = ("not_found", "conflict", "backend_unavailable")
"""Errors of a route with a session id: unknown, ambiguous or running a turn, or the store is unavailable."""


@blp.route("", methods=["GET"])
@blp.arguments(SessionQuerySchema(), location="query", unknown=RAISE)
@blp.response(200, SessionListSchema())
@can_fail("backend_unavailable")
def list_sessions(query: dict[str, Any]) -> Any:
    """List your sessions, the most recently used first. An admin key lists everybody's."""
    page = services().conversations.store.list(
        to_filter(query), scope(), limit=query["limit"], offset=query["offset"], cursor=query.get("cursor") or None
    )
    listed = [from_session(session, scope()) for session in page.sessions]
    return jsonify({"sessions": listed, "next_cursor": page.next_cursor, "meta": meta(request_id())})


@blp.route("", methods=["POST"])
@blp.arguments(NewSessionSchema())
@blp.response(201, SessionAnswerSchema(), headers={"Location": {"schema": {"type": "string"}, "description": "URL of the session"}})
@can_fail("backend_unavailable")
def create_session(body: dict[str, Any]) -> Any:
    """Create a session without turns. This fixes its backend, working directory and options."""
    return created(services().conversations.create(to_request({**body, "prompt": ""}, current_origin()), to_about(body)))


@blp.route("/<session_id>", methods=["GET"])
@blp.response(200, SessionAnswerSchema())
@can_fail(*SESSION_ERRORS)
def get_session(session_id: str) -> Any:
    """Get a session by its id or an id prefix."""
    return jsonify({**from_session(find(session_id), scope()), "meta": meta(request_id())})


@blp.route("/<session_id>", methods=["DELETE"])
@blp.response(200, SessionDeletedSchema())
@can_fail(*SESSION_ERRORS)
def delete_session(session_id: str) -> Any:
    """Delete a session, its turns, and the CLI's session files. The id must be whole."""
    conversations = services().conversations
    session = conversations.store.get_whole(session_id, scope())
    conversations.delete(session)
    return jsonify({"id": session.id, "deleted": True, "meta": meta(request_id())})


@blp.route("/<session_id>/resume", methods=["POST"])
@blp.arguments(ResumeSchema())
@blp.response(200, PromptResultSchema())
@in_background(blp)
@runs_cli
@streams(EVENT_STREAM, NDJSON)
@can_fail(*SESSION_ERRORS, "timeout")
def resume_session(body: dict[str, Any], session_id: str) -> Any:
    """Run the session's next turn, in the CLI's own session. A second concurrent turn gets 409."""
    origin, session = current_origin(), find(session_id)
    run = plan_turn(body, origin, session)
    if body["dry_run"] or services().dry_run:
        return dry_run(run)
    return respond_now_or_later(
        run.plan, body, origin, check=run.check, output_formats=[body["output_format"]], target={"session_id": session.id}
    )


@blp.route("/<session_id>/fork", methods=["POST"])
@blp.arguments(ForkSchema())
@blp.response(201, SessionAnswerSchema(), headers={"Location": {"schema": {"type": "string"}, "description": "URL of the session"}})
@can_fail(*SESSION_ERRORS)
def fork_session(body: dict[str, Any], session_id: str) -> Any:
    """Create a session of yours that starts with this one's turns. Both continue independently."""
    return created(services().conversations.fork(find(session_id), owner(), to_about(body)))


@blp.route("/<session_id>/turns", methods=["GET"])
@blp.arguments(TurnQuerySchema(), location="query", unknown=RAISE)
@blp.response(200, TurnListSchema())
@can_fail(*SESSION_ERRORS)
def list_turns(query: dict[str, Any], session_id: str) -> Any:
    """List the turns of a session in order."""
    session = find(session_id)
    turns = services().conversations.store.turns(session, after=query["after"], limit=query["limit"] + 1)
    page = turns[: query["limit"]]
    return jsonify(
        {
            "session_id": session.id,
            "turns": [from_turn(turn) for turn in page],
            "next_after": page[-1].number if len(turns) > len(page) else None,
            "meta": meta(request_id()),
        }
    )


def find(session_id: str) -> Session:
    return services().conversations.store.get(session_id, scope())


def created(session: Session) -> Response:
    response = jsonify({**from_session(session, scope()), "meta": meta(request_id())})
    response.status_code = 201
    response.headers["Location"] = url_for("sessions.get_session", session_id=session.id)
    return response
