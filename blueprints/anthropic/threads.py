"""Anthropic's Threads (beta `message-threads-2026-08-12`): a client sends only what is new, and the server keeps the rest.

This server keeps no thread, so it refuses them in the way that the SDKs know: they then send the whole conversation. To answer
from what is left of it would be an answer to another question. Source: anthropic 2.14, `lib/threads/_thread_state.py`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from services.errors import InvalidRequest, NotFound

MESSAGE_ID = re.compile(r"msg_[0-9a-f]{24}")


def new_message_id() -> str:
    return f"msg_{secrets.token_hex(12)}"


def check_thread(body: Mapping[str, Any]) -> None:
    """Raises InvalidRequest, or NotFound for a message that this server cannot have answered with."""
    thread = body.get("thread")
    if not thread:
        return
    previous = thread.get("previous_message_id")
    if thread["type"] == "continue" and not MESSAGE_ID.fullmatch(previous or ""):
        field = "thread.previous_message_id"
        raise NotFound(f"{field}: {previous!r} is no message of this server", field=field, error_code="thread_not_found")
    raise InvalidRequest(
        "thread: this server keeps no threads; send the whole conversation without `thread`",
        field="thread",
        issue="not supported",
        error_code="thread_unsupported_request",
        unsupported=["thread"],
    )
