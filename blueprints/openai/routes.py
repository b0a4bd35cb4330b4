"""The OpenAI-compatible API: `/openai/v1`, as the base URL of OpenAI's SDKs."""

from __future__ import annotations

from typing import Any

from flask import Blueprint as PlainBlueprint
from flask import Response, jsonify, request

from blueprints.compat.agent_clients import is_codex, may_leave_out_tools
from blueprints.compat.answer import RUN_ERRORS, answer
from blueprints.compat.context import continues_turns, request_context
from blueprints.compat.model_query import ModelQuerySchema
from blueprints.compat.starts import continue_conversation, start_from_response
from blueprints.context import services
from blueprints.marks import can_fail, runs_cli, streams
from blueprints.openai.chat import request as chat_request
from blueprints.openai.chat.dialect import ChatDialect
from blueprints.openai.chat.schemas import ChatCompletionSchema, ChatSchema, OpenAIModelListSchema, OpenAIModelSchema
from blueprints.openai.models import to_model, to_model_list
from blueprints.openai.responses import request as response_request
from blueprints.openai.responses.dialect import ResponseDialect
from blueprints.openai.responses.ids import Session
from blueprints.openai.responses.schemas import CreateResponseSchema, ResponseSchema
from blueprints.openai.run_request import to_run_request
from blueprints.streaming import EVENT_STREAM
from blueprints.validation import Blueprint
from services.clis.spec import BackendSpec
from services.errors import NotFound
from services.models import Resolution

blp = Blueprint("openai", __name__, url_prefix="/openai/v1", description="Compatible with OpenAI's Chat Completions and Responses")
extras = PlainBlueprint("openai_extras", __name__, url_prefix="/openai/v1")
"""Routes that clients probe; not in the OpenAPI document."""


@blp.route("/chat/completions", methods=["POST"])
@blp.arguments(ChatSchema())
@blp.response(200, ChatCompletionSchema())
@runs_cli
@streams(EVENT_STREAM)
@can_fail(*RUN_ERRORS)
def create_chat_completion(body: dict[str, Any]) -> Any:
    """Respond to a conversation.

    With `stream: true` the response is a stream of server-sent events.
    """
    left_out = chat_request.check_request(body, may_leave_out_tools=may_leave_out_tools(request.headers))
    resolution, spec = _resolve(body)
    conversation = chat_request.to_chat_conversation(body, spec, continues_session=continues_turns())
    context = request_context()
    options = chat_request.to_options(body, keeps_session=context.session is not None)
    run_request = to_run_request(options, conversation, resolution, spec, context)
    dialect = ChatDialect(body, conversation, left_out)
    return answer(run_request, dialect, continue_conversation(conversation.turns), kind="chat", stream=body["stream"])


@blp.route("/responses", methods=["POST"])
@blp.arguments(CreateResponseSchema())
@blp.response(200, ResponseSchema())
@runs_cli
@streams(EVENT_STREAM)
@can_fail(*RUN_ERRORS)
def create_response(body: dict[str, Any]) -> Any:
    """Respond to an input, or continue an earlier response.

    With `stream: true` the response is a stream of server-sent events.
    """
    left_out = response_request.check_request(body, may_leave_out_tools=may_leave_out_tools(request.headers))
    secret = services().secret.value()
    resolution, spec, previous = _resolve_continued(body, secret)
    conversation = response_request.to_response_conversation(body, spec, continues_session=previous is not None or continues_turns())
    context = request_context(session=previous.id if previous else None)
    run_request = to_run_request(response_request.to_options(body, spec), conversation, resolution, spec, context)
    dialect = ResponseDialect(body, run_request, conversation, left_out, secret=secret, for_codex=is_codex(request.headers))
    return answer(run_request, dialect, start_from_response(previous.node if previous else None), kind="response", stream=body["stream"])


@blp.route("/models", methods=["GET"])
@blp.arguments(ModelQuerySchema(), location="query")
@blp.response(200, OpenAIModelListSchema())
def list_models(query: dict[str, Any]) -> Any:
    """List model names.

    The names are the available backends and `backend/model`. With `?all=true` the list also has aliases.
    """
    return jsonify(to_model_list(services().models.listed(in_full=query["all"]), since, for_codex="client_version" in request.args))


@blp.route("/models/<path:model>", methods=["GET"])
@blp.response(200, OpenAIModelSchema())
@can_fail("invalid_request", "not_found")
def get_model(model: str) -> Any:
    """Get one model by any accepted name."""
    return jsonify(to_model(services().models.find(model.rstrip("/")), since))


def since(backend: str) -> int | None:
    """Unix time since when the backend's CLI has been available."""
    svc = services()
    return svc.prober.availability(svc.runner.backends[backend]).since


def _resolve(body: dict[str, Any]) -> tuple[Resolution, BackendSpec]:
    """The backend and model of the request. Raises NotFound."""
    resolution = services().models.resolve(body["model"])
    return resolution, services().runner.backend(resolution.backend)


def _resolve_continued(body: dict[str, Any], secret: bytes) -> tuple[Resolution, BackendSpec, Session | None]:
    """Also the session to continue, whose backend takes precedence. Raises InvalidRequest if the model names another backend."""
    resolution = services().models.resolve(body["model"])
    if previous := response_request.session_to_continue(secret, body):
        resolution = response_request.continue_on(previous, resolution, body["model"])
    return resolution, services().runner.backend(resolution.backend), previous


@can_fail("not_found")
def no_response(response_id: str) -> Response:
    """Always 404: the CLI stores its session, but the server stores no responses."""
    raise NotFound(
        f"Response with id {response_id[:200]!r} not found: this server stores no responses; continue it with previous_response_id",
        field="response_id",
    )


def probe() -> Response:
    """Some clients probe with HEAD."""
    return Response()


def no_websocket() -> Response:
    """Codex's own provider tries a WebSocket first. It retries seven times (6 s) after a 405, and falls back to HTTP at once after a 426."""
    return Response(status=426)


extras.add_url_rule("/responses/<response_id>", view_func=no_response, methods=["GET", "DELETE"])
extras.add_url_rule("/responses", view_func=no_websocket, methods=["GET"], websocket=True)
for index, rule in enumerate(("/", "/chat/completions", "/responses")):
    extras.add_url_rule(rule, view_func=probe, methods=["HEAD"], endpoint=f"probe_{index}")
