"""A body validated by `ChatSchema` → conversation and options. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blueprints.compat.conversation import Conversation, to_conversation
from blueprints.ignored import ignored_names
from blueprints.openai.chat.schemas import ChatSchema
from blueprints.openai.content import items_to_messages, to_messages
from blueprints.openai.options import CHAT_NAMES, JSON_OBJECT, check_tools, fields_set, refused, to_format
from blueprints.openai.run_request import RequestOptions
from services.clis.spec import BackendSpec
from services.history import said

IGNORED = ignored_names(ChatSchema())
"""Fields that no CLI supports; reported in a header if sent."""

TOOL_FIELDS = ("tools", "functions")


def check_request(body: Mapping[str, Any], *, may_leave_out_tools: bool) -> list[str]:
    """The names of the ignored fields. Raises InvalidRequest for fields that must not be ignored."""
    if body.get("n") not in (None, 1):
        raise refused("n", "only one choice is supported; omit it or send 1")
    if "audio" in (body.get("modalities") or ()) or body.get("audio"):
        raise refused("modalities", "audio is not supported; send ['text'] or omit it")
    if body.get("messages") is None and body.get("input") is None:
        raise refused("messages", "is required")
    return [*check_tools(body, *TOOL_FIELDS, may_leave_out=may_leave_out_tools), *fields_set(body, IGNORED)]


def to_chat_conversation(body: Mapping[str, Any], spec: BackendSpec, *, continues_session: bool) -> Conversation:
    """The conversation. Also accepts a body in the Responses API's format, which Cursor sends."""
    field = "messages" if body.get("messages") is not None else "input"
    messages = to_messages(body["messages"]) if field == "messages" else items_to_messages(body["input"])
    if body.get("instructions"):
        messages.insert(0, said("system", body["instructions"]))
    also_system = JSON_OBJECT if to_format(body.get("response_format"), "response_format").is_json_object else ""
    return to_conversation(messages, spec, field=field, also_system=also_system, continues_session=continues_session)


def to_options(body: Mapping[str, Any], *, keeps_session: bool) -> RequestOptions:
    return RequestOptions(
        format_field="response_format",
        text_field="messages",
        schema=to_format(body.get("response_format"), "response_format").schema,
        effort=body.get("reasoning_effort") or (body.get("reasoning") or {}).get("effort"),
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens"),
        stop=_stops(body.get("stop")),
        keeps_session=keeps_session,
    )


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    return tuple(text for text in ([stop] if isinstance(stop, str) else stop or ()) if text)


def names_of(body: Mapping[str, Any], options: tuple[str, ...]) -> list[str]:
    """This request's field names of our options."""
    names = {**CHAT_NAMES, **({"max_tokens": "max_completion_tokens"} if body.get("max_completion_tokens") else {})}
    return [names.get(option, option) for option in options]
