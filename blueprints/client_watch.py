"""Cancels a request's run when its client closes the connection, even while the server writes nothing to it."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import gevent
from flask import request
from gevent.monkey import get_original

from services.cancellation import CLIENT_GONE, Cancellation


class Registration(Protocol):
    def close(self) -> None: ...


class Hangups:
    """Detects when socket peers shut down, even behind unread bytes.

    gevent's loop cannot wait for EPOLLRDHUP. The sockets are therefore registered in a separate epoll instance, whose descriptor
    the loop watches for readability. A registration costs two system calls. One instance serves all requests of an event loop.
    """

    def __init__(self) -> None:
        self._epoll = get_original(
            "select", "epoll"
        )()  # monkey patching removes epoll because poll() would block; ours polls with timeout 0
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._watcher = gevent.get_hub().loop.io(self._epoll.fileno(), 1)
        self._watcher.start(self._dispatch)

    def watch(self, connection: Any, callback: Callable[[], None]) -> Registration:
        descriptor = connection.fileno()
        self._epoll.register(descriptor, select.EPOLLRDHUP)  # EPOLLHUP and EPOLLERR (a reset) are always reported
        self._callbacks[descriptor] = callback
        return _HangupRegistration(partial(self._forget, descriptor, callback))

    def _dispatch(self) -> None:
        for descriptor, _ in self._epoll.poll(0):
            if callback := self._callbacks.get(descriptor):
                self._forget(descriptor, callback)
                callback()

    def _forget(self, descriptor: int, callback: Callable[[], None]) -> None:
        if self._callbacks.get(descriptor) is callback:  # otherwise the descriptor number already belongs to a newer connection
            del self._callbacks[descriptor]
            with suppress(OSError):  # the kernel already removed a closed socket
                self._epoll.unregister(descriptor)


class _HangupRegistration:
    def __init__(self, forget: Callable[[], None]) -> None:
        self.close = forget


class Peek:
    """Fallback without epoll. It does not detect a shutdown behind unread bytes."""

    def __init__(self, connection: Any, callback: Callable[[], None]) -> None:
        # gevent's recv would switch greenlets, which a loop callback must not do; the underlying plain socket does not.
        self._socket = getattr(connection, "_sock", connection)
        self._callback = callback
        self._watcher = gevent.get_hub().loop.io(connection.fileno(), 1)
        self._watcher.start(self._peek)

    def _peek(self) -> None:
        try:
            has_ended = not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            has_ended = True
        self._watcher.stop()  # a pipelined request's bytes would make the watcher fire forever
        if has_ended:
            self._callback()

    def close(self) -> None:
        self._watcher.stop()
        self._watcher.close()


_hangups: WeakKeyDictionary[Any, Hangups] = WeakKeyDictionary()
"""By gevent hub: each thread has its own."""


def on_hangup(connection: Any, callback: Callable[[], None]) -> Registration:
    """Call ``callback`` in the event loop, once, when the peer of ``connection`` has shut down its side."""
    if not hasattr(select, "EPOLLRDHUP"):
        return Peek(connection, callback)
    hub = gevent.get_hub()
    if hub not in _hangups:
        _hangups[hub] = Hangups()
    return _hangups[hub].watch(connection, callback)


class ClientWatch:
    """Cancels when the client closes its connection. Close it when the response has been sent.

    A half-closed connection counts as closed: no HTTP client half-closes while it waits for a response.
    """

    def __init__(self, environ: dict[str, Any], cancellation: Cancellation) -> None:
        connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
        self._registration: Registration | None = None
        if connection is not None and connection.fileno() >= 0:
            self._registration = on_hangup(connection, partial(cancellation.cancel, CLIENT_GONE))

    def close(self) -> None:
        if self._registration:
            self._registration.close()
            self._registration = None


def watch_client() -> tuple[Cancellation, ClientWatch]:
    """A cancellation that fires when the current request's client disconnects."""
    cancellation = Cancellation()
    return cancellation, ClientWatch(request.environ, cancellation)
