"""Completes every operation of the OpenAPI document: its error responses, in its surface's format, and streamed runs. The marks of
the view (`blueprints.marks`) decide which of them apply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import flask
import marshmallow as ma
from apispec import APISpec, BasePlugin
from marshmallow import fields

from app.api.errors import STATUS
from app.api.surfaces import Surface, surface_of
from blueprints.marks import Marks, marks_of
from blueprints.streaming import EVENT_STREAM, NDJSON


class ErrorDetailSchema(ma.Schema):
    code = fields.String(required=True, metadata={"description": "What went wrong, for programs", "example": "invalid_request"})
    message = fields.String(required=True, metadata={"description": "What went wrong and what to change, for people"})
    details = fields.Dict(required=True, metadata={"description": "`field` and `issue` where there is one"})


class ErrorMetaSchema(ma.Schema):
    request_id = fields.String(required=True)
    timestamp = fields.String(required=True, metadata={"description": "RFC 3339, UTC"})


class ErrorSchema(ma.Schema):
    error = fields.Nested(ErrorDetailSchema(), required=True)
    meta = fields.Nested(ErrorMetaSchema(), required=True)


class OpenAIErrorDetailSchema(ma.Schema):
    message = fields.String(required=True)
    type = fields.String(required=True, metadata={"example": "invalid_request_error"})
    param = fields.String(required=True, allow_none=True, metadata={"description": "The field that is wrong"})
    code = fields.String(required=True, allow_none=True)


class OpenAIErrorSchema(ma.Schema):
    error = fields.Nested(OpenAIErrorDetailSchema(), required=True)


class AnthropicErrorDetailSchema(ma.Schema):
    type = fields.String(required=True, metadata={"example": "invalid_request_error"})
    message = fields.String(required=True)
    details = fields.Dict(metadata={"description": "`error_code`, where the SDKs react to one"})


class AnthropicErrorSchema(ma.Schema):
    type = fields.String(required=True, validate=ma.validate.Equal("error"))
    error = fields.Nested(AnthropicErrorDetailSchema(), required=True)
    request_id = fields.String(required=True)


class McpErrorDetailSchema(ma.Schema):
    code = fields.Integer(required=True, metadata={"description": "Of JSON-RPC and of MCP", "example": -32600})
    message = fields.String(required=True)
    data = fields.Dict()


class McpErrorSchema(ma.Schema):
    jsonrpc = fields.String(required=True, validate=ma.validate.Equal("2.0"))
    id = fields.Raw(required=True, allow_none=True)
    error = fields.Nested(McpErrorDetailSchema(), required=True)


ERROR_SCHEMAS: Mapping[str, type[ma.Schema]] = {"openai": OpenAIErrorSchema, "anthropic": AnthropicErrorSchema, "mcp": McpErrorSchema}
"""By surface name; other surfaces use the native schema."""

MEANINGS: Mapping[str, str] = {
    "invalid_request": "Something in the request is not valid, or not allowed",
    "authentication_error": "The API key is missing or wrong. An address that repeatedly sends wrong keys gets 429 for a while",
    "permission_denied": "The Host header or the Origin of the request is not allowed, or the key lacks a right: `details` names it",
    "not_found": "The requested resource does not exist",
    "request_timeout": "The request body did not arrive in time",
    "conflict": "A turn of this session is queued or running, the id prefix matches several sessions, the run has not ended, or the "
    "`Idempotency-Key` belongs to another request or to one that is still running, or the name of the key is taken",
    "gone": "The events of this run were deleted",
    "request_too_large": "The request body is larger than `server.max_request_body_bytes`",
    "unsupported_media_type": "The Content-Type of the body is not JSON",
    "rate_limit_exceeded": "Too many requests, either to this server or to the model's vendor. `Retry-After` says when to retry",
    "internal_error": "A bug in this server",
    "backend_error": "The CLI ran and failed",
    "backend_unavailable": "The CLI is not installed or not logged in, the queue is full, or the server is shutting down",
    "backend_overloaded": "The model's vendor is overloaded",
    "timeout": "The run exceeded its time limit and was stopped",
}

EVERY_ROUTE = ("permission_denied", "request_too_large", "unsupported_media_type", "internal_error")
WITH_BODY = ("invalid_request", "request_timeout")

STREAMS: Mapping[str, Mapping[str, Any]] = {
    # No schema: in OpenAPI 3.0 it would describe the whole stream, and some tools apply it to each event.
    EVENT_STREAM: {"example": 'event: message\ndata: {"type":"message","sequence":2,"content":"Hello", ...}\n\n'},
    NDJSON: {"schema": {"type": "string"}, "example": '{"type":"message","sequence":2,"content":"Hello", ...}\n'},
}


_CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Say hello"}]}

EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "/api/v1/prompt": {"backend": "demo", "prompt": "Say hello"},
    "/api/v1/parallel": {"tasks": [{"backend": "demo", "prompt": "Say hello"}, {"backend": "demo", "prompt": "Say goodbye"}]},
    "/api/v1/chain": {"steps": [{"backend": "demo", "prompt": "Say hello"}, {"backend": "demo", "prompt": "Shorten this: {{previous}}"}]},
    "/api/v1/compare": {"prompt": "Say hello", "targets": [{"backend": "demo"}, {"backend": "demo", "model": "demo-1"}]},
    "/api/v1/sessions": {"backend": "demo", "title": "A first session"},
    "/api/v1/sessions/{session_id}/resume": {"prompt": "Say it again"},
    "/openai/v1/chat/completions": _CHAT,
    "/openai/v1/responses": {"model": "demo", "input": "Say hello"},
    "/anthropic/v1/messages": _CHAT | {"max_tokens": 1024},
    "/mcp": {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "prompt", "arguments": {"backend": "demo", "prompt": "Say hello"}},
    },
    "/anthropic/v1/messages/count_tokens": _CHAT,
}
"""Request bodies that work unchanged, even without any CLI installed; Swagger UI's "Try it out" starts with them. An example
generated from the schema would set every field and be rejected."""


_ANSWER = {"exit_code": 0, "duration_ms": 1234, "output": "Hello!", "error": None, "cost_usd": 0.0123}
_USAGE = {"input_tokens": 2, "output_tokens": 20, "cached_tokens": 0, "reasoning_tokens": 0}
_RESULT = {
    "session_id": "b7a3ee61-6f3c-4f0e-9d5c-0a4b1d1f2c3d",
    "backend": "claude",
    "model": "claude-sonnet-5",
    **_ANSWER,
    "token_usage": _USAGE,
    "ignored": [],
    "denied_tools": [],
    "meta": {"request_id": "req_0123456789abcdef01234567", "timestamp": "2026-01-31T12:00:00.000Z"},
}

RESULT_EXAMPLES: Mapping[str, Mapping[str, Any]] = dict.fromkeys(("/api/v1/prompt", "/api/v1/sessions/{session_id}/resume"), _RESULT)
"""The response of a run. An example generated from the schema would include the members of a dry run."""

HEADERS: Mapping[str, str] = {
    "X-Clinvk-Session": "Id of the session to continue; without it, nothing is kept",
    "X-Clinvk-Workdir": "Absolute path of the folder in which the agent works",
    "X-Clinvk-Tools": "`ignore`: leave out the request's client tools instead of refusing them",
}
"""Request headers of runs on the compatible surfaces."""

HEADER_PARAMETERS = [{"in": "header", "name": name, "schema": {"type": "string"}, "description": text} for name, text in HEADERS.items()]


class Describe(BasePlugin):
    """An apispec plugin that completes every operation at registration, from the marks of its view."""

    def __init__(self, app: flask.Flask) -> None:
        self._app = app

    def init_spec(self, spec: APISpec) -> None:
        for name in ("native", *ERROR_SCHEMAS):
            schema = ERROR_SCHEMAS.get(name, ErrorSchema)
            for code, meaning in MEANINGS.items():
                response = {"description": meaning, "content": {"application/json": {"schema": schema()}}}
                spec.components.response(_response_name(name, code), response, lazy=True)

    def operation_helper(self, path: str | None = None, operations: dict[str, Any] | None = None, **more: Any) -> None:
        assert path is not None
        marks = marks_of(self._app.view_functions[more["rule"].endpoint])
        for method, operation in (operations or {}).items():
            if isinstance(operation, dict):
                self._complete(operation, method, path, marks)

    def _complete(self, operation: dict[str, Any], method: str, path: str, marks: Marks) -> None:
        if marks.is_public:
            operation["security"] = []
        responses = operation.setdefault("responses", {})
        for generated in (400, "400"):
            responses.pop(generated, None)
        surface = surface_of(path)
        for code in codes_of(marks, operation):
            status = str((surface.statuses or {}).get(code, STATUS[code]))
            if int(status) not in responses:
                responses.setdefault(status, _response_name(_envelope_name(surface), code))
        if marks.stream_types:
            add_streams(responses, marks.stream_types)
        if marks.runs_cli and surface.name in ERROR_SCHEMAS:
            operation["parameters"] = [*operation.get("parameters", []), *HEADER_PARAMETERS]
        if path in RESULT_EXAMPLES:
            (responses.get("200") or responses[200])["content"]["application/json"]["example"] = RESULT_EXAMPLES[path]
        if method == "post" and path in EXAMPLES:
            operation["requestBody"]["content"]["application/json"]["example"] = EXAMPLES[path]


def codes_of(marks: Marks, operation: Mapping[str, Any]) -> list[str]:
    """The error codes of the operation. If two share a status, the first is documented."""
    codes = [*EVERY_ROUTE]
    if not marks.is_public:
        codes.append("authentication_error")
    if "requestBody" in operation:
        codes += WITH_BODY
    if operation.get("parameters"):  # of the query
        codes.append("invalid_request")
    if marks.runs_cli:
        codes.append("rate_limit_exceeded")
    return [*codes, *marks.errors]


def add_streams(responses: dict[Any, Any], content_types: Iterable[str]) -> None:
    ok = responses.get("200") or responses[200]
    ok["content"] = {**ok.get("content", {}), **{form: STREAMS[form] for form in content_types}}


def _envelope_name(surface: Surface) -> str:
    return surface.name if surface.name in ERROR_SCHEMAS else "native"


def _response_name(surface: str, code: str) -> str:
    return f"{surface}_{code}"
