"""Anthropic Messages, as Claude Code uses it: request → conversation, reply → body or events."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from .plan import Reply

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def answers(path: str) -> bool:
    return path.endswith("/v1/messages")


def wants_stream(path: str, body: dict[str, Any]) -> bool:
    return bool(body.get("stream"))


def model(path: str, body: dict[str, Any]) -> str:
    return str(body.get("model"))


def parts(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or [])


def conversation(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """``("user", text)`` and ``("result", text)``, in order."""
    for message in body.get("messages", []):
        if message["role"] == "user":
            for part in parts(message["content"]):
                if part["type"] == "tool_result":
                    yield "result", "".join(inner.get("text", "") for inner in parts(part.get("content")))
                elif part["type"] == "text":
                    yield "user", part["text"]


def system_text(body: dict[str, Any]) -> str:
    return "\n".join(part["text"] for part in parts(body.get("system")))


def error(status: int, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": ERROR_TYPES.get(status, "api_error"), "message": message}}


def usage(reply: Reply) -> dict[str, int]:
    return {
        "input_tokens": reply.input_tokens,
        "cache_read_input_tokens": reply.cached_tokens,
        "cache_creation_input_tokens": reply.cache_write_tokens,
        "output_tokens": reply.output_tokens + reply.reasoning_tokens,
    }


def content(reply: Reply) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if reply.thinking:
        blocks.append({"type": "thinking", "thinking": "".join(reply.thinking), "signature": "sig"})
    if used := tool(reply):
        blocks.append({"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:24]}", **used})
    else:
        blocks.append({"type": "text", "text": reply.whole})
    return blocks


def tool(reply: Reply) -> dict[str, Any] | None:
    if mcp := reply.mcp:
        return {"name": f"mcp__{mcp.server}__{mcp.tool}", "input": mcp.arguments}
    if reply.write:
        path, text = reply.write
        return {"name": "Write", "input": {"file_path": path, "content": text}}
    return reply.shell and {"name": "Bash", "input": {"command": reply.shell, "description": "scripted by the test"}}


def stop_reason(reply: Reply) -> str:
    return "tool_use" if tool(reply) else "end_turn"


def message(reply: Reply, name: str, **parts: Any) -> dict[str, Any]:
    head = {"id": f"msg_{uuid.uuid4().hex[:24]}", "type": "message", "role": "assistant", "model": name}
    return head | {"stop_sequence": None} | parts


def whole(reply: Reply, name: str) -> dict[str, Any]:
    return message(reply, name, content=content(reply), stop_reason=stop_reason(reply), usage=usage(reply))


EMPTIED = {"thinking": {"thinking": "", "signature": ""}, "text": {"text": ""}, "tool_use": {"input": {}}}
"""Fields that are empty at the start of a block and follow in its deltas."""


def stream(reply: Reply, name: str, paced: Iterable[str | None]) -> Iterator[dict[str, Any]]:
    start = message(reply, name, content=[], stop_reason=None, usage=usage(reply) | {"output_tokens": 1})
    yield {"type": "message_start", "message": start}
    for index, block in enumerate(content(reply)):
        kind = block["type"]
        yield {"type": "content_block_start", "index": index, "content_block": block | EMPTIED[kind]}
        for delta in deltas(reply, block, paced):
            if delta is None:
                yield error(529, reply.message)
                return
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": {"stop_reason": stop_reason(reply), "stop_sequence": None}, "usage": usage(reply)}
    yield {"type": "message_stop"}


def deltas(reply: Reply, block: dict[str, Any], paced: Iterable[str | None]) -> Iterator[dict[str, Any] | None]:
    match block["type"]:
        case "thinking":
            yield from ({"type": "thinking_delta", "thinking": piece} for piece in reply.thinking)
            yield {"type": "signature_delta", "signature": "sig"}
        case "text":
            yield from (None if piece is None else {"type": "text_delta", "text": piece} for piece in paced)
        case _:
            yield {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
