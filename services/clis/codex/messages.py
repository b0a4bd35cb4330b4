"""A conversation as items of the Responses API, for ``thread/inject_items`` (codex 0.169.0, 0.171.0). Pure.

Injected items reach the model as they are, behind what Codex itself says first; a turn without input then asks it. A
``system`` item is dropped without a word, a ``developer`` one is not.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from services.history import SYSTEM, Call, Content, Image, Message, Result, Role, Text, accepted_id, accepted_name

CALL_ID = re.compile(r".{1,64}", re.DOTALL)
NAME_LIMIT = 128
INJECTED_BYTES = 1 << 20
"""So much at a time: what is encoded at once holds up every other run."""

Item = dict[str, Any]


def to_input(message: Message) -> list[Item] | None:
    """A user's message as the input of a turn; None if it is no input: it has results of calls."""
    if message.role != "user" or any(message.results):
        return None
    return [{"type": "image", "url": _url(part)} if isinstance(part, Image) else {"type": "text", "text": part.text}
            for part in message.parts if isinstance(part, Text | Image)]  # fmt: skip


def to_items(messages: Iterable[Message]) -> Iterator[list[Item]]:
    """All items in order, in lists of about `INJECTED_BYTES`."""
    items: list[Item] = []
    size = 0
    for message in messages:
        items += _items(message)
        size += _size(message)
        if size >= INJECTED_BYTES:
            yield items
            items, size = [], 0
    if items:
        yield items


def _items(message: Message) -> Iterator[Item]:
    role: Role = "developer" if message.role in SYSTEM else message.role
    content: list[Content] = []

    def flush() -> Iterator[Item]:
        if content:
            yield {"type": "message", "role": role, "content": _content(content, role)}
            content.clear()

    for part in message.parts:
        match part:
            case Text() | Image():
                content.append(part)
            case Call(id, name, arguments):
                yield from flush()
                call = {"call_id": accepted_id(id, CALL_ID), "name": accepted_name(name, NAME_LIMIT), "arguments": arguments}
                yield {"type": "function_call", **call}
            case Result(call_id, output):
                yield from flush()
                yield {"type": "function_call_output", "call_id": accepted_id(call_id, CALL_ID), "output": _output(output)}
    yield from flush()


def _content(parts: Sequence[Content], role: Role) -> list[Item]:
    kind = "output_text" if role == "assistant" else "input_text"
    return [{"type": kind, "text": part.text} if isinstance(part, Text) else _image(part) for part in parts]


def _output(parts: Sequence[Content]) -> str | list[Item]:
    """One text as it is; several, or images, as parts."""
    match parts:
        case ():
            return ""
        case (Text(text),):
            return text
    return _content(parts, "user")


def _image(image: Image) -> Item:
    return {"type": "input_image", "image_url": _url(image)}


def _url(image: Image) -> str:
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"


def _size(message: Message) -> int:
    """In bytes, roughly."""
    texts = sum(
        len(part.text) if isinstance(part, Text) else len(part.arguments) for part in message.parts if isinstance(part, Text | Call)
    )
    outputs = sum(len(inner.text) for result in message.results for inner in result.content if isinstance(inner, Text))
    return 100 + texts + outputs + sum(len(image.data) for image in message.images)
