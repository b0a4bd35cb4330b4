"""What ``codex exec`` and ``codex app-server`` have in common: items, usage, errors. One writes snake_case, the other camelCase."""

from __future__ import annotations

import re
from typing import Any

from services.decoding.fields import count_of, flat_text, has_counts, map_of, text_of
from services.events import Batch, Denial, Failed, FailureKind, ToolCall, ToolResult
from services.failure_kinds import classify, human
from services.usage import Usage

# Item type → our tool's name, and the fields that are its input. Types and fields: `codex app-server
# generate-json-schema` 0.169.0, ThreadItem; command_execution of both protocols is in the recordings too.
TOOLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "command_execution": ("shell", ("command", "cwd")),
    "file_change": ("apply_patch", ("changes",)),
    "mcp_tool_call": ("", ("arguments",)),
    "dynamic_tool_call": ("", ("arguments",)),
    "collab_agent_tool_call": ("", ("prompt",)),
    "collab_tool_call": ("", ("prompt",)),
    "web_search": ("web_search", ("query", "action")),
    "image_view": ("view_image", ("path",)),
    "image_generation": ("image_generation", ("revised_prompt",)),
}

CAMEL = re.compile(r"(?<=[a-z])[A-Z]")


def _snake(item: dict[str, Any]) -> dict[str, Any]:
    return {CAMEL.sub(lambda match: "_" + match.group().lower(), key): value for key, value in item.items()}


def tool_call(item: dict[str, Any]) -> ToolCall | None:
    """The item as the use of a tool, None where it is none."""
    kind = CAMEL.sub(lambda match: "_" + match.group().lower(), text_of(item.get("type")))
    if kind not in TOOLS:
        return None
    name, fields = TOOLS[kind]
    item = _snake(item)
    if not name:
        name = ".".join(filter(None, (text_of(item.get("server") or item.get("namespace")), text_of(item.get("tool"))))) or kind
    input = {field: item[field] for field in fields if item.get(field) is not None}
    if fields == ("arguments",):
        input = input.get("arguments", {})
    return ToolCall(text_of(item.get("id")), name, input)


def tool_result(item: dict[str, Any]) -> ToolResult:
    item = _snake(item)
    result = item.get("result")
    output = (
        text_of(item.get("aggregated_output"))
        or flat_text(map_of(result).get("content", result))
        or flat_text(item.get("content_items"))
        or text_of(map_of(item.get("error")).get("message"))
    )
    is_error = item.get("status") in ("failed", "declined") or bool(item.get("exit_code")) or item.get("success") is False
    return ToolResult(text_of(item.get("id")), output, is_error)


def denial_of(call: ToolCall, item: dict[str, Any]) -> Denial | None:
    """The completed item as a refusal. Codex gives no reason; what its sandbox stops is a command that failed, not one declined."""
    return Denial(call.name, tool_result(item).output or "declined by Codex") if item.get("status") == "declined" else None


class ToolItems:
    """The tools of one turn: each call once, its result, and the denials."""

    def __init__(self) -> None:
        self.denials: list[Denial] = []
        self._called: set[str] = set()

    def receive(self, item: dict[str, Any], batch: Batch, *, is_done: bool) -> bool:
        """Add the item's events to ``batch``; whether it is the use of a tool."""
        call = tool_call(item)
        if call is None:
            return False
        if call.id not in self._called:
            self._called.add(call.id)
            batch.append(call)
        if is_done:
            batch.append(tool_result(item))
            if denial := denial_of(call, item):
                self.denials.append(denial)
        return True


COUNTS = ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_output_tokens", "cache_write_input_tokens")


def to_usage(usage: dict[str, Any]) -> Usage | None:
    """Codex's numbers as ours: its input includes the cached tokens, its output the reasoning. None without any number."""
    usage = _snake(usage)
    if not has_counts(usage, COUNTS):
        return None
    return Usage(
        input_tokens=count_of(usage.get("input_tokens")),
        output_tokens=count_of(usage.get("output_tokens")),
        cached_tokens=count_of(usage.get("cached_input_tokens")),
        reasoning_tokens=count_of(usage.get("reasoning_output_tokens")),
        cache_write_tokens=count_of(usage.get("cache_write_input_tokens")),
    )


KINDS: dict[str, FailureKind] = {
    "contextWindowExceeded": "prompt_too_long",
    "usageLimitExceeded": "rate_limited",
    "rateLimitExceeded": "rate_limited",
    "serverOverloaded": "overloaded",
    "flexUnavailable": "overloaded",
    "policyCapacityUnavailable": "overloaded",
    "modelNotFound": "unknown_model",
    "unauthorized": "not_logged_in",
    "badRequest": "invalid_prompt",
}
"""CodexErrorInfo of the app-server's schema; what is not here is told by status and message."""


def failure_of(error: dict[str, Any], fallback: str, exit_code: int | None, usage: Usage | None = None) -> Failed:
    """A turn's error as our Failed. ``fallback`` is the last message that came before it."""
    said = text_of(error.get("message")) or fallback or "Codex failed and did not say why"
    match error.get("codexErrorInfo"):
        case str(info):
            kind = KINDS.get(info) or classify(said)
        case dict(details):
            status = next((count_of(map_of(detail).get("httpStatusCode")) for detail in details.values()), 0)
            kind = classify(said, status or None)
        case _:
            kind = classify(said)  # as it came: the API's own code is in the JSON around the message
    return Failed(kind, human(said), exit_code, usage)
