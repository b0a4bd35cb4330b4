"""Where a conversation stands, as a digest: whose it is, with whom, and every word so far. Pure.

Two requests meet at a point only if all of that is the same to the letter. What bounds one answer alone (``max_tokens``, stop
sequences, the time limit) is no part of it: a CLI is told that anew in every run.
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
"""Turns of the assistant's side. A call of a client's tool is never an answer of ours, so no point has one."""


@dataclass(frozen=True, slots=True)
class Point:
    """A request in a conversation. ``before``: the digest of all up to the last answer; None where there is none.
    ``latest``: what was said since, never empty."""

    before: bytes | None
    latest: tuple[Turn, ...]
    _so_far: Any

    def after(self, answer: str) -> bytes:
        """The digest of all that was said, with ``answer``."""
        digest = self._so_far.copy()
        _add(digest, Turn("assistant", answer))
        return bytes(digest.digest())


def point_of(request: RunRequest, cwd: str, said: Sequence[Turn]) -> Point | None:
    """``said``: every turn but the system's. None where the assistant has the last word, which is to be gone on with."""
    start = next((index + 1 for index in range(len(said) - 1, -1, -1) if said[index].role in ANSWERS), 0)
    latest = tuple(said[start:])
    if not latest:
        return None
    options = {name: value for name, value in request.options.items() if name not in OF_ONE_ANSWER}
    whose = json.dumps([request.caller, request.backend, cwd, options, request.extra], sort_keys=True, default=str)
    digest = hashlib.sha256(whose.encode())
    for turn in said[:start]:
        _add(digest, turn)
    before = digest.digest() if start else None
    for turn in latest:
        _add(digest, turn)
    return Point(before, latest, digest)


def _add(digest: Any, turn: Turn) -> None:
    """Lengths go before texts, so that no text can pass for two."""
    parts = [turn.role.encode(), turn.text.encode(errors="surrogatepass")]
    for image in turn.images:
        parts += [image.media_type.encode(), image.data]
    digest.update(b"%d" % len(parts))
    for part in parts:
        digest.update(b":%d:" % len(part))
        digest.update(part)
