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
    said: tuple[Turn, ...] = ()
    """All turns except the system's."""


def to_conversation(turns: Sequence[Turn], *, has_system_option: bool = True, continues_session: bool = False) -> Conversation:
    """Render ``turns`` as a prompt. Raises InvalidRequest if they hold no text.

    System texts are joined in order, wherever they occur; without ``has_system_option`` they go into the transcript.
    With ``continues_session`` the CLI already has the earlier turns: the prompt starts after the assistant's last turn.
    """
    system = "\n\n".join(turn.text for turn in turns if turn.role == "system" and turn.text)
    said = [turn for turn in turns if turn.role != "system" and (turn.text or turn.images)]
    if not said and system:
        return Conversation(None, system)
    if continues_session:
        said = _latest(said)
    if not any(turn.text.strip() or turn.images for turn in said):
        raise InvalidRequest("messages: no text in any message; send a message with text", field="messages", issue="no text")
    first = [Turn("system", system)] if system and not has_system_option else []
    images = tuple(image for turn in said for image in turn.images)
    return Conversation(system if has_system_option and system else None, render([*first, *said]), images, tuple(said))


def _latest(said: list[Turn]) -> list[Turn]:
    """The turns after the assistant's last one; all turns if the assistant's is the last."""
    for index in range(len(said) - 1, -1, -1):
        if said[index].role in ("assistant", "tool_call"):
            return said[index + 1 :] or said
    return said


def join_parts(texts: Iterable[str]) -> str:
    """Join a message's text parts, with a line break unless one is already there."""
    joined = ""
    for text in texts:
        gap = "\n" if joined and text and not joined[-1].isspace() and not text[0].isspace() else ""
        joined += gap + text
    return joined


def call_text(name: str, arguments: Any, call_id: str | None = None) -> str:
    """An assistant's call of a client tool, as text. ``arguments``: JSON text, or the decoded value."""
    told = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{name}{f' ({call_id})' if call_id else ''}\n{told}"


def result_text(output: str, call_id: str | None = None, *, is_error: bool = False) -> str:
    """The output of a client tool, as text."""
    head = f"{'Error' if is_error else 'Result'}{f' of {call_id}' if call_id else ''}:"
    return f"{head}\n{output}"
