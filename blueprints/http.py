"""Between a run and its client's connection: streaming, and noticing that the client has gone."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import gevent
from flask import Response, request

from services.cancellation import CLIENT_GONE, Cancellation

STREAM_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx would hold tokens back otherwise
}


class ClientWatch:
    """Cancels when the client closes its connection, also while nothing is written to it. Close it when the answer is out.

    Watches the socket for its end without reading from it (0.3 ms, also behind nginx; a heartbeat would take seconds).
    A half-closed connection counts as closed: no HTTP client that waits for an answer half-closes.
    """

    def __init__(self, environ: dict[str, Any], cancellation: Cancellation) -> None:
        self._cancellation = cancellation
        self._watcher = None
        connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
        if connection is not None and connection.fileno() >= 0:
            # gevent's socket would wait in recv, which the event loop must not; the plain one below it does not.
            self._socket = getattr(connection, "_sock", connection)
            self._watcher = gevent.get_hub().loop.io(connection.fileno(), 1)
            self._watcher.start(self._peek)

    def _peek(self) -> None:
        try:
            has_gone = not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            has_gone = True
        if self._watcher:
            self._watcher.stop()  # bytes of a next request, pipelined, would make the watcher fire for ever
        if has_gone:
            self._cancellation.cancel(CLIENT_GONE)

    def close(self) -> None:
        if self._watcher:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None


def watch_client() -> tuple[Cancellation, ClientWatch]:
    """A cancellation that the current request's client causes by going away."""
    cancellation = Cancellation()
    return cancellation, ClientWatch(request.environ, cancellation)


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
