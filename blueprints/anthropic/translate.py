"""Anthropic's messages → `services.history` and a `RunRequest`; results and models → Anthropic's JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec
import orjson

from blueprints.anthropic.schemas import Block, Message, MessagesSchema
from blueprints.anthropic.threads import new_message_id
from blueprints.compat.agent_clients import TOOLS_REFUSED
from blueprints.compat.context import RequestContext
from blueprints.compat.conversation import Conversation
from blueprints.compat.estimate import estimate_tokens
from blueprints.compat.images import check_count, image_from_url, to_image
from blueprints.ignored import ignored_names
from services import history
from services.errors import InvalidRequest, NotFound
from services.event_loop import yield_to_others
from services.history import Call, Content, Image, Part, Result, Role, Text, join_texts, text_of
from services.models import ListedModel, Resolution
from services.requests import RunRequest, RunResult
from services.usage import Usage

SAMPLING = ignored_names(MessagesSchema())
"""Fields that no CLI supports; reported in a header if sent."""

FIELD_OF_OPTION = {
    "thinking_tokens": "thinking",
    "effort": "output_config.effort",
    "json_schema": "output_config.format",
    "system_prompt": "system",
}
"""The request's field names by our option names."""

SIGNATURE = "clinvk"
"""Placeholder signature of thinking blocks. Anthropic's signs the text; this one cannot be verified."""


def to_messages(system: str | Sequence[Block] | None, messages: Iterable[Message]) -> list[history.Message]:
    """All messages in order. Raises InvalidRequest, naming the block, for content that no CLI accepts."""
    found = [history.said("system", _system_text(system))] if system else []
    for index, message in enumerate(messages):
        if message.content is None or isinstance(message.content, str):
            found.append(history.said(message.role, message.content or ""))
        else:
            found += _split_by_sender(message.role, _parts(message.content, f"messages[{index}].content"))
    check_count(tuple(image for message in found for image in message.images))
    return found


def _system_text(system: str | Sequence[Block]) -> str:
    if isinstance(system, str):
        return system
    return join_texts(_text_of(block, f"system[{index}]") for index, block in enumerate(system))


def _text_of(block: Block, field: str) -> str:
    if block.type != "text" or block.text is None:
        raise _refused(field, f"expected a text block, got {block.type!r}" if block.type != "text" else "a text block needs `text`")
    return block.text


def _split_by_sender(role: Role, parts: Iterable[Part]) -> Iterator[history.Message]:
    """One message; but results of tools that the vendor has run stand within the assistant's, and are the user's here.

    In the user's, results come before all else: Anthropic's API demands it.
    """
    if role == "user":
        yield history.Message(role, tuple(sorted(parts, key=lambda part: not isinstance(part, Result))))
        return
    for is_result, group in groupby(parts, lambda part: isinstance(part, Result)):
        yield history.Message("user" if is_result else role, tuple(group))


def _parts(content: Sequence[Block], field: str) -> Iterator[Part]:
    for index, block in enumerate(content):
        yield_to_others()
        where = f"{field}[{index}]"
        match block.type:
            case "tool_use" | "server_tool_use" | "mcp_tool_use":
                yield Call(block.id or "", block.name or "tool", orjson.dumps(block.input or {}).decode())
            case kind if kind.endswith("tool_result"):
                yield Result(block.tool_use_id or "", _flat(block.content, where), is_error=bool(block.is_error))
            case "thinking" | "redacted_thinking":
                pass  # Anthropic's API drops the thinking of earlier turns, too
            case _:
                yield from _content(block, where)


def _content(block: Block, field: str) -> Iterator[Content]:
    source = block.source or {}
    match block.type, source.get("type"):
        case "text", _:
            yield Text(_text_of(block, field))
        case "image", "base64":
            yield to_image(str(source.get("media_type")), str(source.get("data")), field=f"{field}.source")
        case "image", "url":
            yield image_from_url(str(source.get("url")), field=f"{field}.source.url")
        case "document", "text":
            yield from _document(block, (Text(str(source.get("data") or "")),))
        case "document", "content":
            yield from _document(block, _flat(source.get("content"), f"{field}.source.content"))
        case "search_result", _:
            yield from _document(block, _flat(block.content, f"{field}.content"))
        case (("image" | "document"), kind):
            raise _refused(field, f"this server cannot read a {block.type} of source type {kind!r}; send text, or an image as base64")
        case _:
            raise _refused(field, f"content blocks of type {block.type!r} are not supported")


def _document(block: Block, content: Sequence[Content]) -> Iterator[Content]:
    """Its text with title and context before it, then its images."""
    yield Text("\n".join(part for part in (block.title, block.context, text_of(content)) if part))
    yield from (part for part in content if isinstance(part, Image))


def _flat(content: Any, field: str) -> tuple[Content, ...]:
    """A tool result's content: a string, blocks, or any JSON (from Anthropic's own tools)."""
    if content is None or isinstance(content, str):
        return (Text(content),) if content else ()
    try:
        blocks = msgspec.convert(content, list[Block])
    except msgspec.ValidationError:
        return (Text(orjson.dumps(content).decode()),)
    parts: list[Content] = []
    for index, block in enumerate(blocks):
        if block.type in ("text", "image", "document", "search_result"):
            parts += _content(block, f"{field}.content[{index}]")
        else:
            parts.append(Text(orjson.dumps(content[index]).decode()))
    return tuple(parts)


def check_tools(body: Mapping[str, Any], *, may_leave_out: bool) -> None:
    """Raises InvalidRequest for client tools, unless they may be ignored."""
    if may_leave_out:
        return
    if _tools(body):
        raise _refused("tools", TOOLS_REFUSED)
    if body.get("mcp_servers"):
        raise _refused("mcp_servers", "MCP servers are not supported; configure them in the CLI")


def _tools(body: Mapping[str, Any]) -> Any:
    """The client tools that the model may use."""
    return None if (body.get("tool_choice") or {}).get("type") == "none" else body.get("tools")


def to_run_request(
    body: Mapping[str, Any],
    conversation: Conversation,
    resolution: Resolution,
    context: RequestContext,
) -> RunRequest:
    """``body``: validated by `MessagesSchema`. The run is ephemeral unless it continues a session."""
    config = body.get("output_config") or {}
    options = {
        "model": resolution.model,
        "system_prompt": conversation.system,
        "max_tokens": body.get("max_tokens"),
        "effort": config.get("effort"),
        "thinking_tokens": _thinking_tokens(body.get("thinking") or {}),
        "json_schema": (config.get("format") or body.get("output_format") or {}).get("schema"),
    }
    return RunRequest(
        prompt=conversation.prompt,
        backend=resolution.backend,
        backend_reason=resolution.reason,
        tier=resolution.tier,
        may_fall_back=not resolution.is_exact,
        options={name: value for name, value in options.items() if value is not None},
        workdir=context.workdir,
        ephemeral=context.session is None,
        resume=context.session,
        history=conversation.messages,
        stop=tuple(body.get("stop_sequences") or ()),
        request_id=context.request_id,
        owner=context.owner,
        caller=context.caller,
        depth=context.depth,
    )


def _thinking_tokens(thinking: Mapping[str, Any]) -> int | None:
    """0 turns thinking off; None leaves it to the CLI."""
    return 0 if thinking.get("type") == "disabled" else thinking.get("budget_tokens")


def wants_thinking(body: Mapping[str, Any]) -> bool:
    """Whether to return thinking blocks. Only on request, because most clients read `content[0].text`."""
    thinking = body.get("thinking") or {}
    return thinking.get("type") in ("enabled", "adaptive") and thinking.get("display") != "omitted"


def ignored_fields(body: Mapping[str, Any], ignored_options: Iterable[str]) -> list[str]:
    """The ignored fields of the request."""
    left_out = [name for name, value in (("tools", _tools(body)), ("mcp_servers", body.get("mcp_servers"))) if value]
    sampling = [name for name in SAMPLING if body.get(name) is not None]
    return [*left_out, *sampling, *(FIELD_OF_OPTION.get(name, name) for name in ignored_options)]


def prompt_tokens(body: Mapping[str, Any], conversation: Conversation) -> int:
    """Estimated number of input tokens."""
    tools = orjson.dumps(body["tools"]).decode() if body.get("tools") else None
    return estimate_tokens(*conversation.texts, tools, images=conversation.images)


def to_usage(usage: Usage) -> dict[str, Any]:
    """Anthropic's ``input_tokens`` exclude cache reads and writes; ours include them."""
    content: dict[str, Any] = {
        "input_tokens": max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        content["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return content


def to_message(result: RunResult, usage: Usage, *, model: str, has_thinking: bool) -> dict[str, Any]:
    """A non-streamed response. Several messages of the agent become one text block, separated by blank lines."""
    content: list[dict[str, Any]] = [{"type": "text", "text": result.output}]  # `"citations": null` fails the AI SDK's own schema
    if has_thinking and result.thinking:
        content.insert(0, {"type": "thinking", "thinking": result.thinking, "signature": SIGNATURE})
    return {
        "id": new_message_id(),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": result.stop_reason or "end_turn",
        "stop_sequence": result.stop_sequence,
        "usage": to_usage(usage),
    }


def to_model(model: ListedModel) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": "1970-01-01T00:00:00Z",  # "may be set to an epoch value if the release date is unknown"
        "lifecycle": "active",
        "backend": model.backend,
        "available": model.is_available,
    }


def to_page(models: Sequence[ListedModel], *, limit: int, after_id: str | None = None, before_id: str | None = None) -> dict[str, Any]:
    """One page of models. Raises NotFound for an unknown cursor."""
    start, end = 0, len(models)
    if after_id is not None:
        start = _position(models, after_id, "after_id") + 1
    if before_id is not None:
        end = _position(models, before_id, "before_id")
        start = max(start, end - limit)
    page = models[start : min(end, start + limit)]
    has_more = start > 0 if before_id is not None else start + limit < end
    ids = [model.id for model in page]
    return {
        "data": [to_model(model) for model in page],
        "has_more": has_more,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }


def _position(models: Sequence[ListedModel], model_id: str, field: str) -> int:
    for index, model in enumerate(models):
        if model.id == model_id:
            return index
    raise NotFound(f"{field} {model_id!r} is not in the list of models", field=field)


def _refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {issue}", field=field, issue=issue)
