"""Chat messages of the compatible surfaces → a CLI's inputs: system prompt, one prompt, images. Pure.

`services.sessions.transcript` renders a conversation as one prompt.
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
    """Inputs of a CLI. ``images`` follow the order of the ``[image n]`` marks in the prompt, if any."""

    system: str | None
    prompt: str
    images: tuple[Image, ...] = ()
    turns: tuple[Turn, ...] = ()
    """All turns except the system's."""


def to_conversation(turns: Sequence[Turn], *, has_system_option: bool = True, continues_session: bool = False) -> Conversation:
    """Render ``turns`` as a prompt. Raises InvalidRequest if they hold no text.

    System texts are joined in order, wherever they occur; without ``has_system_option`` they go into the transcript.
    With ``continues_session`` the CLI already has the earlier turns: the prompt starts after the assistant's last turn.
    """
    system = "\n\n".join(turn.text for turn in turns if turn.role == "system" and turn.text)
    chat = [turn for turn in turns if turn.role != "system" and (turn.text or turn.images)]
    if not chat and system:
        return Conversation(None, system)
    if continues_session:
        chat = _latest(chat)
    if not any(turn.text.strip() or turn.images for turn in chat):
        raise InvalidRequest("messages: no text in any message; send a message with text", field="messages", issue="no text")
    first = [Turn("system", system)] if system and not has_system_option else []
    images = tuple(image for turn in chat for image in turn.images)
    return Conversation(system if has_system_option and system else None, render([*first, *chat]), images, tuple(chat))


def _latest(turns: list[Turn]) -> list[Turn]:
    """The turns after the assistant's last one; all turns if the assistant's is the last."""
    for index in range(len(turns) - 1, -1, -1):
        if turns[index].role in ("assistant", "tool_call"):
            return turns[index + 1 :] or turns
    return turns


def join_parts(texts: Iterable[str]) -> str:
    """Join a message's text parts, with a line break unless one is already there."""
    joined = ""
    for text in texts:
        gap = "\n" if joined and text and not joined[-1].isspace() and not text[0].isspace() else ""
        joined += gap + text
    return joined


def call_text(name: str, arguments: Any, call_id: str | None = None) -> str:
    """An assistant's call of a client tool, as text. ``arguments``: JSON text, or the decoded value."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{name}{f' ({call_id})' if call_id else ''}\n{text}"


def result_text(output: str, call_id: str | None = None, *, is_error: bool = False) -> str:
    """The output of a client tool, as text."""
    head = f"{'Error' if is_error else 'Result'}{f' of {call_id}' if call_id else ''}:"
    return f"{head}\n{output}"
