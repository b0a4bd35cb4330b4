"""A conversation as it was sent: messages of system, user and assistant, with texts, images, tool calls and their results.

Every surface produces these and every CLI consumes them. `blueprints.compat.conversation` validates a conversation once; how it is sent
is the CLI's own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from services.event_loop import yield_to_others

Role = Literal["system", "developer", "user", "assistant"]

SYSTEM: frozenset[Role] = frozenset({"system", "developer"})
"""Roles whose texts are instructions."""


@dataclass(frozen=True, slots=True)
class Text:
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Image:
    """One picture for the model: its media type (``image/png``) and its bytes."""

    media_type: str
    data: bytes = field(repr=False)


Content = Text | Image


@dataclass(frozen=True, slots=True)
class Call:
    """The assistant's call of a tool of the client. ``arguments``: as the client sent them, a JSON object as a rule."""

    id: str
    name: str
    arguments: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Result:
    """The client's answer to the call ``call_id``."""

    call_id: str
    content: tuple[Content, ...] = ()
    is_error: bool = False


Part = Text | Image | Call | Result


@dataclass(frozen=True, slots=True)
class Message:
    """Calls are the assistant's, results the user's."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """Its text parts as one; without calls and results."""
        return text_of(self.parts)

    @property
    def calls(self) -> Iterator[Call]:
        return (part for part in self.parts if isinstance(part, Call))

    @property
    def results(self) -> Iterator[Result]:
        return (part for part in self.parts if isinstance(part, Result))

    @property
    def images(self) -> Iterator[Image]:
        """Those of results too."""
        for part in self.parts:
            if isinstance(part, Image):
                yield part
            elif isinstance(part, Result):
                yield from (image for image in part.content if isinstance(image, Image))


def said(role: Role, text: str, *images: Image) -> Message:
    """A message of one text, after its images."""
    return Message(role, (*images, Text(text)))


def text_of(parts: Iterable[Part]) -> str:
    return join_texts(part.text for part in parts if isinstance(part, Text))


def join_texts(texts: Iterable[str]) -> str:
    """Join the texts of a message, with a line break unless one is already there."""
    joined = ""
    for text in texts:
        yield_to_others()
        gap = "\n" if joined and text and not joined[-1].isspace() and not text[0].isspace() else ""
        joined += gap + text
    return joined


def strings(messages: Iterable[Message]) -> Iterator[str]:
    """Every string of the messages that a model reads, in order."""
    for message in messages:
        for part in message.parts:
            match part:
                case Text(text):
                    yield text
                case Call():
                    yield from (part.id, part.name, part.arguments)
                case Result():
                    yield part.call_id
                    yield from (inner.text for inner in part.content if isinstance(inner, Text))


def latest(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages after the last one that is wholly the assistant's. Calls of the client's tools and their results are among
    them: an agent's session has calls of its own tools only."""
    for index in range(len(messages) - 1, -1, -1):
        if is_answer(messages[index]):
            return messages[index + 1 :]
    return messages


def is_answer(message: Message) -> bool:
    """Whether it ended a turn: the assistant's, without calls that wait for results."""
    return message.role == "assistant" and not any(message.calls)


def goes_on_after_calls(messages: Sequence[Message]) -> bool:
    """Whether the assistant is in the middle of a turn: its last message has calls, and it is to go on from their results."""
    last = next((message for message in reversed(messages) if message.role == "assistant"), None)
    return last is not None and not is_answer(last)


def by_role(messages: Iterable[Message]) -> list[Message]:
    """Neighbours of one role as one message, for a CLI that would otherwise join them in its own way."""
    return [Message(role, tuple(part for message in group for part in message.parts)) for role, group in groupby(messages, _role)]


def _role(message: Message) -> Role:
    return message.role


def accepted_id(id: str, pattern: re.Pattern[str]) -> str:
    """``id`` if ``pattern`` accepts it, else another one in its place: the same one for the same id."""
    return id if pattern.fullmatch(id) else f"call_{hashlib.sha256(id.encode()).hexdigest()[:24]}"


def accepted_name(name: str, limit: int) -> str:
    """``name`` of a tool in the letters that the model vendors accept."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:limit] or "tool"
