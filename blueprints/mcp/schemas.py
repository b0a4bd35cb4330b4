"""Arguments of the tools: the native schemas, with the fields that a model needs. Their JSON Schema is what clients see."""

from __future__ import annotations

from typing import Any

from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields, validate

from blueprints.native.compose_schemas import TaskSchema
from blueprints.native.schemas import Pattern, Strict
from blueprints.request_fields import Array, Number
from services.compose.plan import RUNS_LIMIT

WAIT_S, WAIT_LIMIT_S = 60.0, 600.0
RUN_ID = Pattern(r"^run_[0-9a-f]{1,60}$", error="not the id of a run")


def backend_field() -> fields.String:
    return fields.String(metadata={"description": "Which agent: a name from list_backends. Default: the server's default"})


class TaskArguments(TaskSchema):
    class Meta(Strict.Meta):
        fields = ("prompt", "backend", "model", "workdir", "approval_mode", "timeout_secs")

    prompt = fields.String(
        required=True, metadata={"description": "What the agent is to do, in full: it knows nothing of your conversation"}
    )
    backend = backend_field()
    workdir = fields.String(
        validate=validate.Length(1, 4096), metadata={"description": "Absolute path of the folder in which the agent works"}
    )
    approval_mode = fields.String(
        validate=validate.OneOf(["default", "auto", "none"]),
        metadata={"description": "What the agent may do unasked. `auto`: edit files; `none`: anything, without approval"},
    )


class PromptArguments(TaskArguments):
    class Meta(Strict.Meta):
        fields = (*TaskArguments.Meta.fields, "session_id")

    session_id = fields.String(
        validate=validate.Length(1, 64), metadata={"description": "Continue the conversation that an earlier answer named"}
    )


class CompareArguments(Strict):
    prompt = fields.String(required=True, metadata={"description": "What all of the agents are asked, in full"})
    backends = Array(fields.String(), required=True, least=1, most=RUNS_LIMIT, metadata={"description": "Names from list_backends"})
    workdir = fields.String(
        validate=validate.Length(1, 4096), metadata={"description": "Absolute path of the folder in which the agents work"}
    )


class ParallelArguments(Strict):
    tasks = Array(fields.Nested(TaskArguments()), required=True, least=1, most=RUNS_LIMIT)


class RunArguments(Strict):
    run_id = fields.String(required=True, validate=RUN_ID, metadata={"description": "As `submit` returned it"})


class WaitArguments(RunArguments):
    timeout_secs = Number(
        load_default=WAIT_S,
        validate=validate.Range(0, WAIT_LIMIT_S),
        metadata={"description": f"How long to wait at most; default {WAIT_S:g}"},
    )


class NoArguments(Strict):
    pass


class RpcSchema(Schema):
    """One JSON-RPC message."""

    jsonrpc = fields.String(required=True, validate=validate.Equal("2.0"))
    id = fields.Raw(allow_none=True, metadata={"description": "A string or a number; absent in a notification"})
    method = fields.String(metadata={"description": "Of a request", "example": "tools/call"})
    params = fields.Dict(metadata={"description": "Of a request"})
    result = fields.Dict(metadata={"description": "Of an answer"})
    error = fields.Dict(metadata={"description": "Of an answer: `code`, `message` and perhaps `data`"})


def to_json_schema(schema: Schema) -> dict[str, Any]:
    """Of a tool's arguments, with nothing in it that is OpenAPI alone."""
    converter = OpenAPIConverter("3.1.0", lambda _: None, None)  # type: ignore[arg-type]  # nested schemas are written out
    found: dict[str, Any] = _without(converter.schema2jsonschema(schema), "example")  # type: ignore[no-untyped-call]
    return {"properties": {}, **found}


def _without(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _without(part, name) for key, part in value.items() if key != name}
    return [_without(part, name) for part in value] if isinstance(value, list) else value
