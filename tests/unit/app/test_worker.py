"""The worker's own part of a connection, without a socket."""

from __future__ import annotations

from types import SimpleNamespace

import gevent
import pytest
from gunicorn.http.body import LengthReader
from gunicorn.http.unreader import IterUnreader

from app.security.body import READ_TIMEOUT
from app.server.worker import Worker
from services import event_loop

SLICES = 20


class Body:
    """A request body that was left unread; ``is_stuck`` never delivers its end."""

    reader: LengthReader | None = None
    """gunicorn's; here of a body without a length."""

    def __init__(self, slices: int, is_stuck: bool = False) -> None:
        self.left = slices
        self.is_stuck = is_stuck

    def read(self, size: int) -> bytes:
        if not self.left:
            if self.is_stuck:
                gevent.sleep(3600)
            return b""
        self.left -= 1
        return b" " * size


def worker(read_timeout_s: float) -> Worker:
    one = Worker.__new__(Worker)
    one.wsgi = SimpleNamespace(config={READ_TIMEOUT: read_timeout_s})
    return one


def test_other_requests_run_between_the_slices_of_a_body_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_loop, "SLICE_S", 0)
    turns = 0

    def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    other = gevent.spawn(others)
    body = Body(SLICES)
    worker(30)._discard_rest(SimpleNamespace(body=body))
    other.kill()
    assert not body.left
    assert turns >= SLICES - 1


def test_a_body_that_does_not_end_closes_the_connection() -> None:
    with pytest.raises(StopIteration):
        worker(0.05)._discard_rest(SimpleNamespace(body=Body(1, is_stuck=True)))


def test_a_body_that_was_read_is_not_read_again() -> None:
    body = Body(1)
    body.reader = LengthReader(IterUnreader([b"{}"]), 2)
    assert body.reader.read(2) == b"{}"
    worker(30)._discard_rest(SimpleNamespace(body=body))
    assert body.left == 1
