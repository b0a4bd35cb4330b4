"""Render the turns of a conversation as one prompt: CLIs take one prompt, not a list of messages. Pure.

A single user turn is passed unchanged. Anything longer becomes a transcript with each turn between tags. The tag name contains a
code that occurs in none of the texts, so no text can close its turn or forge another one. The code is derived from the first
turn, so a growing conversation keeps its prefix, which model vendors cache.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from services.requests import Image

Role = Literal["system", "user", "assistant", "tool_call", "tool_result"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One contribution of one role. A message of an API may be several turns: a text, then two tool calls."""

    role: Role
    text: str = field(repr=False)
    images: tuple[Image, ...] = ()


def render(turns: Sequence[Turn]) -> str:
    """A single user turn as its text; anything else as a transcript that ends with the task."""
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
    """Placeholders for the images of a turn, which are passed beside the prompt in the same order."""
    return "".join(f"[image {next(numbers)}]\n" for _ in turn.images)


def _tag(turns: Sequence[Turn]) -> str:
    texts = [turn.text.lower() for turn in turns]
    seed = turns[0].text.encode(errors="replace")
    for attempt in itertools.count():
        tag = f"turn-{hashlib.sha256(b'%d:%s' % (attempt, seed)).hexdigest()[:8]}"
        if not any(tag in text for text in texts):
            return tag
    raise AssertionError  # count() does not end
