"""Sends a stored run's events to a reader, from any event on. The run goes on when the reader leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

from flask import Response

from blueprints import sse
from blueprints.streaming import is_sse, stream_response
from services.errors import NotFound
from services.runs.record import Run, first_number
from services.runs.service import Runs

DATA = b"data: "


def follow_run(
    runs: Runs, run: Run, after: int | None, content_type: str, headers: Mapping[str, str], closing: ExitStack | None = None
) -> Response:
    """The events with numbers above ``after``, or all for None, to the terminal one. ``closing`` is closed when the reader has left."""
    if after is None:
        after = first_number(run.kind) - 1
    return stream_response(_frames(runs, run, after, as_sse=is_sse(content_type)), content_type, dict(headers), closing or ExitStack())


def _frames(runs: Runs, run: Run, after: int, *, as_sse: bool) -> Iterator[bytes]:
    encode = _as_sse if as_sse else _as_ndjson
    try:
        yield from map(encode, runs.events.follow(run.id, after, lambda: runs.terminal_of(run.id)))
    except NotFound:  # the run was deleted
        return


def _as_sse(frames: bytes) -> bytes:
    return frames or sse.KEEP_ALIVE


def _as_ndjson(frames: bytes) -> bytes:
    return b"".join(line[len(DATA) :] + b"\n" for line in frames.split(b"\n") if line.startswith(DATA))
