"""A conversation as lines of ``--input-format=stream-json`` (claude 2.1.197, 2.1.332; recordings claude/…/history-*). Pure.

A user's line with ``shouldQuery: false`` only becomes part of the conversation, which its ``result`` confirms (``num_turns`` 0); the
next line must wait for that, or the order is lost. An assistant's line is taken at once and without an answer. It needs ids of its
own: without ``message.id`` neighbouring ones are taken for one and lose their calls, and without ``uuid`` 2.1.197 leaves it
out of the session's file, so that a resumed session begins after it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import orjson

from services.history import Call, Image, Message, Part, Result, Text, accepted_id, accepted_name, by_role

CALL_ID = re.compile(r"[A-Za-z0-9_-]+")
NAME_LIMIT = 128

Line = tuple[bytes, bool]
"""A line, and whether its ``result`` must have come before the next one is sent."""


def to_lines(messages: Sequence[Message]) -> Iterator[Line]:
    """The last one asks the model. Neighbours of one role are one line: the CLI would join two of the user's with a line break."""
    merged = by_role(messages)
    for message in merged[:-1]:
        yield (_user(message, asks=False), True) if message.role == "user" else (_assistant(message), False)
    yield _user(merged[-1], asks=True), False


def _user(message: Message, *, asks: bool) -> bytes:
    line = {"type": "user", "message": {"role": "user", "content": _blocks(message.parts)}}
    return orjson.dumps(line if asks else line | {"shouldQuery": False}) + b"\n"


def _assistant(message: Message) -> bytes:
    id = uuid4()
    content = {"id": f"msg_{id.hex}", "role": "assistant", "content": _blocks(message.parts)}
    return orjson.dumps({"type": "assistant", "uuid": str(id), "message": content}) + b"\n"


def _blocks(parts: Sequence[Part]) -> list[dict[str, Any]]:
    return [_block(part) for part in parts]


def _block(part: Part) -> dict[str, Any]:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(media_type, data):
            return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}}
        case Call(id, name, arguments):
            return {
                "type": "tool_use",
                "id": accepted_id(id, CALL_ID),
                "name": accepted_name(name, NAME_LIMIT),
                "input": to_input(arguments),
            }
        case Result(call_id, content, is_error):
            block = {"type": "tool_result", "tool_use_id": accepted_id(call_id, CALL_ID), "content": _blocks(content)}
            return block | {"is_error": True} if is_error else block


def to_input(arguments: str) -> dict[str, Any]:
    """Anthropic's API takes an object; anything else becomes one with the text in it."""
    try:
        value = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {"input": arguments}
