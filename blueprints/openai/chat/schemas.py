"""Schemas of OpenAI's Chat Completions and Models: the fields that this server reads. Unknown fields and nulls are accepted.

Source: the types of OpenAI's own SDK (openai 3.54, `types/chat/completion_create_params.py` and its neighbours).
"""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import EXCLUDE, fields, validate

from blueprints.ignored import ignored_field
from blueprints.openai.content import Item, Message
from blueprints.openai.options import EFFORTS
from blueprints.request_fields import MESSAGES_LIMIT, TOOLS_LIMIT, Array, Flag, Number, StringOrObject, Whole
from blueprints.sparse_schema import SparseSchema
from blueprints.typed_list import TypedList

NAME_LIMIT = 128
STOPS_LIMIT = 4
STOP_LIMIT_CHARS = 1_000
NO_TOOLS = {"description": "Client tools are not supported: omit it or leave it empty"}


class Tolerant(SparseSchema):
    class Meta:
        unknown = EXCLUDE
        ordered = True


class Strings(Array):
    """A string, or a list of strings."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> Any:
        return super()._deserialize([value] if isinstance(value, str) else value, attr, data, **more)


class ChatMessageSchema(Tolerant):
    role = fields.String(
        required=True,
        validate=validate.OneOf(["system", "developer", "user", "assistant", "tool", "function"]),
        metadata={"example": "user"},
    )
    content = fields.Raw(allow_none=True, metadata={"description": "A string, a list of content parts, or null", "example": "Say hello"})
    tool_calls = fields.List(fields.Dict(), allow_none=True)
    tool_call_id = fields.String(allow_none=True)


class InputItemSchema(Tolerant):
    type = fields.String(metadata={"description": "`message`, `function_call`, `function_call_output`, …", "example": "message"})
    role = fields.String(metadata={"example": "user"})
    content = fields.Raw(allow_none=True, metadata={"description": "A string, or a list of content parts", "example": "Say hello"})


class InputField(fields.Field[Any]):
    """``input``: a string, or a list of items."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        if isinstance(value, str):
            return value
        if not isinstance(value, list):
            raise ma.ValidationError("expected a string or an array of items")
        return ITEMS.deserialize(value, attr, data)


ITEMS = TypedList(Item, fields.Nested(InputItemSchema), validate=validate.Length(max=MESSAGES_LIMIT))


def model_field(**more: Any) -> fields.String:
    meaning = {"description": "A backend (`claude`), `backend/model`, an alias (`fast`) or a model's name", "example": "demo"}
    return fields.String(required=True, validate=validate.Length(1, NAME_LIMIT), metadata=meaning, **more)


def count_field(meaning: str, **more: Any) -> fields.Integer:
    return fields.Integer(allow_none=True, strict=True, validate=validate.Range(1), metadata={"description": meaning}, **more)


def tools_field() -> Array:
    return Array(fields.Dict(), most=TOOLS_LIMIT, allow_none=True, metadata=NO_TOOLS)


class ChatStreamOptionsSchema(Tolerant):
    include_usage = Flag(allow_none=True, metadata={"description": "End the stream with a usage chunk"})


class ReasoningSchema(Tolerant):
    effort = fields.String(allow_none=True, validate=validate.OneOf(EFFORTS))
    summary = fields.String(allow_none=True)


class ChatSchema(Tolerant):
    model = model_field()
    messages = TypedList(Message, fields.Nested(ChatMessageSchema), allow_none=True, validate=validate.Length(1, MESSAGES_LIMIT))
    input = InputField(allow_none=True, metadata={"description": "As in `/responses`: accepted instead of `messages`"})
    instructions = fields.String(allow_none=True)
    stream = Flag(allow_none=True, load_default=False)
    stream_options = fields.Nested(ChatStreamOptionsSchema, allow_none=True)
    max_completion_tokens = count_field("Upper bound of the output's tokens, for CLIs that support it")
    max_tokens = count_field("Older name of `max_completion_tokens`")
    max_output_tokens = count_field("As in `/responses`")
    stop = Strings(
        fields.String(validate=validate.Length(max=STOP_LIMIT_CHARS)),
        most=STOPS_LIMIT,
        allow_none=True,
        metadata={"description": "A string or a list of strings; the output ends before the first of them"},
    )
    reasoning_effort = fields.String(allow_none=True, validate=validate.OneOf(EFFORTS))
    reasoning = fields.Nested(ReasoningSchema, allow_none=True)
    response_format = fields.Dict(
        allow_none=True, metadata={"description": "`text`, `json_object`, or `json_schema` if the CLI supports it"}
    )
    n = fields.Integer(allow_none=True, strict=True, metadata={"description": "1 or omitted"})
    modalities = Array(fields.String(), allow_none=True)
    audio = fields.Dict(allow_none=True)
    tools = tools_field()
    functions = tools_field()
    tool_choice = StringOrObject(allow_none=True)
    function_call = StringOrObject(allow_none=True)
    temperature = ignored_field(Number)
    top_p = ignored_field(Number)
    top_k = ignored_field(Number)
    min_p = ignored_field(Number)
    presence_penalty = ignored_field(Number)
    frequency_penalty = ignored_field(Number)
    repetition_penalty = ignored_field(Number)
    seed = ignored_field(Whole)
    logit_bias = ignored_field(fields.Dict)
    logprobs = ignored_field(Flag)
    top_logprobs = ignored_field(Whole)
    service_tier = ignored_field(fields.String)
    verbosity = ignored_field(fields.String)
    prediction = ignored_field(fields.Dict)
    web_search_options = ignored_field(fields.Dict)
    moderation = ignored_field(fields.Raw)
    store = ignored_field(Flag)


class ChatUsageSchema(Tolerant):
    prompt_tokens = fields.Integer(required=True, metadata={"description": "All input tokens, cached ones included"})
    completion_tokens = fields.Integer(required=True)
    total_tokens = fields.Integer(required=True)
    prompt_tokens_details = fields.Dict(keys=fields.String(), values=fields.Integer())
    completion_tokens_details = fields.Dict(keys=fields.String(), values=fields.Integer())


class ChatAnswerSchema(Tolerant):
    role = fields.String(required=True, metadata={"example": "assistant"})
    content = fields.String(required=True)
    refusal = fields.String(allow_none=True)
    reasoning_content = fields.String(metadata={"description": "The model's thinking, if the CLI outputs it"})


class ChatChoiceSchema(Tolerant):
    index = fields.Integer(required=True)
    message = fields.Nested(ChatAnswerSchema, required=True)
    logprobs = fields.Raw(allow_none=True)
    finish_reason = fields.String(required=True, validate=validate.OneOf(["stop", "length", "content_filter"]))


class ChatCompletionSchema(Tolerant):
    id = fields.String(required=True)
    object = fields.String(required=True, metadata={"example": "chat.completion"})
    created = fields.Integer(required=True)
    model = fields.String(required=True, metadata={"description": "As requested; X-Clinvk-Backend names the backend"})
    choices = fields.List(fields.Nested(ChatChoiceSchema), required=True)
    usage = fields.Nested(ChatUsageSchema, required=True)


class OpenAIModelSchema(Tolerant):
    id = fields.String(required=True)
    object = fields.String(required=True, metadata={"example": "model"})
    created = fields.Integer(required=True)
    owned_by = fields.String(required=True, metadata={"description": "The model's backend"})


class OpenAIModelListSchema(Tolerant):
    object = fields.String(required=True, metadata={"example": "list"})
    data = fields.List(fields.Nested(OpenAIModelSchema), required=True)
