"""A client that has left, on real sockets: noticed whatever it sent before, and never confused with another connection."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from gevent.event import Event

from blueprints.client_watch import ClientWatch
from services.cancellation import CLIENT_GONE, Cancellation

Pair = tuple[socket.socket, socket.socket]
WITHIN_S = 5


@pytest.fixture
def connect() -> Iterator[Callable[[], Pair]]:
    """Makes connections over TCP: the server's side, the client's side."""
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as listener:

        def make() -> Pair:
            client = stack.enter_context(socket.create_connection(listener.getsockname()))
            return stack.enter_context(listener.accept()[0]), client

        yield make


def watch(ours: socket.socket) -> tuple[Cancellation, ClientWatch]:
    cancellation = Cancellation()
    return cancellation, ClientWatch({"gunicorn.socket": ours}, cancellation)


def is_cancelled(cancellation: Cancellation) -> bool:
    cancelled = Event()
    cancellation.listen(cancelled.set)
    return bool(cancelled.wait(WITHIN_S)) and cancellation.failure is CLIENT_GONE


def let_the_loop_turn(connect: Callable[[], Pair]) -> None:
    """Until a client is noticed that leaves now: what had happened before would be noticed as well."""
    ours, theirs = connect()
    cancellation, watcher = watch(ours)
    theirs.close()
    assert is_cancelled(cancellation)
    watcher.close()


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\n\r\n" * 1000], ids=["nothing", "one byte", "many requests"])
@pytest.mark.parametrize("leaves", ["fin", "half", "rst"])
def test_client_that_leaves_is_noticed(connect: Callable[[], Pair], sent: bytes, leaves: str) -> None:
    ours, theirs = connect()
    cancellation, watcher = watch(ours)
    theirs.sendall(sent)
    let_the_loop_turn(connect)
    assert cancellation.failure is None
    if leaves == "half":
        theirs.shutdown(socket.SHUT_WR)
    else:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", leaves == "rst", 0))
        theirs.close()
    assert is_cancelled(cancellation)
    watcher.close()


def test_client_that_leaves_after_the_answer_cancels_nothing(connect: Callable[[], Pair]) -> None:
    ours, theirs = connect()
    cancellation, watcher = watch(ours)
    watcher.close()
    theirs.close()
    let_the_loop_turn(connect)
    assert cancellation.failure is None


def test_requests_of_one_connection_are_watched_one_after_the_other(connect: Callable[[], Pair]) -> None:
    ours, theirs = connect()
    first, watcher = watch(ours)
    watcher.close()
    second, watcher = watch(ours)
    theirs.close()
    assert is_cancelled(second)
    watcher.close()
    assert first.failure is None


def test_a_watch_closed_late_leaves_the_connection_alone_that_has_its_descriptor_now(connect: Callable[[], Pair]) -> None:
    gone, _ = connect()
    other, theirs = connect()
    descriptor = gone.fileno()
    _, late = watch(gone)
    gone.close()
    os.dup2(other.fileno(), descriptor)
    with socket.socket(fileno=descriptor) as ours:
        cancellation, watcher = watch(ours)
        late.close()
        theirs.close()
        assert is_cancelled(cancellation)
        watcher.close()


def test_many_clients_that_leave_at_once_are_all_noticed(connect: Callable[[], Pair]) -> None:
    pairs = [connect() for _ in range(50)]
    watches = [watch(ours) for ours, _ in pairs]
    for _, theirs in pairs[::2]:
        theirs.close()
    let_the_loop_turn(connect)
    for _, watcher in watches:
        watcher.close()
    assert [cancellation.failure for cancellation, _ in watches] == [CLIENT_GONE, None] * 25
