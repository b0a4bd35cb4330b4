"""`/mcp`: the Model Context Protocol's streamable HTTP."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from flask import Response, current_app, jsonify, request

from blueprints.context import services
from blueprints.current_request import owner
from blueprints.json_limits import check_json
from blueprints.marks import can_fail, streams
from blueprints.mcp.calls import Call, alias_of, server_info
from blueprints.mcp.protocol import (
    BATCH_LIMIT,
    BATCHED,
    HANDSHAKE,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    REVISIONS,
    SESSION_HEADER,
    STATELESS,
    VERSION_HEADER,
    Request,
    RpcError,
    error_answer,
    id_of,
    to_request,
    to_revision,
)
from blueprints.mcp.results import refusal_result
from blueprints.mcp.schemas import RpcSchema
from blueprints.mcp.tools import INSTRUCTIONS, TOOLS, listed_tools
from blueprints.streaming import EVENT_STREAM
from blueprints.validation import Blueprint
from services.errors import ClinvkError
from services.event_loop import yield_to_others

blp = Blueprint("mcp", __name__, description="The gateway as an MCP server: agents ask agents")

CAPABILITIES = {"tools": {"listChanged": False}}
CACHED_MS = 300_000
"""How long clients may keep what is the same for everybody."""
BODY = {"required": True, "content": {"application/json": {"schema": RpcSchema}}}


@blp.route("/mcp", methods=["POST"])
@blp.doc(requestBody=BODY)
@blp.response(200, RpcSchema())
@blp.alt_response(202, description="A notification was taken note of")
@streams(EVENT_STREAM)
@can_fail("not_found", "rate_limit_exceeded")
def call() -> Response:
    """Speak MCP: revision 2026-07-28, or an older one after `initialize`. Tools: prompt, compare, parallel, list_backends, submit, wait, cancel."""
    try:
        sent = _body()
        is_batch = isinstance(sent, list) and bool(sent) and to_revision(sent, request.headers.get) == BATCHED
    except RpcError as error:
        return _failed(None, error)
    return _answer_all(sent) if is_batch else _answer(sent, streams=EVENT_STREAM in request.accept_mimetypes.values())


def _body() -> Any:
    body = request.get_data(cache=False)
    for _ in check_json(body):
        yield_to_others()
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RpcError(PARSE_ERROR, f"the body is not JSON: line {error.lineno} column {error.colno}: {error.msg}") from None


def _answer_all(batch: list[Any]) -> Response:
    """One after the other: the answers are one array, in the same order."""
    if len(batch) > BATCH_LIMIT:
        return _failed(None, RpcError(INVALID_REQUEST, f"a batch has at most {BATCH_LIMIT} messages"))
    found = [answer.get_data().strip() for answer in (_answer(sent, streams=False) for sent in batch)]
    bodies = [body for body in found if body]
    return Response(b"[%s]\n" % b",".join(bodies), content_type="application/json") if bodies else _noted()


def _answer(sent: Any, *, streams: bool) -> Response:
    try:
        asked = to_request(sent, request.headers.get, streams=streams)
        if asked is None:
            return _note(sent)
        method = METHODS.get(asked.method)
        if method is None or asked.is_stateless not in method.eras:
            raise RpcError(METHOD_NOT_FOUND, f"method {asked.method[:100]!r} is not one of this server")
        return method.answer(asked)
    except RpcError as error:
        return _failed(id_of(sent), error)


def _note(sent: Mapping[str, Any]) -> Response:
    """A cancellation of the older revisions comes as a message of its own, perhaps to another process than its request."""
    params = sent.get("params", {})
    if sent.get("method") == "notifications/cancelled" and to_revision(sent, request.headers.get) in HANDSHAKE:
        services().runs.lookup.cancel_alias(alias_of(params.get("requestId")), owner())
    return _noted()


def _noted() -> Response:
    return Response(status=202)


def _failed(id: int | str | None, error: RpcError) -> Response:
    response = jsonify(error_answer(id, error))
    response.status_code = error.status(is_stateless=request.headers.get(VERSION_HEADER) in STATELESS)
    return response


def _result(asked: Request, result: Mapping[str, Any]) -> Response:
    return jsonify(asked.answer(result, server_info()))


def _cached(asked: Request, result: Mapping[str, Any]) -> Response:
    return _result(asked, {**result, "ttlMs": CACHED_MS, "cacheScope": "public"} if asked.is_stateless else result)


def _initialize(asked: Request) -> Response:
    wanted = asked.params.get("protocolVersion")
    response = _result(
        asked,
        {
            "protocolVersion": wanted if wanted in HANDSHAKE else HANDSHAKE[0],
            "capabilities": CAPABILITIES,
            "serverInfo": server_info(),
            "instructions": INSTRUCTIONS,
        },
    )
    response.headers[SESSION_HEADER] = secrets.token_hex(16)
    return response


def _discover(asked: Request) -> Response:
    return _cached(asked, {"supportedVersions": list(REVISIONS), "capabilities": CAPABILITIES, "instructions": INSTRUCTIONS})


def _list(asked: Request) -> Response:
    if "cursor" in asked.params:
        raise RpcError(INVALID_PARAMS, "cursor: there is one page")
    return _cached(asked, {"tools": listed_tools()})


def _call(asked: Request) -> Response:
    name, arguments = asked.params.get("name"), asked.params.get("arguments", {})
    tool = TOOLS.get(name) if isinstance(name, str) else None
    if tool is None:
        raise RpcError(INVALID_PARAMS, f"unknown tool {str(name)[:100]!r}; the tools are {', '.join(TOOLS)}")
    if not isinstance(arguments, dict):
        raise RpcError(INVALID_PARAMS, "arguments: expected an object")
    if tool.runs_cli:
        current_app.extensions["clinvk.count_run"]()
    call = Call(asked, server_info())
    try:
        return tool.call(tool.checked(arguments), call)
    except ClinvkError as error:
        if error.code == "internal_error":
            raise
        return call.respond(refusal_result(error))


@dataclass(frozen=True, slots=True)
class Method:
    answer: Callable[[Request], Response]
    eras: tuple[bool, ...] = (False, True)
    """Whether it belongs to the revisions with a handshake (False), the stateless ones (True), or both."""


METHODS = {
    "initialize": Method(_initialize, (False,)),
    "ping": Method(lambda asked: _result(asked, {}), (False,)),
    "server/discover": Method(_discover, (True,)),
    "tools/list": Method(_list),
    "tools/call": Method(_call),
}
