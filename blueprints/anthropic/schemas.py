"""Schemas of Anthropic's Messages API: the fields that this server reads. Unknown fields and explicit nulls are accepted.

Source: the request types of Anthropic's own SDK (anthropic 2.12, `types/message_create_params.py` and its neighbours).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from marshmallow import EXCLUDE, fields, validate

from blueprints.compat.model_query import ModelQuerySchema
from blueprints.ignored import ignored_field
from blueprints.request_fields import MESSAGES_LIMIT, TOOLS_LIMIT, Array, Flag, Number, StringOrObject, Whole
from blueprints.sparse_schema import SparseSchema
from blueprints.typed_list import TypedList

NAME_LIMIT = 128
STOPS_LIMIT = 64
STOP_LIMIT_CHARS = 1_000
PAGE_LIMIT = 1_000

Content = str | list["Block"] | None


class Block(msgspec.Struct, gc=False):
    """A content block of any type; fields that its type lacks are None."""

    type: str
    text: str | None = None
    source: dict[str, Any] | None = None
    title: str | None = None
    context: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None
    tool_use_id: str | None = None
    content: Any = None
    is_error: bool | None = None


class Message(msgspec.Struct, gc=False):
    role: Literal["user", "assistant", "system"]
    content: Content


class Tolerant(SparseSchema):
    class Meta:
        unknown = EXCLUDE
        ordered = True


class BlockSchema(Tolerant):
    type = fields.String(
        required=True, metadata={"description": "`text`, `image`, `document`, `tool_use`, `tool_result`, …", "example": "text"}
    )
    text = fields.String()


class StringOrBlocks(fields.Field[Any]):
    """A string, or a list of content blocks."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        if isinstance(value, str):
            return value
        return _BLOCKS.deserialize(value, attr, data)


_BLOCKS = TypedList(Block, fields.Nested(BlockSchema))


class MessageSchema(Tolerant):
    role = fields.String(required=True, validate=validate.OneOf(["user", "assistant", "system"]), metadata={"example": "user"})
    content = fields.Raw(required=True, metadata={"description": "A string, or a list of content blocks", "example": "Say hello"})


class ThinkingSchema(Tolerant):
    type = fields.String(required=True, validate=validate.OneOf(["enabled", "disabled", "adaptive", "between_tools"]))
    budget_tokens = fields.Integer(strict=True, allow_none=True, validate=validate.Range(1))
    display = fields.String(allow_none=True)


class ThreadSchema(Tolerant):
    type = fields.String(required=True, validate=validate.OneOf(["create", "continue"]))
    previous_message_id = fields.String(allow_none=True)


class OutputFormatSchema(Tolerant):
    type = fields.String(required=True, validate=validate.OneOf(["json_schema"]))
    schema = fields.Dict(required=True)


class OutputConfigSchema(Tolerant):
    effort = fields.String(allow_none=True, validate=validate.OneOf(["low", "medium", "high", "xhigh", "max"]))
    format = fields.Nested(OutputFormatSchema, allow_none=True)


class MessageMetadataSchema(Tolerant):
    user_id = fields.String(allow_none=True)


class PromptSchema(Tolerant):
    """Fields common to messages and token counts."""

    model = fields.String(
        required=True,
        validate=validate.Length(1, NAME_LIMIT),
        metadata={"description": "A backend (`claude`), `backend/model`, an alias (`fast`) or a model's name", "example": "demo"},
    )
    messages = TypedList(Message, fields.Nested(MessageSchema), required=True, validate=validate.Length(1, MESSAGES_LIMIT))
    system = StringOrBlocks(allow_none=True, metadata={"description": "System prompt: a string, or a list of text blocks"})
    tools = Array(
        fields.Dict(),
        most=TOOLS_LIMIT,
        allow_none=True,
        metadata={"description": "Client tools are not supported: omit it or leave it empty"},
    )
    tool_choice = fields.Dict(allow_none=True)
    thinking = fields.Nested(ThinkingSchema, allow_none=True)
    thread = fields.Nested(
        ThreadSchema,
        allow_none=True,
        metadata={"description": "Rejected with `thread_unsupported_request`; the SDKs then send the whole conversation"},
    )
    output_config = fields.Nested(OutputConfigSchema, allow_none=True)
    output_format = fields.Nested(OutputFormatSchema, allow_none=True, metadata={"description": "Older name of `output_config.format`"})


class MessagesSchema(PromptSchema):
    max_tokens = fields.Integer(
        required=True,
        strict=True,
        validate=validate.Range(1),
        metadata={"description": "Upper bound of the output's tokens, for CLIs that support it", "example": 1024},
    )
    stream = Flag(allow_none=True, load_default=False)
    stop_sequences = Array(fields.String(validate=validate.Length(1, STOP_LIMIT_CHARS)), most=STOPS_LIMIT, allow_none=True)
    metadata = fields.Nested(MessageMetadataSchema, allow_none=True)
    mcp_servers = Array(
        fields.Dict(), most=TOOLS_LIMIT, allow_none=True, metadata={"description": "Not supported: omit it or leave it empty"}
    )
    temperature = ignored_field(Number)
    top_p = ignored_field(Number)
    top_k = ignored_field(Whole)
    container = ignored_field(StringOrObject)
    context_management = ignored_field(fields.Dict)
    inference_geo = ignored_field(fields.String)
    speed = ignored_field(fields.String)


class UsageSchema(Tolerant):
    input_tokens = fields.Integer(required=True, metadata={"description": "Input tokens, without cached ones"})
    output_tokens = fields.Integer(required=True)
    cache_read_input_tokens = fields.Integer()
    cache_creation_input_tokens = fields.Integer()


class AnswerSchema(Tolerant):
    id = fields.String(required=True)
    type = fields.String(required=True, metadata={"example": "message"})
    role = fields.String(required=True, metadata={"example": "assistant"})
    model = fields.String(required=True, metadata={"description": "As requested; X-Clinvk-Backend names the backend"})
    content = fields.List(fields.Nested(BlockSchema), required=True)
    stop_reason = fields.String(required=True)
    stop_sequence = fields.String(allow_none=True)
    usage = fields.Nested(UsageSchema, required=True)


class TokenCountSchema(Tolerant):
    input_tokens = fields.Integer(required=True, metadata={"description": "An estimate"})


class PageQuerySchema(ModelQuerySchema):
    all = fields.Boolean(
        load_default=False, metadata={"description": "Include aliases, the demo backend, and backends that are not available"}
    )
    limit = fields.Integer(load_default=20, validate=validate.Range(1, PAGE_LIMIT))
    after_id = fields.String(metadata={"description": "The page after this id"})
    before_id = fields.String(metadata={"description": "The page before this id"})


class ModelSchema(Tolerant):
    id = fields.String(required=True)
    type = fields.String(required=True, metadata={"example": "model"})
    display_name = fields.String(required=True)
    created_at = fields.String(required=True)
    lifecycle = fields.String(required=True, metadata={"example": "active"})
    backend = fields.String(metadata={"description": "The model's backend"})
    available = fields.Boolean(metadata={"description": "Whether its CLI is installed"})


class ModelListSchema(Tolerant):
    data = fields.List(fields.Nested(ModelSchema), required=True)
    has_more = fields.Boolean(required=True)
    first_id = fields.String(allow_none=True)
    last_id = fields.String(allow_none=True)
