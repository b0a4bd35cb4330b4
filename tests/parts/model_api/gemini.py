"""Gemini's generateContent, as Gemini CLI uses it: request → conversation, reply → body or events."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from .plan import Reply

STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


def answers(path: str) -> bool:
    return path.endswith((":generateContent", ":streamGenerateContent"))


def wants_stream(path: str, body: dict[str, Any]) -> bool:
    return path.endswith(":streamGenerateContent")


def model(path: str, body: dict[str, Any]) -> str:
    return path.rsplit("/", 1)[-1].split(":")[0]


def conversation(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """``("user", text)`` and ``("result", text)``, in order."""
    for content in body.get("contents", []):
        if content.get("role") in (None, "user", "function"):
            for part in content["parts"]:
                if "functionResponse" in part:
                    yield "result", json.dumps(part["functionResponse"].get("response"), ensure_ascii=False)
                elif "text" in part:
                    yield "user", part["text"]


def system_text(body: dict[str, Any]) -> str:
    return "\n".join(part.get("text", "") for part in (body.get("systemInstruction") or {}).get("parts", []))


def error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "status": STATUS_NAMES.get(status, "UNKNOWN")}}


def usage(reply: Reply) -> dict[str, int]:
    read = reply.input_tokens + reply.cached_tokens
    return {
        "promptTokenCount": read,
        "cachedContentTokenCount": reply.cached_tokens,
        "candidatesTokenCount": reply.output_tokens,
        "thoughtsTokenCount": reply.reasoning_tokens,
        "totalTokenCount": read + reply.output_tokens + reply.reasoning_tokens,
    }


def response(reply: Reply, name: str, answer_id: str, parts: list[dict[str, Any]], finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": usage(reply), "modelVersion": name, "responseId": answer_id}


def calls(reply: Reply) -> bool:
    return reply.shell is not None or reply.mcp is not None


def call(reply: Reply) -> dict[str, Any]:
    if mcp := reply.mcp:
        return {"functionCall": {"name": f"mcp_{mcp.server}_{mcp.tool}", "args": mcp.arguments}}
    return {"functionCall": {"name": "run_shell_command", "args": {"command": reply.shell}}}


def whole(reply: Reply, name: str) -> dict[str, Any]:
    parts = [{"text": reply.whole}] if not calls(reply) else [call(reply)]
    return response(reply, name, uuid.uuid4().hex, parts, "STOP")


def stream(reply: Reply, name: str, paced: Iterable[str | None]) -> Iterator[dict[str, Any]]:
    answer_id = uuid.uuid4().hex
    for piece in reply.thinking:
        yield response(reply, name, answer_id, [{"text": piece, "thought": True}])
    if calls(reply):
        yield response(reply, name, answer_id, [call(reply)], "STOP")
        return
    for piece in paced:
        if piece is None:
            yield error(503, reply.message)
            return
        yield response(reply, name, answer_id, [{"text": piece}])
    yield response(reply, name, answer_id, [{"text": ""}], "STOP")
