"""OpenAI's chat messages and Responses items → turns. Pure.

Clients mix the two (Cursor sends items to the chat route), so both share one set of parts. Unknown fields and nulls are accepted.
Source: the request types of OpenAI's own SDK (openai 3.54, `types/chat`, `types/responses`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec
import orjson

from blueprints.compat.conversation import Role, Turn, call_text, join_parts, result_text
from blueprints.compat.images import check_count, image_from_url
from services.errors import InvalidRequest
from services.requests import Image

Sender = Literal["system", "developer", "user", "assistant", "tool", "function"]

ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class Part(msgspec.Struct, gc=False):
    """A content part of any type; fields that its type lacks are None."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | dict[str, Any] | None = None


Content = str | list[Part] | None


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None
    input: Any = None


class ToolCall(msgspec.Struct, gc=False):
    id: str | None = None
    function: Function | None = None
    custom: Function | None = None


class Message(msgspec.Struct, gc=False):
    """A message of the chat API."""

    role: Sender
    content: Content = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None
    tool_call_id: str | None = None


class Item(msgspec.Struct, gc=False):
    """An item of the Responses API: a message, a tool call or a tool's output."""

    type: str | None = None
    role: Sender | None = None
    content: Content = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Any = None
    input: Any = None
    action: Any = None
    output: Any = None


def messages_to_turns(messages: Iterable[Message]) -> list[Turn]:
    """All messages in order. Raises InvalidRequest, naming the part, for content that no CLI accepts."""
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        text, images = _flat(message.content, f"messages[{index}].content")
        if message.role in ("tool", "function"):
            turns.append(Turn("tool_result", result_text(text, message.tool_call_id), images))
            continue
        text = join_parts((text, message.refusal or ""))
        if text or images:
            turns.append(Turn(ROLES[message.role], text, images))
        turns += _calls(message)
    return _checked(turns)


def _calls(message: Message) -> Iterator[Turn]:
    """Calls of client tools in an assistant's earlier message."""
    for call in message.tool_calls or ():
        if called := call.function or call.custom:
            yield Turn("tool_call", call_text(called.name or "tool", _argument(called), call.id))
    if called := message.function_call:
        yield Turn("tool_call", call_text(called.name or "tool", _argument(called)))


def _argument(called: Function | Item) -> Any:
    return next((value for value in (called.arguments, called.input) if value is not None), "")


def items_to_turns(value: str | Sequence[Item]) -> list[Turn]:
    """The items of ``input`` in order. Raises InvalidRequest like `messages_to_turns`."""
    if isinstance(value, str):
        return [Turn("user", value)]
    turns: list[Turn] = []
    for index, item in enumerate(value):
        turns += _item_to_turns(item, f"input[{index}]")
    return _checked(turns)


def _item_to_turns(item: Item, field: str) -> Iterator[Turn]:
    kind = item.type or "message"
    if kind == "message":
        text, images = _flat(item.content, f"{field}.content")
        yield Turn(ROLES.get(item.role or "user", "user"), text, images)
    elif kind.endswith("_output"):
        text, images = _output(item.output, f"{field}.output")
        yield Turn("tool_result", result_text(text, item.call_id), images)
    elif kind.endswith("_call"):
        arguments = item.action if item.action is not None else _argument(item)
        yield Turn("tool_call", call_text(item.name or kind.removesuffix("_call"), arguments, item.call_id))
    elif kind != "reasoning":  # OpenAI encrypts its reasoning, and other models cannot use it
        raise _refused(field, f"items of type {kind!r} are not supported")


def _output(output: Any, field: str) -> tuple[str, tuple[Image, ...]]:
    """A tool's output: a string, content parts, or any JSON."""
    if output is None or isinstance(output, str):
        return output or "", ()
    try:
        return _flat(msgspec.convert(output, list[Part]), field)
    except msgspec.ValidationError:
        return orjson.dumps(output).decode(), ()


def _flat(content: Content, field: str) -> tuple[str, tuple[Image, ...]]:
    if content is None or isinstance(content, str):
        return content or "", ()
    texts: list[str] = []
    images: list[Image] = []
    for index, part in enumerate(content):
        where = f"{field}[{index}]"
        match part.type:
            case "text" | "input_text" | "output_text" | "summary_text":
                texts.append(_required(part.text, f"{where}.text"))
            case "refusal":
                texts.append(part.refusal or "")
            case "image_url" | "input_image":
                images.append(image_from_url(_address(part, where), field=f"{where}.image_url"))
            case kind:
                raise _refused(where, f"content parts of type {kind!r} are not supported; send text, or an image as a data URL")
    return join_parts(texts), tuple(images)


def _address(part: Part, field: str) -> str:
    url = part.image_url.get("url") if isinstance(part.image_url, dict) else part.image_url
    return _required(url if isinstance(url, str) else None, f"{field}.image_url")


def _required(value: str | None, field: str) -> str:
    if value is None:
        raise _refused(field, "is missing")
    return value


def _checked(turns: list[Turn]) -> list[Turn]:
    check_count(tuple(image for turn in turns for image in turn.images))
    return turns


def _refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {issue}", field=field, issue=issue)
