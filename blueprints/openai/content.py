"""OpenAI's chat messages and Responses items → `services.history`. Pure.

Clients mix the two (Cursor sends items to the chat route), so both share one set of parts. Unknown fields and nulls are accepted.
Source: the request types of OpenAI's own SDK (openai 3.54, `types/chat`, `types/responses`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any, Literal

import msgspec
import orjson

from blueprints.compat.images import check_count, image_from_url
from services import history
from services.errors import InvalidRequest
from services.event_loop import yield_to_others
from services.history import Call, Result, Role, Text

Sender = Literal["system", "developer", "user", "assistant", "tool", "function"]

ROLES: dict[str, Role] = {"system": "system", "developer": "developer", "user": "user", "assistant": "assistant"}

CLIENT_CALLS = frozenset(
    {"function_call", "custom_tool_call", "local_shell_call", "shell_call", "apply_patch_call", "computer_call", "tool_search_call"}
)
"""Types of items whose output the client sends as an item of its own. Any other call OpenAI has made itself."""


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


def to_messages(messages: Iterable[Message]) -> list[history.Message]:
    """All messages in order. Raises InvalidRequest, naming the part, for content that no CLI accepts."""
    return _checked([_to_message(message, f"messages[{index}].content") for index, message in enumerate(messages)])


def _to_message(message: Message, field: str) -> history.Message:
    content = _content(message.content, field)
    if message.role in ("tool", "function"):
        return history.Message("user", (Result(message.tool_call_id or "", content),))
    refusal = (Text(message.refusal),) if message.refusal else ()
    return history.Message(ROLES[message.role], (*content, *refusal, *_calls(message)))


def _calls(message: Message) -> Iterator[Call]:
    """Calls of client tools in an assistant's earlier message."""
    for call in message.tool_calls or ():
        if called := call.function or call.custom:
            yield _call(call.id, called.name, _argument(called))
    if called := message.function_call:
        yield _call(None, called.name, _argument(called))


def _call(id: str | None, name: str | None, arguments: Any) -> Call:
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    return Call(id or "", name or "tool", text)


def _argument(called: Function | Item) -> Any:
    return next((value for value in (called.arguments, called.input) if value is not None), "")


def items_to_messages(value: str | Sequence[Item]) -> list[history.Message]:
    """The items of ``input`` in order. Raises InvalidRequest like `to_messages`."""
    if isinstance(value, str):
        return [history.said("user", value)]
    answered = {item.call_id or item.id for item in value if (item.type or "").endswith("_output")}
    messages: list[history.Message] = []
    for index, item in enumerate(value):
        messages += _item_to_messages(item, f"input[{index}]", answered)
    return _checked(messages)


def _item_to_messages(item: Item, field: str, answered: Set[str | None]) -> Iterator[history.Message]:
    """``answered``: ids of the calls with an item for their output."""
    kind = item.type or "message"
    if kind == "message":
        yield history.Message(ROLES.get(item.role or "user", "user"), _content(item.content, f"{field}.content"))
    elif kind.endswith("_output"):
        yield history.Message("user", (Result(item.call_id or item.id or "", _output(item.output, f"{field}.output")),))
    elif kind.endswith("_call"):
        arguments = item.action if item.action is not None else _argument(item)
        call = _call(item.call_id or item.id, item.name or kind.removesuffix("_call"), arguments)
        yield history.Message("assistant", (call,))
        if kind not in CLIENT_CALLS and call.id not in answered:
            yield history.Message("user", (Result(call.id, _output(item.output, f"{field}.output")),))
    elif kind != "reasoning":  # OpenAI encrypts its reasoning, and other models cannot use it
        raise _refused(field, f"items of type {kind!r} are not supported")


def _output(output: Any, field: str) -> tuple[history.Content, ...]:
    """A tool's output: a string, content parts, or any JSON."""
    if output is None or isinstance(output, str):
        return (Text(output),) if output else ()
    try:
        return _content(msgspec.convert(output, list[Part]), field)
    except msgspec.ValidationError:
        return (Text(orjson.dumps(output).decode()),)


def _content(content: Content, field: str) -> tuple[history.Content, ...]:
    if content is None or isinstance(content, str):
        return (Text(content),) if content else ()
    return tuple(_to_part(part, f"{field}[{index}]") for index, part in enumerate(content))


def _to_part(part: Part, field: str) -> history.Content:
    yield_to_others()
    match part.type:
        case "text" | "input_text" | "output_text" | "summary_text":
            return Text(_required(part.text, f"{field}.text"))
        case "refusal":
            return Text(part.refusal or "")
        case "image_url" | "input_image":
            return image_from_url(_address(part, field), field=f"{field}.image_url")
    raise _refused(field, f"content parts of type {part.type!r} are not supported; send text, or an image as a data URL")


def _address(part: Part, field: str) -> str:
    url = part.image_url.get("url") if isinstance(part.image_url, dict) else part.image_url
    return _required(url if isinstance(url, str) else None, f"{field}.image_url")


def _required(value: str | None, field: str) -> str:
    if value is None:
        raise _refused(field, "is missing")
    return value


def _checked(messages: list[history.Message]) -> list[history.Message]:
    check_count(tuple(image for message in messages for image in message.images))
    return messages


def _refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {issue}", field=field, issue=issue)
