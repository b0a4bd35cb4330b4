"""Sends a stored run's events to a reader, from any event on. The run goes on when the reader leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from time import monotonic

import gevent
from flask import Response

from blueprints import sse
from blueprints.streaming import is_sse, stream_response
from services.errors import NotFound, StoreUnavailable
from services.runs.chunks import FRAME_END
from services.runs.record import Chunk, Run, first_number
from services.runs.service import Runs

DATA = b"data: "
UNAVAILABLE_S = 60.0
"""How long a reader waits for the database, as the run itself does."""
PAUSE_S = 1.0


class ServerStopsError(Exception):
    """The run does not end before the server stops."""


def follow_run(
    runs: Runs, run: Run, after: int | None, content_type: str, headers: Mapping[str, str], closing: ExitStack | None = None
) -> Response:
    """The events with numbers above ``after``, or all for None, to the terminal one. ``closing`` is closed when the reader has left."""
    if after is None:
        after = first_number(run.kind) - 1
    return stream_response(_frames(runs, run, after, as_sse=is_sse(content_type)), content_type, dict(headers), closing or ExitStack())


def _frames(runs: Runs, run: Run, after: int, *, as_sse: bool) -> Iterator[bytes]:
    encode = _as_sse if as_sse else _as_ndjson

    def terminal() -> Chunk | None:
        will_not_end = runs.will_not_end(run.id)  # before the end is looked for: it may come in between
        found = runs.terminal_of(run.id)
        if found is None and will_not_end:
            raise ServerStopsError
        return found

    read_at = monotonic()
    while True:
        try:
            for frames in runs.events.follow(run.id, after, terminal):
                after += frames.count(FRAME_END)
                read_at = monotonic()
                yield encode(frames)
            return
        except (NotFound, ServerStopsError):  # deleted; or a reader that comes back after the restart
            return
        except StoreUnavailable:
            if monotonic() - read_at > UNAVAILABLE_S:
                raise
        gevent.sleep(PAUSE_S)
        yield encode(b"")


def _as_sse(frames: bytes) -> bytes:
    return frames or sse.KEEP_ALIVE


def _as_ndjson(frames: bytes) -> bytes:
    return b"".join(line[len(DATA) :] + b"\n" for line in frames.split(b"\n") if line.startswith(DATA))
