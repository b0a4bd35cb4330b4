"""The serving processes of one machine that share a home folder: each answers the others on a Unix socket in it.

One request and one answer per connection, each a line of JSON. What a process cannot reach is left out: a peer that has just died has
no run any more, and one that is frozen answers no client either.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from typing import Any

import gevent
import orjson
from gevent.server import StreamServer

log = logging.getLogger("clinvk.runs")

TIMEOUT_S = 1.0
"""For one exchange."""
LINE_LIMIT_BYTES = 16 << 20
SUFFIX = ".sock"
DESCRIPTORS = "/proc/self/fd"

Handler = Callable[..., Any]
"""(members of the request) → a JSON value."""


class Peers:
    """One per process. `start` may be called again, also after a fork."""

    def __init__(self, folder: str, handlers: Mapping[str, Handler]) -> None:
        """``handlers``: by the name of the request."""
        self._folder = folder
        self._handlers = handlers
        self._server: StreamServer | None = None
        self._pid = 0
        self._descriptor = -1

    def start(self) -> None:
        """Listen. A failure is logged: the other processes then do not see this one's runs."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._server = StreamServer(self._listen(), self._answer)
            self._server.start()
        except OSError as error:
            log.warning("other workers cannot reach this one: %s: %s", self._folder, error.strerror or error)

    def close(self) -> None:
        if self._server and self._pid == os.getpid():
            self._server.stop()
            self._server = None
            with suppress(OSError):
                os.unlink(self._path(self._own_name))

    def ask(self, name: str, **members: Any) -> list[Any]:
        """The answers of all peers that answer in time."""
        request = orjson.dumps({"name": name, **members}) + b"\n"
        asked = [gevent.spawn(self._exchange, peer, request) for peer in self._others()]
        gevent.joinall(asked)
        return [greenlet.value for greenlet in asked if greenlet.value is not None]

    def tell(self, name: str, **members: Any) -> None:
        """The same, without waiting for answers."""
        if self._server and len(os.listdir(self._folder)) > 1:
            gevent.spawn(self.ask, name, **members)

    @property
    def _own_name(self) -> str:
        return f"{self._pid}{SUFFIX}"

    def _listen(self) -> socket.socket:
        path = self._path(self._own_name)
        with suppress(FileNotFoundError):  # of a dead process with the same pid
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(64)
        listener.setblocking(False)
        return listener

    def _path(self, name: str) -> str:
        """A socket's path must be shorter than 108 bytes, and a home folder may be longer."""
        short = f"{DESCRIPTORS}/{self._descriptor}"
        return f"{short}/{name}" if os.path.isdir(short) else os.path.join(self._folder, name)

    def _others(self) -> Iterator[str]:
        if self._server is None:
            return
        for name in os.listdir(self._folder):
            if name.endswith(SUFFIX) and name != self._own_name:
                yield name

    def _exchange(self, peer: str, request: bytes) -> Any:
        path = self._path(peer)
        try:
            with gevent.Timeout(TIMEOUT_S), closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
                connection.connect(path)
                connection.sendall(request)
                return orjson.loads(_read_line(connection))
        except ConnectionRefusedError:  # its process was killed
            with suppress(OSError):
                os.unlink(path)
        except (OSError, ValueError, gevent.Timeout) as error:
            log.debug("worker %s did not answer: %s", peer, error)
        return None

    def _answer(self, connection: socket.socket, _: Any) -> None:
        try:
            with closing(connection), gevent.Timeout(TIMEOUT_S):
                request = orjson.loads(_read_line(connection))
                answer = self._handlers[request.pop("name")](**request)
                connection.sendall(orjson.dumps(answer) + b"\n")
        except (OSError, gevent.Timeout) as error:
            log.debug("another worker did not take the answer: %s", error)
        except Exception:
            log.exception("a request of another worker failed")


def _read_line(connection: socket.socket) -> bytes:
    """Raises ValueError past the limit, or if the connection ends before."""
    parts: list[bytes] = []
    while not (parts and parts[-1].endswith(b"\n")):
        part = connection.recv(65_536)
        if not part or sum(map(len, parts)) > LINE_LIMIT_BYTES:
            raise ValueError("no whole line")
        parts.append(part)
    return b"".join(parts)
