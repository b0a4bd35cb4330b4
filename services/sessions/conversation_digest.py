"""A digest of a conversation so far: owner, caller, backend, options and every message. Pure.

Two requests have the same digest only if all of these are identical. Limits of a single answer (``max_tokens``, stop sequences, the
time limit) are not included: they are passed to the CLI with every run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.requests import RunRequest
from services.sessions.transcript import Turn

OF_ONE_ANSWER = {"max_tokens"}

ANSWERS = ("assistant", "tool_call")
"""Roles of the assistant's turns. We never return calls of client tools, so a kept session has none."""


@dataclass(frozen=True, slots=True)
class Point:
    """A request in a conversation. ``before``: the digest up to and including the last answer; None for a first message.
    ``latest``: the turns since, never empty."""

    before: bytes | None
    latest: tuple[Turn, ...]
    _so_far: Any

    def after(self, answer: str) -> bytes:
        """The digest of the conversation including ``answer``."""
        digest = self._so_far.copy()
        _add(digest, Turn("assistant", answer))
        return bytes(digest.digest())


def point_of(request: RunRequest, cwd: str, turns: Sequence[Turn]) -> Point | None:
    """``turns``: all except the system's. None if the last turn is the assistant's, to be completed."""
    start = next((index + 1 for index in range(len(turns) - 1, -1, -1) if turns[index].role in ANSWERS), 0)
    latest = tuple(turns[start:])
    if not latest:
        return None
    options = {name: value for name, value in request.options.items() if name not in OF_ONE_ANSWER}
    context = json.dumps([request.owner, request.caller, request.backend, cwd, options, request.extra], sort_keys=True, default=str)
    digest = hashlib.sha256(context.encode())
    for turn in turns[:start]:
        _add(digest, turn)
    before = digest.digest() if start else None
    for turn in latest:
        _add(digest, turn)
    return Point(before, latest, digest)


def _add(digest: Any, turn: Turn) -> None:
    """Prefix every part with its length, so that different splits have different digests."""
    parts = [turn.role.encode(), turn.text.encode(errors="surrogatepass")]
    for image in turn.images:
        parts += [image.media_type.encode(), image.data]
    digest.update(b"%d" % len(parts))
    for part in parts:
        digest.update(b":%d:" % len(part))
        digest.update(part)
