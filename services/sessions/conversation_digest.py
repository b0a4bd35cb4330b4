"""A digest of a conversation so far: owner, caller, backend, options and every message. Pure.

Two requests have the same digest only if all of these are identical. Limits of a single answer (``max_tokens``, stop sequences, the
time limit) are not included: they are passed to the CLI with every run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from services.event_loop import yield_to_others
from services.history import Call, Image, Message, Part, Result, latest, said, text_of
from services.requests import RunRequest

OF_ONE_ANSWER = {"max_tokens"}


@dataclass(frozen=True, slots=True)
class Point:
    """A request in a conversation. ``before``: the digest up to and including the last answer; None for a first message.
    ``latest``: the messages since, never empty."""

    before: bytes | None
    latest: tuple[Message, ...]
    _so_far: Any

    def after(self, answer: str) -> bytes:
        """The digest of the conversation including ``answer``."""
        digest = self._so_far.copy()
        _add(digest, said("assistant", answer))
        return bytes(digest.digest())


def point_of(request: RunRequest, cwd: str) -> Point | None:
    """None if the last message is the assistant's."""
    messages = request.messages
    newest = tuple(latest(messages))
    if not newest:
        return None
    earlier = messages[: len(messages) - len(newest)]
    options = {name: value for name, value in request.options.items() if name not in OF_ONE_ANSWER}
    context = json.dumps([request.owner, request.caller, request.backend, cwd, options, request.extra], sort_keys=True, default=str)
    digest = hashlib.sha256(context.encode())
    for message in earlier:
        _add(digest, message)
    before = digest.digest() if earlier else None
    for message in newest:
        _add(digest, message)
    return Point(before, newest, digest)


def _add(digest: Any, message: Message) -> None:
    """Prefix every piece with its length, so that different splits have different digests. A message's texts count as one."""
    yield_to_others()
    pieces = [message.role.encode(), _bytes(message.text), *(piece for part in message.parts for piece in _pieces(part))]
    digest.update(b"%d" % len(pieces))
    for piece in pieces:
        digest.update(b":%d:" % len(piece))
        digest.update(piece)


def _pieces(part: Part) -> list[bytes]:
    match part:
        case Image(media_type, data):
            return [media_type.encode(), data]
        case Call(id, name, arguments):
            return [b"call", _bytes(id), _bytes(name), _bytes(arguments)]
        case Result(call_id, content, is_error):
            inner = [piece for image in content for piece in _pieces(image)]
            return [b"error" if is_error else b"result", _bytes(call_id), _bytes(text_of(content)), *inner]
    return []


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
