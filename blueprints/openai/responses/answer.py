"""The request → the fields that a response repeats, and a response in one of its states. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

INCOMPLETE = {"max_tokens": "max_output_tokens", "refusal": "content_filter"}
"""``incomplete_details.reason`` by stop reason; with any other stop reason the response is complete."""

Item = dict[str, Any]


def to_facts(body: Mapping[str, Any], *, is_stored: bool, is_background: bool = False, created_at: int | None = None) -> dict[str, Any]:
    """Request fields that a response repeats; ignored ones are not repeated. ``created_at``: Unix time; None: now."""
    text = body.get("text") or {}
    reasoning = body.get("reasoning") or {}
    return {
        "object": "response",
        "created_at": int(time.time()) if created_at is None else created_at,
        "background": is_background,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": None,
        "metadata": body.get("metadata") or {},
        "model": body["model"],
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "default",
        "store": is_stored,
        "temperature": None,
        "text": {"format": text.get("format") or {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "user": body.get("user"),
    }


def to_state(
    facts: Mapping[str, Any],
    response_id: str,
    status: str,
    output: list[Item],
    *,
    usage: dict[str, Any] | None = None,
    stop_reason: str | None = None,
    error: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A response object in one state."""
    return {
        "id": response_id,
        **facts,
        "status": status,
        "completed_at": int(time.time()) if status == "completed" else None,
        "output": output,
        "usage": usage,
        "error": error,
        "incomplete_details": {"reason": INCOMPLETE[stop_reason]} if stop_reason in INCOMPLETE else None,
    }


def to_status(stop_reason: str | None) -> str:
    return "incomplete" if stop_reason in INCOMPLETE else "completed"


def text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def message_item(item_id: str, text: str | None, status: str) -> Item:
    """``text`` None: no output yet."""
    content = [] if text is None else [text_part(text)]
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def summary_part(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}


def reasoning_item(item_id: str, text: str | None, status: str) -> Item:
    """The model's thinking, as far as the CLI outputs it. ``text`` None: no output yet."""
    return {"id": item_id, "type": "reasoning", "status": status, "summary": [] if text is None else [summary_part(text)]}


NewId = Callable[[str, str | None], str]
"""(prefix, CLI session id) → the id of a response or one of its items."""
