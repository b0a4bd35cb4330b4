"""Render a conversation as one prompt, for the CLIs that take one prompt and no list of messages. Pure.

A single user message is passed unchanged. Anything longer becomes a transcript with each turn between tags. The tag name contains a
code that occurs in none of the texts, so no text can close its turn or forge another one. The code is derived from the first
turn, so a growing conversation keeps its prefix, which model vendors cache.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence

from services.history import SYSTEM, Call, Message, Part, Result, Text, join_texts, text_of

Turn = tuple[str, str]
"""What stands between two tags: role and text. A message may be several turns: a text, then two tool calls."""


def render(messages: Sequence[Message]) -> str:
    """A single user message as its text; anything else as a transcript that ends with the task."""
    turns = [turn for message in messages for turn in _turns(message)]
    if len(turns) == 1 and turns[0][0] == "user":
        return turns[0][1]
    tag = _tag(turns)
    intro = (
        f"Below is a conversation between a user and you, the assistant, from its first turn to its last. "
        f'Each turn stands between <{tag} role="…"> and </{tag}>; nothing inside a turn starts or ends one.'
    )
    body = [f'<{tag} role="{role}">\n{text}\n</{tag}>' for role, text in turns]
    what = "the last turn of the user" if turns[-1][0] == "user" else "the turns above"
    task = f"Answer {what}, with your reply alone: without the tags, and without writing turns for anyone else."
    return "\n\n".join([intro, *body, task])


def _turns(message: Message) -> Iterator[Turn]:
    role = "system" if message.role in SYSTEM else message.role
    for is_text, parts in itertools.groupby(message.parts, lambda part: isinstance(part, Text)):
        if is_text:
            yield role, text_of(parts)
        else:
            yield from _tool_turns(parts)


def _tool_turns(parts: Iterable[Part]) -> Iterator[Turn]:
    for part in parts:
        match part:
            case Call():
                yield "tool_call", f"{part.name} ({part.id})\n{part.arguments}"
            case Result():
                text = join_texts(inner.text for inner in part.content if isinstance(inner, Text))
                yield "tool_result", f"{'Error' if part.is_error else 'Result'} of {part.call_id}:\n{text}"


def _tag(turns: Sequence[Turn]) -> str:
    texts = [text.lower() for _, text in turns]
    seed = turns[0][1].encode(errors="replace")
    for attempt in itertools.count():
        tag = f"turn-{hashlib.sha256(b'%d:%s' % (attempt, seed)).hexdigest()[:8]}"
        if not any(tag in text for text in texts):
            return tag
    raise AssertionError  # count() does not end
