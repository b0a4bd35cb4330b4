"""Streaming a run to its client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from flask import Response

from blueprints.client_watch import ClientWatch

EVENT_STREAM = "text/event-stream"
NDJSON = "application/x-ndjson"

STREAM_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx would hold tokens back otherwise
}


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """What is streamed: a run's batches, or the merged events of several runs. `close` ends what has not ended."""

    def __next__(self) -> T_co: ...

    def close(self) -> None: ...


class StreamBody(Iterator[bytes], Generic[T]):
    """The body of a streamed answer: every item of ``stream`` through ``encode``. Closing it ends the run.

    The server calls `close` when the body is out, when writing it fails, and when it shuts down.
    """

    def __init__(self, stream: Source[T], watch: ClientWatch, encode: Callable[[T], bytes]) -> None:
        self._stream = stream
        self._watch = watch
        self._encode = encode
        self._has_begun = False

    def __next__(self) -> bytes:
        if not self._has_begun:
            self._has_begun = True
            return b""  # sends the headers now, not with the first token
        return self._encode(next(self._stream))

    def close(self) -> None:
        self._watch.close()
        self._stream.close()


def stream_response(
    stream: Source[T], watch: ClientWatch, encode: Callable[[T], bytes], content_type: str, headers: dict[str, str]
) -> Response:
    """Send the run's batches as they come. ``encode`` gets an empty batch when the CLI is silent: the moment for a keep-alive."""
    return Response(StreamBody(stream, watch, encode), content_type=content_type, headers={**STREAM_HEADERS, **headers})
