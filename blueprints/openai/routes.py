"""The OpenAI-compatible API: `/openai/v1`, as the base URL of OpenAI's SDKs."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Blueprint as PlainBlueprint
from flask import Response, jsonify, request

from blueprints.compat.agent_clients import is_codex, may_leave_out_tools
from blueprints.compat.conversation import Conversation
from blueprints.compat.estimate import estimate_tokens, estimate_usage
from blueprints.compat.model_query import ModelQuerySchema
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
    start_from_response,
)
from blueprints.context import caller, request_id, services
from blueprints.marks import can_fail, runs_cli, streams
from blueprints.openai.chat import request as chat_request
from blueprints.openai.chat.answer import ChunkEncoder, to_completion
from blueprints.openai.chat.schemas import ChatCompletionSchema, ChatSchema, OpenAIModelListSchema, OpenAIModelSchema
from blueprints.openai.errors import CODEX_RESPONSE_CODES, RESPONSE_CODES
from blueprints.openai.models import to_model, to_model_list
from blueprints.openai.responses import request as response_request
from blueprints.openai.responses.answer import to_facts, to_response
from blueprints.openai.responses.ids import new_id, new_node
from blueprints.openai.responses.schemas import CreateResponseSchema, ResponseSchema
from blueprints.openai.responses.stream import ResponseEncoder
from blueprints.openai.run_request import to_run_request
from blueprints.streaming import EVENT_STREAM
from blueprints.validation import Blueprint
from services.clis.spec import Invocation
from services.decoding.text import PlainDecoder
from services.errors import NotFound
from services.requests import RunRequest

blp = Blueprint("openai", __name__, url_prefix="/openai/v1", description="Compatible with OpenAI's Chat Completions and Responses")
extras = PlainBlueprint("openai_extras", __name__, url_prefix="/openai/v1")
"""What probing clients ask for; no part of the API's description."""


@blp.route("/chat/completions", methods=["POST"])
@blp.arguments(ChatSchema())
@blp.response(200, ChatCompletionSchema())
@runs_cli
@streams(EVENT_STREAM)
@can_fail(*OF_A_RUN)
def create_chat_completion(body: dict[str, Any]) -> Any:
    """Answer a conversation; with `stream: true` as server-sent events."""
    left_out = chat_request.check_request(body, may_leave_out_tools=may_leave_out_tools(request.headers))
    svc, session = services(), asked_session()
    resolution = svc.models.resolve(body["model"])
    spec = svc.runner.backend(resolution.backend)
    conversation = chat_request.to_chat_conversation(body, spec, continues_session=continues_turns())
    asked = chat_request.to_asked(body, keeps_session=session is not None)
    run_request = to_run_request(
        asked, conversation, resolution, spec, session=session, workdir=asked_workdir(), request_id=request_id(), caller=caller()
    )
    start = start_continuing_conversation(conversation.said, is_json=is_json(run_request))
    if body["stream"]:
        encode = ChunkEncoder(
            body["model"],
            include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
            prompt_tokens=prompt_tokens(conversation),
            tell_error=error_body(),
        )
        return run_streamed(
            run_request,
            encode,
            lambda invocation: stream_headers(invocation, [*left_out, *chat_request.names_of(body, invocation.ignored)]),
            start,
            is_json=is_json(run_request),
        )
    result = run_whole(run_request, start)
    usage = result.usage or estimate_usage(prompt_tokens(conversation), result.output)
    response = jsonify(to_completion(result, usage, model=body["model"], is_json=is_json(run_request)))
    ignored = [*left_out, *chat_request.names_of(body, result.ignored)]
    response.headers.extend(result_headers(result, ignored))
    return response


@blp.route("/responses", methods=["POST"])
@blp.arguments(CreateResponseSchema())
@blp.response(200, ResponseSchema())
@runs_cli
@streams(EVENT_STREAM)
@can_fail(*OF_A_RUN)
def create_response(body: dict[str, Any]) -> Any:
    """Answer an input, or continue an earlier response; with `stream: true` as server-sent events."""
    left_out = response_request.check_request(body, may_leave_out_tools=may_leave_out_tools(request.headers))
    svc = services()
    secret = svc.secret.value()
    resolution, session = svc.models.resolve(body["model"]), asked_session()
    if previous := response_request.asked_response(secret, body):
        resolution, session = response_request.continue_on(previous, resolution, body["model"]), previous.id
    spec = svc.runner.backend(resolution.backend)
    conversation = response_request.to_response_conversation(body, spec, continues_session=previous is not None or continues_turns())
    asked = response_request.to_asked(body, spec)
    run_request = to_run_request(
        asked, conversation, resolution, spec, session=session, workdir=asked_workdir(), request_id=request_id(), caller=caller()
    )
    facts = to_facts(body, is_stored=not run_request.ephemeral)
    make_id = partial(new_id_of, secret, run_request, new_node())
    start = start_from_response(previous.node if previous else None)
    if body["stream"]:
        return run_streamed(
            run_request,
            ResponseEncoder(
                facts,
                new_id=make_id,
                prompt_tokens=prompt_tokens(conversation),
                tell_error=error_body(),
                error_codes=CODEX_RESPONSE_CODES if is_codex(request.headers) else RESPONSE_CODES,
            ),
            lambda invocation: stream_headers(invocation, [*left_out, *response_request.names_of(invocation.ignored)]),
            start,
            is_json=is_json(run_request),
        )
    result = run_whole(run_request, start)
    usage = result.usage or estimate_usage(prompt_tokens(conversation), result.output)
    response = jsonify(to_response(result, usage, facts, make_id, is_json=is_json(run_request)))
    ignored = [*left_out, *response_request.names_of(result.ignored)]
    response.headers.extend(result_headers(result, ignored))
    return response


@blp.route("/responses/<response_id>", methods=["GET"])
@can_fail("not_found")
def get_response(response_id: str) -> Any:
    """Always a 404: the CLI keeps its session, but nobody keeps the response."""
    raise _not_kept(response_id)


@blp.route("/responses/<response_id>", methods=["DELETE"])
@can_fail("not_found")
def delete_response(response_id: str) -> Any:
    """Always a 404: there is nothing that could be deleted by a response's id."""
    raise _not_kept(response_id)


@blp.route("/models", methods=["GET"])
@blp.arguments(ModelQuerySchema(), location="query")
@blp.response(200, OpenAIModelListSchema())
def list_models(query: dict[str, Any]) -> Any:
    """The names to choose from: the available backends and `backend/model`; with `?all=true` also aliases."""
    return jsonify(to_model_list(services().models.listed(in_full=query["all"]), since, for_codex="client_version" in request.args))


@blp.route("/models/<path:model>", methods=["GET"])
@blp.response(200, OpenAIModelSchema())
@can_fail("invalid_request", "not_found")
def get_model(model: str) -> Any:
    """One model, by any name that is understood."""
    return jsonify(to_model(services().models.find(model.rstrip("/")), since))


def since(backend: str) -> int | None:
    """Since when the backend's program is there."""
    svc = services()
    return svc.prober.availability(svc.runner.backends[backend]).since


def prompt_tokens(conversation: Conversation) -> int:
    """An estimate of what the model will read."""
    return estimate_tokens(conversation.system, conversation.prompt, images=conversation.images)


def is_json(run_request: RunRequest) -> bool:
    return "json_schema" in run_request.options


def new_id_of(secret: bytes, run_request: RunRequest, node: bytes, prefix: str, session_id: str | None) -> str:
    return new_id(secret, prefix, run_request.backend, None if run_request.ephemeral else session_id, node)


def stream_headers(invocation: Invocation, ignored: list[str]) -> dict[str, str]:
    """Of a stream, whose usage is not known yet: only a plain text CLI is certain to tell none."""
    return answer_headers(invocation.spec.name, ignored, is_estimated=invocation.spec.decoder is PlainDecoder)


def _not_kept(response_id: str) -> NotFound:
    return NotFound(
        f"Response with id {response_id[:200]!r} not found: this server keeps no responses; it can be continued with previous_response_id",
        field="response_id",
    )


def probe() -> Response:
    """Some clients ask with HEAD whether anybody is there."""
    return Response()


def no_websocket() -> Response:
    """Codex' own provider asks for a WebSocket first, seven times (6 s) after a 405; a 426 sends it to HTTP at once."""
    return Response(status=426)


extras.add_url_rule("/responses", view_func=no_websocket, methods=["GET"], websocket=True)
for index, rule in enumerate(("/", "/chat/completions", "/responses")):
    extras.add_url_rule(rule, view_func=probe, methods=["HEAD"], endpoint=f"probe_{index}")
