"""A conversation of the compatible surfaces, checked and arranged for a CLI: system prompt, and messages. Pure.

Each surface translates its own format to `services.history`; here is what all have in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from services.clis.spec import BackendSpec
from services.errors import InvalidRequest
from services.event_loop import yield_to_others
from services.history import SYSTEM, Call, Image, Message, Part, Result, Text, join_texts, latest, said, strings


@dataclass(frozen=True, slots=True)
class Conversation:
    """Inputs of a CLI."""

    system: str | None
    messages: tuple[Message, ...]
    """Without those that are in ``system``. The last one is to be answered."""

    @property
    def prompt(self) -> str:
        """What is asked, for a session's records."""
        return "\n\n".join(shown for message in latest(self.messages) if (shown := _shown(message)))

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(image for message in self.messages for image in message.images)

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything that the model reads, for an estimate of its tokens."""
        return (self.system or "", *strings(self.messages))


def to_conversation(
    messages: Iterable[Message], spec: BackendSpec, *, field: str, also_system: str = "", continues_session: bool = False
) -> Conversation:
    """Arrange ``messages`` for the CLI. Raises InvalidRequest, naming ``field``, for those that no model accepts.

    System messages before all others are the system prompt. Later ones stay where they are if the CLI can have them there, else they
    stand at its end, each once and unchanged; ``also_system`` is added to it. Without such a prompt they come first of all. With
    ``continues_session`` the CLI already has the earlier messages: those after the assistant's last answer are left.
    """
    whole = _without_blanks(_paired(messages, field))
    leading = list(takewhile(_is_system, whole))
    system, chat = (leading, whole[len(leading) :]) if spec.takes_system_in_place else _split(whole)
    if system and not chat:
        system, chat = [], [said("user", _joined(system))]
    prompt = "\n\n".join(filter(None, (_joined(system), also_system)))
    if not any(text.strip() for text in strings(chat)) and not any(image for message in chat for image in message.images):
        raise _refused(field, "no text in any message; send a message with text", "no text")
    if chat[-1].role == "assistant":
        raise _refused(field, "the last message is the assistant's; end with one of the user's", "ends with the assistant")
    if continues_session:
        chat = list(latest(chat))
    if prompt and not spec.honours("system_prompt"):
        return Conversation(None, (said("system", prompt), *chat))
    return Conversation(prompt or None, tuple(chat))


def _paired(messages: Iterable[Message], field: str) -> Iterable[Message]:
    """The messages, checked: each call has exactly one result before the next message. Calls without an id get one; their results
    come in the order of the calls."""
    open_calls: dict[str, None] = {}
    has_results = False  # of some of them
    known: set[str] = set()
    unnamed = 0

    def missing(call_id: str) -> InvalidRequest:
        return _refused(field, f"call {call_id[:200]!r} has no result before the next message", "missing result")

    for message in messages:
        yield_to_others()
        if open_calls and has_results and message.role == "assistant":
            raise missing(next(iter(open_calls)))
        parts: list[Part] = []
        for part in message.parts:
            match part:
                case Call(id=id):
                    if not id:
                        unnamed += 1
                        part = replace(part, id=f"call_{unnamed}")
                    if part.id in known:
                        raise _refused(field, f"there are two calls with the id {part.id[:200]!r}", "doubled call")
                    known.add(part.id)
                    open_calls[part.id] = None
                case Result(call_id=id):
                    part = replace(part, call_id=id or next(iter(open_calls), ""))
                    if part.call_id not in open_calls:
                        what = "a second result" if part.call_id in known else "a result without a call"
                        raise _refused(field, f"{what}: {part.call_id[:200]!r}", "no such open call")
                    del open_calls[part.call_id]
            parts.append(part)
        has_results = bool(open_calls) and (has_results or any(message.results))
        if open_calls and not _awaits_results(message):
            raise missing(next(iter(open_calls)))
        yield Message(message.role, tuple(parts))
    if open_calls:
        raise missing(next(iter(open_calls)))


def _awaits_results(message: Message) -> bool:
    """Whether more results may follow it: the calls' own message, or one that is nothing but results."""
    return message.role == "assistant" or all(isinstance(part, Result) for part in message.parts)


def _without_blanks(messages: Iterable[Message]) -> list[Message]:
    """No text is empty, and no message without parts."""
    full = (Message(message.role, tuple(part for part in message.parts if part != EMPTY)) for message in messages)
    return [message for message in full if message.parts]


EMPTY = Text("")


def _split(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """The system's, and the rest."""
    return [message for message in messages if _is_system(message)], [message for message in messages if not _is_system(message)]


def _joined(system: Iterable[Message]) -> str:
    return "\n\n".join(message.text for message in system)


def _is_system(message: Message) -> bool:
    return message.role in SYSTEM


def _shown(message: Message) -> str:
    """A message in records: its texts, those of its results, and where it has images."""
    pieces = (_shown_part(part) for part in message.parts)
    return join_texts(piece for piece in pieces if piece)


def _shown_part(part: Part) -> str:
    match part:
        case Text(text):
            return text
        case Image():
            return "[image]"
        case Result(_, content):
            return join_texts(map(_shown_part, content))
        case Call():
            return ""


def _refused(field: str, message: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", field=field, issue=issue)
