"""Anthropic's Threads (beta `message-threads-2026-08-12`): the client sends only new messages, the server stores the rest.

This server stores no threads. It rejects them with the error on which the SDKs resend the whole conversation.
Source: anthropic 2.14, `lib/threads/_thread_state.py`.
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
    """Raises InvalidRequest for a thread, or NotFound for a message id that this server cannot have issued."""
    thread = body.get("thread")
    if not thread:
        return
    previous = thread.get("previous_message_id")
    if thread["type"] == "continue" and not MESSAGE_ID.fullmatch(previous or ""):
        field = "thread.previous_message_id"
        raise NotFound(f"{field}: {previous!r} is not a message of this server", field=field, error_code="thread_not_found")
    raise InvalidRequest(
        "thread: this server stores no threads; send the whole conversation without `thread`",
        field="thread",
        issue="not supported",
        error_code="thread_unsupported_request",
        unsupported=["thread"],
    )
