"""Streams events to a client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from flask import Response

EVENT_STREAM = "text/event-stream"
NDJSON = "application/x-ndjson"

STREAM_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # otherwise nginx buffers the tokens
}


def is_sse(content_type: str) -> bool:
    """Whether a stream of ``content_type`` is server-sent events; else it is NDJSON."""
    return content_type.startswith(EVENT_STREAM)


class StreamBody(Iterator[bytes]):
    """A streamed response body. Closing it closes ``closing``, which stops a run that belongs to the connection.

    The WSGI server calls `close` when the body has been sent, when a write fails, and when it shuts down.
    """

    def __init__(self, frames: Iterator[bytes], closing: ExitStack) -> None:
        self._frames = frames
        self.close = closing.close
        self._has_begun = False

    def __next__(self) -> bytes:
        if not self._has_begun:
            self._has_begun = True
            return b""  # sends the headers before the first token
        return next(self._frames)


def stream_response(frames: Iterator[bytes], content_type: str, headers: dict[str, str], closing: ExitStack) -> Response:
    """Send the frames as they come."""
    return Response(StreamBody(frames, closing), content_type=content_type, headers={**STREAM_HEADERS, **headers})
