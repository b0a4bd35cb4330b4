"""Chat completions coming in: a validated body of `ChatSchema` → what it asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blueprints.compat.conversation import Conversation, Turn, to_conversation
from blueprints.ignored import ignored_names
from blueprints.openai.chat.schemas import ChatSchema
from blueprints.openai.content import items_to_turns, messages_to_turns
from blueprints.openai.options import CHAT_NAMES, JSON_OBJECT, asked_for, check_tools, refused, to_format
from blueprints.openai.run_request import Asked
from services.clis.spec import BackendSpec

IGNORED = ignored_names(ChatSchema())
"""Fields that no CLI has a setting for; named in a header when they are sent."""

TOOL_FIELDS = ("tools", "functions")


def check_request(body: Mapping[str, Any], *, may_leave_out_tools: bool) -> list[str]:
    """The names of what is left out. Raises InvalidRequest for what would make another answer than the one asked for."""
    if body.get("n") not in (None, 1):
        raise refused("n", "one run gives one answer; leave it out, or send 1")
    if "audio" in (body.get("modalities") or ()) or body.get("audio"):
        raise refused("modalities", "audio is not supported; send ['text'] or leave it out")
    if body.get("messages") is None and body.get("input") is None:
        raise refused("messages", "is required")
    return [*check_tools(body, *TOOL_FIELDS, may_leave_out=may_leave_out_tools), *asked_for(body, IGNORED)]


def to_chat_conversation(body: Mapping[str, Any], spec: BackendSpec, *, continues_session: bool) -> Conversation:
    """What is said to the CLI. A body in the form of the Responses API (Cursor's) is understood as well."""
    if body.get("messages") is not None:
        turns = messages_to_turns(body["messages"])
    else:
        turns = items_to_turns(body["input"])
    if body.get("instructions"):
        turns.insert(0, Turn("system", body["instructions"]))
    if to_format(body.get("response_format"), "response_format").is_json_object:
        turns.append(Turn("system", JSON_OBJECT))
    return to_conversation(turns, has_system_option=spec.honours("system_prompt"), continues_session=continues_session)


def to_asked(body: Mapping[str, Any], *, keeps_session: bool) -> Asked:
    return Asked(
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
    """Our options under the names that this request has them by."""
    names = {**CHAT_NAMES, **({"max_tokens": "max_completion_tokens"} if body.get("max_completion_tokens") else {})}
    return [names.get(option, option) for option in options]
