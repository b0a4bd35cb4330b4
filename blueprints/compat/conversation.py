"""A chat, as the compatible surfaces bring it, → what a CLI takes: a system prompt, one prompt, pictures. Pure.

How a conversation becomes one prompt is `services.sessions.transcript`' business.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from services.errors import InvalidRequest
from services.requests import Image
from services.sessions.transcript import Role as Role
from services.sessions.transcript import Turn as Turn
from services.sessions.transcript import render as render


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a CLI is given. ``images`` are in the order of the ``[image n]`` marks of the prompt, where it has any."""

    system: str | None
    prompt: str
    images: tuple[Image, ...] = ()
    said: tuple[Turn, ...] = ()
    """The turns that the prompt renders, but the system's."""


def to_conversation(turns: Sequence[Turn], *, has_system_option: bool = True, continues_session: bool = False) -> Conversation:
    """All of ``turns`` as a prompt. Raises InvalidRequest where they say nothing.

    System texts, wherever they stand, are joined in their order and go apart, or, without ``has_system_option``, into the transcript.
    A CLI that ``continues_session`` has the earlier turns already: it is given what came after the assistant's last one.
    """
    system = "\n\n".join(turn.text for turn in turns if turn.role == "system" and turn.text)
    said = [turn for turn in turns if turn.role != "system" and (turn.text or turn.images)]
    if not said and system:
        return Conversation(None, system)
    if continues_session:
        said = _latest(said)
    if not any(turn.text.strip() or turn.images for turn in said):
        raise InvalidRequest("messages: there is nothing to answer; send a message with text", field="messages", issue="no text")
    first = [Turn("system", system)] if system and not has_system_option else []
    images = tuple(image for turn in said for image in turn.images)
    return Conversation(system if has_system_option and system else None, render([*first, *said]), images, tuple(said))


def _latest(said: list[Turn]) -> list[Turn]:
    """The turns after the assistant's last one; all of them where the assistant has the last word."""
    for index in range(len(said) - 1, -1, -1):
        if said[index].role in ("assistant", "tool_call"):
            return said[index + 1 :] or said
    return said


def join_parts(texts: Iterable[str]) -> str:
    """The text parts of one message as one text: on lines of their own, unless they are already set apart."""
    joined = ""
    for text in texts:
        gap = "\n" if joined and text and not joined[-1].isspace() and not text[0].isspace() else ""
        joined += gap + text
    return joined


def call_text(name: str, arguments: Any, call_id: str | None = None) -> str:
    """An assistant's call of a client's tool, as text. ``arguments``: JSON as a string, or what it says."""
    told = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{name}{f' ({call_id})' if call_id else ''}\n{told}"


def result_text(output: str, call_id: str | None = None, *, is_error: bool = False) -> str:
    """What a client's tool said, as text."""
    head = f"{'Error' if is_error else 'Result'}{f' of {call_id}' if call_id else ''}:"
    return f"{head}\n{output}"
