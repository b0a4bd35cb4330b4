"""A chat, as the compatible surfaces bring it, → what a CLI takes: a system prompt, one prompt, pictures. Pure.

A CLI takes one prompt and no list of messages. So a single user message is passed as it is, and anything longer becomes a
transcript whose turns stand between tags. The tags carry a code that is in none of the texts, so no text can end its turn or
forge another's; the code comes from the first turn, so a growing conversation keeps its beginning, which model vendors cache.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from services.errors import InvalidRequest
from services.run import Image

Role = Literal["system", "user", "assistant", "tool_call", "tool_result"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said at one moment. A surface's message may be several turns: a text, then two calls of tools."""

    role: Role
    text: str = field(repr=False)
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a CLI is given. ``images`` are in the order of the ``[image n]`` marks of the prompt, where it has any."""

    system: str | None
    prompt: str
    images: tuple[Image, ...] = ()


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
    if system and not has_system_option:
        said.insert(0, Turn("system", system))
    images = tuple(image for turn in said for image in turn.images)
    return Conversation(system if has_system_option and system else None, render(said), images)


def _latest(said: list[Turn]) -> list[Turn]:
    """The turns after the assistant's last one; all of them where the assistant has the last word."""
    for index in range(len(said) - 1, -1, -1):
        if said[index].role in ("assistant", "tool_call"):
            return said[index + 1 :] or said
    return said


def render(turns: Sequence[Turn]) -> str:
    """One user's turn is its text; anything else is a transcript, which ends with what is to be done now."""
    if len(turns) == 1 and turns[0].role == "user":
        return turns[0].text if turns[0].text.strip() else _marks(turns[0], itertools.count(1)).strip()
    tag = _tag(turns)
    numbers = itertools.count(1)
    intro = (
        f"Below is a conversation between a user and you, the assistant, from its first turn to its last. "
        f'Each turn stands between <{tag} role="…"> and </{tag}>; nothing inside a turn starts or ends one.'
    )
    body = [f'<{tag} role="{turn.role}">\n{_marks(turn, numbers)}{turn.text}\n</{tag}>' for turn in turns]
    return "\n\n".join([intro, *body, _task(turns[-1])])


def _task(last: Turn) -> str:
    if last.role == "assistant":
        return (
            "Continue your last turn from exactly where it stops: write what comes next, without repeating any of it and without the tags."
        )
    what = "the last turn of the user" if last.role == "user" else "the turns above"
    return f"Answer {what}, with your reply alone: without the tags, and without writing turns for anyone else."


def _marks(turn: Turn, numbers: Iterator[int]) -> str:
    """Where the pictures of a turn stood. They travel beside the prompt, in the same order."""
    return "".join(f"[image {next(numbers)}]\n" for _ in turn.images)


def _tag(turns: Sequence[Turn]) -> str:
    texts = [turn.text.lower() for turn in turns]
    seed = turns[0].text.encode(errors="replace")
    for attempt in itertools.count():
        tag = f"turn-{hashlib.sha256(b'%d:%s' % (attempt, seed)).hexdigest()[:8]}"
        if not any(tag in text for text in texts):
            return tag
    raise AssertionError  # count() does not end


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
