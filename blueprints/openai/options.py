"""What a request asks for beside its words: our options of it, what is refused, what is named as ignored. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from blueprints.compat.agent_clients import TOOLS_REFUSED
from services.clis.spec import BackendSpec
from services.errors import InvalidRequest, OptionNotSupported

JSON_OBJECT = "Answer with one JSON object and nothing else: no text before or after it, no code fence."
"""What ``json_object`` becomes: no CLI has a setting for it, and it promises no schema."""

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
"""Our options under the names that the callers of each route know them by."""


@dataclass(frozen=True, slots=True)
class Format:
    """What the text must be: free, JSON of a schema, or some JSON object."""

    schema: dict[str, Any] | None = None
    is_json_object: bool = False


def to_format(given: Mapping[str, Any] | None, field: str) -> Format:
    """``response_format`` and ``text.format``: the same, but for the place of the schema."""
    match (given or {}).get("type"):
        case None | "text":
            return Format()
        case "json_object":
            return Format(is_json_object=True)
        case "json_schema":
            assert given is not None
            holder = given.get("json_schema") or given
            schema = holder.get("schema") if isinstance(holder, dict) else None
            if not isinstance(schema, dict):
                raise refused(field, "a format of type 'json_schema' needs `schema`, an object")
            return Format(schema)
        case kind:
            raise refused(field, f"type {kind!r} is not supported; send 'text', 'json_object' or 'json_schema'")


def to_effort(effort: str | None, spec: BackendSpec) -> dict[str, Any]:
    """``none`` is no degree of effort: thinking is turned off, where the CLI has a setting for that."""
    if effort == "none" and spec.honours("thinking_tokens"):
        return {"thinking_tokens": 0}
    return {"effort": effort} if effort else {}


def check_tools(body: Mapping[str, Any], *names: str, may_leave_out: bool) -> list[str]:
    """The fields with tools that are left out; they are to be named as ignored.

    Raises InvalidRequest for a client that waits for its tools to be called: to leave them out would be a lie.
    """
    given = [name for name in names if body.get(name)]
    if given and not may_leave_out and body.get("tool_choice", body.get("function_call")) != "none":
        raise refused(given[0], TOOLS_REFUSED)
    return given


def check_support(spec: BackendSpec, schema: object, images: object, *, format_field: str, text_field: str) -> None:
    """Raises OptionNotSupported, under the caller's own names, for what must not be dropped."""
    if schema is not None and not spec.honours("json_schema"):
        raise OptionNotSupported(spec.name, format_field, "a JSON schema; choose a backend that takes one (GET /api/v1/backends)")
    if images and not spec.takes_images:
        raise OptionNotSupported(spec.name, text_field, "images; send text only, or choose a backend that takes images")


def asked_for(body: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """The fields of ``names`` that the request sets to something."""
    return [name for name in names if body.get(name) not in (None, False, [], {})]


def refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {issue}", field=field, issue=issue)
