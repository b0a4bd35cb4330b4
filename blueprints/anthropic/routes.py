"""The Anthropic-compatible API: `/anthropic`, as the base URL of Anthropic's SDKs, and `/anthropic/v1`, as other tools have it.

The SDKs add `/v1/messages` to their base URL by themselves; `app.api.aliases` turns the `/anthropic/v1/v1` that this may give into `/anthropic/v1`.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint as PlainBlueprint
from flask import Response, jsonify

from blueprints.anthropic.dialect import MessageDialect
from blueprints.anthropic.schemas import (
    AnswerSchema,
    MessagesSchema,
    ModelListSchema,
    ModelSchema,
    PageQuerySchema,
    PromptSchema,
    TokenCountSchema,
)
from blueprints.anthropic.threads import check_thread
from blueprints.anthropic.translate import check_tools, prompt_tokens, to_messages, to_model, to_page, to_run_request
from blueprints.compat.agent_clients import may_leave_out_tools
from blueprints.compat.answer import RUN_ERRORS, answer
from blueprints.compat.context import continues_turns, to_context
from blueprints.compat.conversation import Conversation, to_conversation
from blueprints.compat.starts import continue_conversation
from blueprints.context import services
from blueprints.current_request import owner
from blueprints.marks import can_fail, runs_cli, streams
from blueprints.response_headers import ESTIMATED
from blueprints.runs.plan import Origin, current_origin
from blueprints.streaming import EVENT_STREAM
from blueprints.validation import Blueprint
from services.models import Resolution

blp = Blueprint("anthropic", __name__, url_prefix="/anthropic/v1", description="Compatible with Anthropic's Messages API")
extras = PlainBlueprint("anthropic_extras", __name__, url_prefix="/anthropic")
"""Other routes that Claude Code calls; not in the OpenAPI document."""


@blp.route("/messages", methods=["POST"])
@blp.arguments(MessagesSchema())
@blp.response(200, AnswerSchema())
@runs_cli
@streams(EVENT_STREAM)
@can_fail(*RUN_ERRORS)
def create_message(body: dict[str, Any]) -> Any:
    """Respond to a conversation.

    With `stream: true` the response is a stream of server-sent events.
    """
    origin = current_origin()
    check_thread(body)
    check_tools(body, may_leave_out=may_leave_out_tools(origin.headers))
    resolution, conversation = _resolve(body, origin)
    run_request = to_run_request(body, conversation, resolution, to_context(origin))
    dialect = MessageDialect(body, conversation)
    return answer(run_request, dialect, continue_conversation(origin), origin, kind="message", stream=body["stream"])


@blp.route("/messages/count_tokens", methods=["POST"])
@blp.arguments(PromptSchema())
@blp.response(
    200, TokenCountSchema(), headers={ESTIMATED: {"schema": {"type": "string"}, "description": "`true`: the count is an estimate"}}
)
@can_fail("not_found", "conflict", "backend_unavailable")
def count_tokens(body: dict[str, Any]) -> Any:
    """Estimate a conversation's tokens; no CLI counts them."""
    check_thread(body)
    _, conversation = _resolve(body, current_origin())
    response = jsonify({"input_tokens": prompt_tokens(body, conversation)})
    response.headers[ESTIMATED] = "true"
    return response


@blp.route("/models", methods=["GET"])
@blp.arguments(PageQuerySchema(), location="query")
@blp.response(200, ModelListSchema())
@can_fail("not_found")
def list_models(query: dict[str, Any]) -> Any:
    """List model names.

    The names are the available backends and `backend/model`. With `?all=true` the list also has aliases and unavailable names.
    """
    in_full = query.pop("all")
    models = [model for model in services().models_of(owner()).listed(in_full=in_full) if in_full or model.is_available]
    return jsonify(to_page(models, **query))


@blp.route("/models/<path:model>", methods=["GET"])
@blp.response(200, ModelSchema())
@can_fail("invalid_request", "not_found")
def get_model(model: str) -> Any:
    """Get one model by any accepted name."""
    return jsonify(to_model(services().models_of(owner()).find(model.rstrip("/"))))


def _resolve(body: dict[str, Any], origin: Origin) -> tuple[Resolution, Conversation]:
    """The backend and model, and the conversation."""
    svc = services()
    resolution = svc.models_of(origin.owner).resolve(body["model"])
    conversation = to_conversation(
        to_messages(body.get("system"), body["messages"]),
        svc.runner.backend(resolution.backend, origin.owner),
        field="messages",
        continues_session=continues_turns(origin),
    )
    return resolution, conversation


def probe() -> Response:
    """Claude Code and other clients probe with HEAD."""
    return Response()


def log_events() -> Response:
    """Accept and discard Claude Code's telemetry."""
    return jsonify({})


extras.add_url_rule("/api/event_logging/batch", view_func=log_events, methods=["POST"])
for index, rule in enumerate(("/", "/v1", "/v1/messages")):
    extras.add_url_rule(rule, view_func=probe, methods=["HEAD"], endpoint=f"probe_{index}")
