"""The OpenAI-compatible API: `/openai/v1`, as the base URL of OpenAI's SDKs."""

from __future__ import annotations

from typing import Any

from flask import Blueprint as PlainBlueprint
from flask import Response, jsonify, request

from blueprints.compat.agent_clients import may_leave_out_tools
from blueprints.compat.answer import RUN_ERRORS, answer
from blueprints.compat.context import continues_turns, to_context
from blueprints.compat.model_query import ModelQuerySchema
from blueprints.compat.starts import continue_conversation
from blueprints.context import services
from blueprints.current_request import owner
from blueprints.marks import can_fail, runs_cli, streams
from blueprints.openai.chat import request as chat_request
from blueprints.openai.chat.dialect import ChatDialect
from blueprints.openai.chat.schemas import ChatCompletionSchema, ChatSchema, OpenAIModelListSchema, OpenAIModelSchema
from blueprints.openai.models import to_model, to_model_list
from blueprints.openai.run_request import to_run_request
from blueprints.runs.plan import Origin, current_origin
from blueprints.streaming import EVENT_STREAM
from blueprints.validation import Blueprint
from services.clis.spec import BackendSpec
from services.models import Resolution

blp = Blueprint("openai", __name__, url_prefix="/openai/v1", description="Compatible with OpenAI's Chat Completions")
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
    origin = current_origin()
    left_out = chat_request.check_request(body, may_leave_out_tools=may_leave_out_tools(origin.headers))
    resolution, spec = _resolve(body, origin)
    conversation = chat_request.to_chat_conversation(body, spec, continues_session=continues_turns(origin))
    context = to_context(origin)
    options = chat_request.to_options(body, keeps_session=context.session is not None)
    run_request = to_run_request(options, conversation, resolution, spec, context)
    dialect = ChatDialect(body, conversation, left_out)
    return answer(run_request, dialect, continue_conversation(origin), origin, kind="chat", stream=body["stream"])


@blp.route("/models", methods=["GET"])
@blp.arguments(ModelQuerySchema(), location="query")
@blp.response(200, OpenAIModelListSchema())
def list_models(query: dict[str, Any]) -> Any:
    """List model names.

    The names are the available backends and `backend/model`. With `?all=true` the list also has aliases.
    """
    return jsonify(
        to_model_list(services().models_of(owner()).listed(in_full=query["all"]), since, for_codex="client_version" in request.args)
    )


@blp.route("/models/<path:model>", methods=["GET"])
@blp.response(200, OpenAIModelSchema())
@can_fail("invalid_request", "not_found")
def get_model(model: str) -> Any:
    """Get one model by any accepted name."""
    return jsonify(to_model(services().models_of(owner()).find(model.rstrip("/")), since))


def since(backend: str) -> int | None:
    """Unix time since when the backend's CLI has been available."""
    svc = services()
    return svc.prober.availability(svc.runner.backends[backend]).since


def _resolve(body: dict[str, Any], origin: Origin) -> tuple[Resolution, BackendSpec]:
    """The backend and model of the request. Raises NotFound, RightMissing."""
    resolution = services().models_of(origin.owner).resolve(body["model"])
    return resolution, services().runner.backend(resolution.backend, origin.owner)


def probe() -> Response:
    """Some clients probe with HEAD."""
    return Response()


def no_websocket() -> Response:
    """Codex's own provider tries a WebSocket first. It retries seven times (6 s) after a 405, and falls back to HTTP at once after a 426."""
    return Response(status=426)


extras.add_url_rule("/responses", view_func=no_websocket, methods=["GET"], websocket=True)
for index, rule in enumerate(("/", "/chat/completions", "/responses")):
    extras.add_url_rule(rule, view_func=probe, methods=["HEAD"], endpoint=f"probe_{index}")
