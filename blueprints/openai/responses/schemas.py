"""Schemas of OpenAI's Responses: the fields that this server reads. Unknown fields and explicit nulls are accepted.

Source: the types of OpenAI's own SDK (openai 3.54, `types/responses/response_create_params.py` and its neighbours).
"""

from __future__ import annotations

from marshmallow import fields, validate

from blueprints.ignored import ignored_field
from blueprints.openai.chat.schemas import InputField, ReasoningSchema, Tolerant, count_field, model_field, tools_field
from blueprints.request_fields import EVENT_NUMBER_LIMIT, Array, Flag, Metadata, Number, StringOrObject, Whole
from blueprints.webhook_field import ResponseWebhookSchema


class TextFormatSchema(Tolerant):
    format = fields.Dict(allow_none=True, metadata={"description": "`text`, `json_object`, or `json_schema` if the CLI supports it"})
    verbosity = ignored_field(fields.String)


class CreateResponseSchema(Tolerant):
    model = model_field()
    input = InputField(required=True, metadata={"description": "A string, or a list of items", "example": "Say hello"})
    instructions = fields.String(allow_none=True, metadata={"description": "System prompt"})
    previous_response_id = fields.String(
        allow_none=True,
        metadata={"description": "Continues the CLI's session; some CLIs require the same working directory"},
    )
    store = Flag(
        allow_none=True,
        metadata={
            "description": "Unless `false`, the response can be retrieved, and the CLI stores its session, for `previous_response_id`"
        },
    )
    stream = Flag(allow_none=True, load_default=False)
    max_output_tokens = count_field("Upper bound of the output's tokens, for CLIs that support it")
    reasoning = fields.Nested(ReasoningSchema, allow_none=True)
    text = fields.Nested(TextFormatSchema, allow_none=True)
    metadata = Metadata(allow_none=True, metadata={"description": "Your own data, repeated in the response"})
    user = fields.String(allow_none=True)
    tools = tools_field()
    tool_choice = StringOrObject(allow_none=True)
    parallel_tool_calls = Flag(allow_none=True)
    background = Flag(allow_none=True, metadata={"description": "Answer at once; the response goes on without its client"})
    webhook = fields.Nested(ResponseWebhookSchema(), allow_none=True)
    conversation = StringOrObject(allow_none=True, metadata={"description": "Not supported; use `previous_response_id`"})
    prompt = fields.Dict(allow_none=True, metadata={"description": "Not supported: templates are stored at OpenAI"})
    prompt_cache_key = fields.String(allow_none=True)
    safety_identifier = fields.String(allow_none=True)
    truncation = fields.String(allow_none=True, validate=validate.OneOf(["auto", "disabled"]))
    temperature = ignored_field(Number)
    top_p = ignored_field(Number)
    top_logprobs = ignored_field(Whole)
    include = ignored_field(Array, fields.String())
    max_tool_calls = ignored_field(Whole)
    service_tier = ignored_field(fields.String)
    context_management = ignored_field(Array, fields.Dict())
    moderation = ignored_field(fields.Raw)


STATUSES = ("queued", "in_progress", "completed", "incomplete", "failed", "cancelled")


class OutputItemSchema(Tolerant):
    id = fields.String(required=True)
    type = fields.String(required=True, validate=validate.OneOf(["message", "reasoning"]))
    status = fields.String()
    role = fields.String(metadata={"example": "assistant"})
    content = fields.List(fields.Dict())
    summary = fields.List(fields.Dict())


class ResponseUsageSchema(Tolerant):
    input_tokens = fields.Integer(required=True, metadata={"description": "All input tokens, cached ones included"})
    output_tokens = fields.Integer(required=True)
    total_tokens = fields.Integer(required=True)
    input_tokens_details = fields.Dict(keys=fields.String(), values=fields.Integer())
    output_tokens_details = fields.Dict(keys=fields.String(), values=fields.Integer())


class ResponseSchema(Tolerant):
    id = fields.String(required=True, metadata={"description": "Contains the CLI's session id, for `previous_response_id`"})
    object = fields.String(required=True, metadata={"example": "response"})
    created_at = fields.Integer(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    background = fields.Boolean()
    model = fields.String(required=True, metadata={"description": "As requested; X-Clinvk-Backend names the backend"})
    output = fields.List(fields.Nested(OutputItemSchema), required=True)
    usage = fields.Nested(ResponseUsageSchema, allow_none=True)
    error = fields.Dict(allow_none=True)
    incomplete_details = fields.Dict(allow_none=True)
    previous_response_id = fields.String(allow_none=True)
    metadata = fields.Dict()


class ResponseQuerySchema(Tolerant):
    stream = fields.Boolean(load_default=False, metadata={"description": "Send the events of the response"})
    starting_after = fields.Integer(
        validate=validate.Range(0, EVENT_NUMBER_LIMIT),
        metadata={"description": "`sequence_number` of the last event seen; without, all events are sent"},
    )


class DeletedResponseSchema(Tolerant):
    id = fields.String(required=True)
    object = fields.String(required=True, metadata={"example": "response"})
    deleted = fields.Boolean(required=True)


class InputItemQuerySchema(Tolerant):
    limit = fields.Integer(load_default=20, validate=validate.Range(1, 100))
    order = fields.String(load_default="desc", validate=validate.OneOf(["asc", "desc"]))
    after = fields.String(metadata={"description": "`last_id` of the page before"})


class InputItemListSchema(Tolerant):
    object = fields.String(required=True, metadata={"example": "list"})
    data = fields.List(fields.Dict(), required=True)
    first_id = fields.String(required=True, allow_none=True)
    last_id = fields.String(required=True, allow_none=True)
    has_more = fields.Boolean(required=True)
