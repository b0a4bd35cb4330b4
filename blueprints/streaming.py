"""Streams a run to its client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Generic, Protocol, TypeVar

from flask import Response

from blueprints.client_watch import watch_client
from services.cancellation import Cancellation

EVENT_STREAM = "text/event-stream"
NDJSON = "application/x-ndjson"

STREAM_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # otherwise nginx buffers the tokens
}


T = TypeVar("T")


class Closable(Protocol):
    def close(self) -> None:
        """Stop the run if it has not ended."""


R = TypeVar("R", bound=Closable)


def open_run(start: Callable[[Cancellation], R]) -> tuple[R, ExitStack]:
    """Start a run that is cancelled when its client closes the connection. Closing the stack stops the run and the watch."""
    cancellation, watch = watch_client()
    with ExitStack() as stack:
        stack.callback(watch.close)
        run = start(cancellation)
        stack.callback(run.close)
        return run, stack.pop_all()


class StreamBody(Iterator[bytes], Generic[T]):
    """A streamed response body: each item encoded by ``encode``. Closing it closes ``closing``, which stops the run.

    The WSGI server calls `close` when the body has been sent, when a write fails, and when it shuts down.
    """

    def __init__(self, items: Iterator[T], encode: Callable[[T], bytes], closing: ExitStack) -> None:
        self._items = items
        self._encode = encode
        self.close = closing.close
        self._has_begun = False

    def __next__(self) -> bytes:
        if not self._has_begun:
            self._has_begun = True
            return b""  # sends the headers before the first token
        return self._encode(next(self._items))


def stream_response(
    items: Iterator[T], encode: Callable[[T], bytes], content_type: str, headers: dict[str, str], closing: ExitStack
) -> Response:
    """Send the run's batches as they arrive. ``encode`` gets an empty batch when a keep-alive is due."""
    return Response(StreamBody(items, encode, closing), content_type=content_type, headers={**STREAM_HEADERS, **headers})
