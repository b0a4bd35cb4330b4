"""The Anthropic-compatible API: `/anthropic`, as the base URL of Anthropic's SDKs, and `/anthropic/v1`, as other tools have it.

The SDKs add `/v1/messages` to their base URL by themselves; `app.api.aliases` turns the `/anthropic/v1/v1` that this may give into `/anthropic/v1`.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint as PlainBlueprint
from flask import Response, jsonify, request

from blueprints.anthropic.schemas import (
    AnswerSchema,
    MessagesSchema,
    ModelListSchema,
    ModelSchema,
    PageQuerySchema,
    PromptSchema,
    TokenCountSchema,
)
from blueprints.anthropic.stream import MessageEncoder
from blueprints.anthropic.threads import check_thread
from blueprints.anthropic.translate import (
    check_tools,
    ignored_fields,
    prompt_tokens,
    to_message,
    to_model,
    to_page,
    to_run_request,
    to_turns,
    wants_thinking,
)
from blueprints.compat.agent_clients import may_leave_out_tools
from blueprints.compat.conversation import Conversation, to_conversation
from blueprints.compat.estimate import estimate_usage
from blueprints.compat.runs import (
    OF_A_RUN,
    answer_headers,
    asked_session,
    asked_workdir,
    continues_turns,
    error_body,
    result_headers,
    run_streamed,
    run_whole,
    start_continuing_conversation,
)
from blueprints.context import caller, request_id, services
from blueprints.marks import can_fail, runs_cli, streams
from blueprints.response_headers import ESTIMATED
from blueprints.streaming import EVENT_STREAM
from blueprints.validation import Blueprint
from services.decoding.text import PlainDecoder
from services.models import Resolution
from services.requests import RunRequest

blp = Blueprint("anthropic", __name__, url_prefix="/anthropic/v1", description="Compatible with Anthropic's Messages API")
extras = PlainBlueprint("anthropic_extras", __name__, url_prefix="/anthropic")
"""What Claude Code asks for besides; no part of the API's description."""


@blp.route("/messages", methods=["POST"])
@blp.arguments(MessagesSchema())
@blp.response(200, AnswerSchema())
@runs_cli
@streams(EVENT_STREAM)
@can_fail(*OF_A_RUN)
def create_message(body: dict[str, Any]) -> Any:
    """Answer a conversation; with `stream: true` as server-sent events."""
    check_thread(body)
    check_tools(body, may_leave_out=may_leave_out_tools(request.headers))
    resolution, conversation = _understand(body)
    run_request = to_run_request(
        body,
        conversation,
        resolution,
        session=asked_session(),
        workdir=asked_workdir(),
        request_id=request_id(),
        caller=caller(),
    )
    answer = stream_message if body["stream"] else whole_message
    return answer(body, conversation, run_request)


def whole_message(body: dict[str, Any], conversation: Conversation, run_request: RunRequest) -> Response:
    is_json = "json_schema" in run_request.options
    result = run_whole(run_request, start_continuing_conversation(conversation.said, is_json=is_json))
    usage = result.usage or estimate_usage(prompt_tokens(body, conversation), result.output)
    response = jsonify(to_message(result, usage, model=body["model"], is_json=is_json, has_thinking=wants_thinking(body)))
    response.headers.extend(result_headers(result, ignored_fields(body, result.ignored)))
    return response


def stream_message(body: dict[str, Any], conversation: Conversation, run_request: RunRequest) -> Response:
    encode = MessageEncoder(
        body["model"],
        input_tokens=prompt_tokens(body, conversation),
        has_thinking=wants_thinking(body),
        tell_error=error_body(),
    )
    is_json = "json_schema" in run_request.options
    return run_streamed(
        run_request,
        encode,
        lambda invocation: answer_headers(
            invocation.spec.name,
            ignored_fields(body, invocation.ignored),
            is_estimated=invocation.spec.decoder is PlainDecoder,  # the one that never has usage to tell
        ),
        start_continuing_conversation(conversation.said, is_json=is_json),
        is_json=is_json,
        waits_for_words=True,
    )


@blp.route("/messages/count_tokens", methods=["POST"])
@blp.arguments(PromptSchema())
@blp.response(200, TokenCountSchema(), headers={ESTIMATED: {"schema": {"type": "string"}, "description": "`true`: nobody counted"}})
@can_fail("not_found", "conflict", "backend_unavailable")
def count_tokens(body: dict[str, Any]) -> Any:
    """Estimate how many tokens a conversation has. No CLI counts them."""
    check_thread(body)
    _, conversation = _understand(body)
    response = jsonify({"input_tokens": prompt_tokens(body, conversation)})
    response.headers[ESTIMATED] = "true"
    return response


@blp.route("/models", methods=["GET"])
@blp.arguments(PageQuerySchema(), location="query")
@blp.response(200, ModelListSchema())
@can_fail("not_found")
def list_models(query: dict[str, Any]) -> Any:
    """The names to choose from: backends and `backend/model`, the available ones first; with `?all=true` also aliases."""
    return jsonify(to_page(services().models.listed(in_full=query.pop("all")), **query))


@blp.route("/models/<path:model>", methods=["GET"])
@blp.response(200, ModelSchema())
@can_fail("invalid_request", "not_found")
def get_model(model: str) -> Any:
    """One model, by any name that is understood."""
    return jsonify(to_model(services().models.find(model.rstrip("/"))))


def _understand(body: dict[str, Any]) -> tuple[Resolution, Conversation]:
    """Who is to answer, and what."""
    svc = services()
    resolution = svc.models.resolve(body["model"])
    conversation = to_conversation(
        to_turns(body.get("system"), body["messages"]),
        has_system_option=svc.runner.backend(resolution.backend).honours("system_prompt"),
        continues_session=continues_turns(),
    )
    return resolution, conversation


def probe() -> Response:
    """Claude Code and others ask with HEAD whether anybody is there."""
    return Response()


def log_events() -> Response:
    """Claude Code reports what its user does. It is told that all is well, and nobody reads it."""
    return jsonify({})


extras.add_url_rule("/api/event_logging/batch", view_func=log_events, methods=["POST"])
for index, rule in enumerate(("/", "/v1", "/v1/messages")):
    extras.add_url_rule(rule, view_func=probe, methods=["HEAD"], endpoint=f"probe_{index}")
