"""OpenAI Responses, as Codex uses it: request → conversation, reply → body or events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from .plan import Reply

ERROR_TYPES = {400: "invalid_request_error", 401: "invalid_request_error", 404: "invalid_request_error", 429: "rate_limit_exceeded"}


def answers(path: str) -> bool:
    return path.endswith("/responses")


def wants_stream(path: str, body: dict[str, Any]) -> bool:
    return bool(body.get("stream"))


def model(path: str, body: dict[str, Any]) -> str:
    return str(body.get("model"))


def texts(content: Any) -> list[str]:
    return [content] if isinstance(content, str) else [part["text"] for part in content or [] if "text" in part]


def conversation(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """``("user", text)`` and ``("result", text)``, in order."""
    items = body.get("input", [])
    for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
        kind = item.get("type", "message")
        if kind.endswith("_output"):
            output = item.get("output", "")
            yield "result", output if isinstance(output, str) else json.dumps(output)
        elif kind == "message" and item["role"] == "user":
            yield from (("user", text) for text in texts(item["content"]))


def system_text(body: dict[str, Any]) -> str:
    """``instructions``, then the developer messages."""
    later = [
        text
        for item in body.get("input", [])
        if isinstance(item, dict) and item.get("role") in ("developer", "system")
        for text in texts(item["content"])
    ]
    return "\n".join([body.get("instructions") or "", *later])


def error(status: int, message: str) -> dict[str, Any]:
    kind = ERROR_TYPES.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": kind}}


def usage(reply: Reply) -> dict[str, Any]:
    read, written = reply.input_tokens + reply.cached_tokens, reply.output_tokens + reply.reasoning_tokens
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": reply.cached_tokens},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
        "total_tokens": read + written,
    }


def items(reply: Reply) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    if reply.thinking:
        summary = [{"type": "summary_text", "text": "".join(reply.thinking)}]
        made.append({"type": "reasoning", "id": f"rs_{uuid.uuid4().hex}", "summary": summary})
    if reply.shell is None and reply.mcp is None:
        content = [{"type": "output_text", "annotations": [], "text": reply.whole}]
        made.append({"type": "message", "id": f"msg_{uuid.uuid4().hex}", "role": "assistant", "status": "completed", "content": content})
    else:
        call = {"name": "exec_command", "arguments": json.dumps({"cmd": reply.shell, "yield_time_ms": reply.patience_ms})}
        if mcp := reply.mcp:
            call = {"namespace": f"mcp__{mcp.server}", "name": mcp.tool, "arguments": json.dumps(mcp.arguments)}
        call_id = uuid.uuid4().hex
        made.append({"type": "function_call", "id": f"fc_{call_id}", "call_id": f"call_{call_id}", "status": "completed"} | call)
    return made


def response(name: str, **more: Any) -> dict[str, Any]:
    base = {"id": f"resp_{uuid.uuid4().hex}", "object": "response", "created_at": int(time.time()), "model": name}
    return base | {"error": None, "incomplete_details": None, "parallel_tool_calls": True, "tools": []} | more


def whole(reply: Reply, name: str) -> dict[str, Any]:
    return response(name, status="completed", output=items(reply), usage=usage(reply))


def stream(reply: Reply, name: str, paced: Iterable[str | None]) -> Iterator[dict[str, Any]]:
    for number, event in enumerate(events(reply, name, paced)):
        yield event | {"sequence_number": number}


def events(reply: Reply, name: str, paced: Iterable[str | None]) -> Iterator[dict[str, Any]]:
    base = response(name, status="in_progress", output=[])
    yield {"type": "response.created", "response": base}
    yield {"type": "response.in_progress", "response": base}
    done = items(reply)
    for index, item in enumerate(done):
        place = {"item_id": item["id"], "output_index": index}
        match item["type"]:
            case "reasoning":
                started, inner = item | {"summary": []}, thinking(reply, place | {"summary_index": 0})
            case "message":
                started, inner = item | {"status": "in_progress", "content": []}, text(reply, place | {"content_index": 0}, paced)
            case _:
                started, inner = item | {"status": "in_progress", "arguments": ""}, arguments(item, place)
        yield {"type": "response.output_item.added", "output_index": index, "item": started}
        for event in inner:
            if event is None:
                failed = base | {"status": "failed", "error": {"code": "server_error", "message": reply.message}}
                yield {"type": "response.failed", "response": failed}
                return
            yield event
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": base | {"status": "completed", "output": done, "usage": usage(reply)}}


def thinking(reply: Reply, place: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"type": "response.reasoning_summary_part.added", "part": {"type": "summary_text", "text": ""}} | place
    for piece in reply.thinking:
        yield {"type": "response.reasoning_summary_text.delta", "delta": piece} | place
    said = "".join(reply.thinking)
    yield {"type": "response.reasoning_summary_text.done", "text": said} | place
    yield {"type": "response.reasoning_summary_part.done", "part": {"type": "summary_text", "text": said}} | place


def text(reply: Reply, place: dict[str, Any], paced: Iterable[str | None]) -> Iterator[dict[str, Any] | None]:
    part = {"type": "output_text", "annotations": [], "text": ""}
    yield {"type": "response.content_part.added", "part": part} | place
    for piece in paced:
        yield None if piece is None else {"type": "response.output_text.delta", "delta": piece} | place
    yield {"type": "response.output_text.done", "text": reply.whole} | place
    yield {"type": "response.content_part.done", "part": part | {"text": reply.whole}} | place


def arguments(item: dict[str, Any], place: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"type": "response.function_call_arguments.delta", "delta": item["arguments"]} | place
    yield {"type": "response.function_call_arguments.done", "arguments": item["arguments"]} | place
