"""Chunks of SSE frames. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from services.runs.record import Chunk

FRAME_END = b"\n\n"
"""Ends every frame, and occurs nowhere within one (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""


def after(chunk: Chunk, number: int) -> Chunk | None:
    """The frames of ``chunk`` with greater numbers than ``number``."""
    if chunk.first > number:
        return chunk
    if chunk.last <= number:
        return None
    seen = number + 1 - chunk.first
    return Chunk(number + 1, chunk.count - seen, chunk.data.split(FRAME_END, seen)[seen])


def join(parts: Sequence[Chunk]) -> Chunk:
    """One chunk of at least one, which follow each other."""
    if len(parts) == 1:
        return parts[0]
    return Chunk(parts[0].first, sum(part.count for part in parts), b"".join(part.data for part in parts))
