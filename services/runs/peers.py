"""The serving processes of one machine that share a home folder: each answers the others on a Unix socket in it.

Containers and machines may share the folder too, so a socket is named by the place of its process and the pid there. Nobody removes a
socket of another place: what refuses a connection there may only be out of reach.

One request and one answer per connection, each a line of JSON. What a process cannot reach is left out: a peer that has just died has
no run any more, and one that is frozen answers no client either.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from hashlib import sha256
from typing import Any

import gevent
import orjson
from gevent import socket
from gevent.server import StreamServer

from services.store.leases import place

log = logging.getLogger("clinvk.runs")

TIMEOUT_S = 1.0
"""For one exchange."""
LINE_LIMIT_BYTES = 16 << 20
SUFFIX = ".sock"
PLACE_DIGITS = 16
"""Of the hash of a place: what is left of 107 bytes is for the folder."""
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
        self._prefix = ""
        self._descriptor = -1
        self._has_failed = False

    def start(self) -> None:
        """Listen. A failure is logged: the other processes then do not see this one's runs."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._prefix = f"{sha256(place().encode()).hexdigest()[:PLACE_DIGITS]}-"
        self._begin()

    def renew(self) -> None:
        """Listen again if the folder or the socket was removed. Does nothing before `start` and after `close`."""
        if self._pid == os.getpid() and not (self._server and os.path.exists(os.path.join(self._folder, self._own_name))):
            self._end()
            self._begin()

    def close(self) -> None:
        if self._pid == os.getpid():
            with suppress(OSError):
                os.unlink(self._path(self._own_name))
            self._end()
            self._pid = 0

    def _begin(self) -> None:
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._server = StreamServer(self._listen(), self._answer)
            self._server.start()
            self._has_failed = False
        except OSError as error:
            level = logging.DEBUG if self._has_failed else logging.WARNING
            log.log(level, "other workers cannot reach this one: %s: %s", self._folder, error.strerror or error)
            self._has_failed = True

    def _end(self) -> None:
        if self._server:
            self._server.stop()
            self._server = None
        if self._descriptor != -1:
            os.close(self._descriptor)
            self._descriptor = -1

    def ask(self, name: str, **members: Any) -> list[Any]:
        """The answers of all peers that answer in time."""
        request = orjson.dumps({"name": name, **members}) + b"\n"
        asked = [gevent.spawn(self._exchange, peer, request) for peer in self._others()]
        gevent.joinall(asked)
        return [greenlet.value for greenlet in asked if greenlet.value is not None]

    def tell(self, name: str, **members: Any) -> None:
        """The same, without waiting for answers."""
        if any(self._others()):
            gevent.spawn(self.ask, name, **members)

    @property
    def _own_name(self) -> str:
        return f"{self._prefix}{self._pid}{SUFFIX}"

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

    def _others(self) -> list[str]:
        """The names of their sockets. None if the folder was removed: a renewal makes it again."""
        with suppress(OSError):
            if self._server:
                return [name for name in os.listdir(self._folder) if name.endswith(SUFFIX) and name != self._own_name]
        return []

    def _exchange(self, peer: str, request: bytes) -> Any:
        path = self._path(peer)
        try:
            with gevent.Timeout(TIMEOUT_S), closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
                connection.connect(path)
                connection.sendall(request)
                return orjson.loads(_read_line(connection))
        except ConnectionRefusedError:  # its process was killed, or is on another machine
            if peer.startswith(self._prefix):
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
