"""Request options: those mapped to ours, those rejected, those reported as ignored. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from blueprints.compat.agent_clients import TOOLS_REFUSED
from services.clis.spec import BackendSpec
from services.errors import InvalidRequest, OptionNotSupported

JSON_OBJECT = "Answer with one JSON object and nothing else: no text before or after it, no code fence."
"""The system prompt for ``json_object``, which no CLI supports and which has no schema."""

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

CHAT_NAMES = {
    "max_tokens": "max_tokens",
    "effort": "reasoning_effort",
    "thinking_tokens": "reasoning_effort",
    "json_schema": "response_format",
}
RESPONSE_NAMES = {
    "max_tokens": "max_output_tokens",
    "effort": "reasoning.effort",
    "thinking_tokens": "reasoning.effort",
    "json_schema": "text.format",
}
"""Each route's field names by our option names."""


@dataclass(frozen=True, slots=True)
class Format:
    """The required output format: text, JSON of a schema, or any JSON object."""

    schema: dict[str, Any] | None = None
    is_json_object: bool = False


def to_format(value: Mapping[str, Any] | None, field: str) -> Format:
    """``response_format`` and ``text.format``, which differ only in where the schema is."""
    match (value or {}).get("type"):
        case None | "text":
            return Format()
        case "json_object":
            return Format(is_json_object=True)
        case "json_schema":
            assert value is not None
            holder = value.get("json_schema") or value
            schema = holder.get("schema") if isinstance(holder, dict) else None
            if not isinstance(schema, dict):
                raise refused(field, "a format of type 'json_schema' needs `schema`, an object")
            return Format(schema)
        case kind:
            raise refused(field, f"type {kind!r} is not supported; send 'text', 'json_object' or 'json_schema'")


def to_effort(effort: str | None, spec: BackendSpec) -> dict[str, Any]:
    """``none`` disables thinking, if the CLI supports that."""
    if effort == "none" and spec.honours("thinking_tokens"):
        return {"thinking_tokens": 0}
    return {"effort": effort} if effort else {}


def check_tools(body: Mapping[str, Any], *names: str, may_leave_out: bool) -> list[str]:
    """The names of the tool fields to report as ignored.

    Raises InvalidRequest for clients that expect calls of their tools, unless ``may_leave_out``.
    """
    sent = [name for name in names if body.get(name)]
    if sent and not may_leave_out and body.get("tool_choice", body.get("function_call")) != "none":
        raise refused(sent[0], TOOLS_REFUSED)
    return sent


def check_support(spec: BackendSpec, schema: object, images: object, *, format_field: str, text_field: str) -> None:
    """Raises OptionNotSupported, by the client's field names, for options that must not be ignored."""
    if schema is not None and not spec.honours("json_schema"):
        raise OptionNotSupported(spec.name, format_field, "a JSON schema; choose a backend that supports it (GET /api/v1/backends)")
    if images and not spec.takes_images:
        raise OptionNotSupported(spec.name, text_field, "images; send text only, or choose a backend that supports images")


def fields_set(body: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """The fields of ``names`` that the request sets to a non-empty value."""
    return [name for name in names if body.get(name) not in (None, False, [], {})]


def refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {issue}", field=field, issue=issue)
