"""A long computation and the others."""

from __future__ import annotations

import gevent
import pytest
from gevent.socket import socketpair

from services import event_loop
from services.event_loop import yield_to_others


@pytest.fixture
def computing() -> list[int]:
    """How often each of two long computations was at its turn."""
    return [0, 0]


def test_io_is_served_between_two_slices(monkeypatch: pytest.MonkeyPatch, computing: list[int]) -> None:
    """With ``gevent.sleep(0)`` 50 slices pass before the loop polls."""
    monkeypatch.setattr(event_loop, "SLICE_S", 0)

    def compute(index: int) -> None:
        while True:
            computing[index] += 1
            yield_to_others()

    workers = [gevent.spawn(compute, index) for index in range(2)]
    ours, theirs = socketpair()
    with ours, theirs:
        for _ in range(10):
            ours.send(b"?")
            before = sum(computing)
            assert theirs.recv(1) == b"?"
            theirs.send(b"!")
            assert ours.recv(1) == b"!"
            assert sum(computing) - before <= 12
    gevent.killall(workers)


def test_nothing_is_paused_within_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    clock = [100.0]
    monkeypatch.setattr(event_loop, "monotonic", lambda: clock[0])
    monkeypatch.setattr(event_loop, "_slice_ends_at", 0.0)
    monkeypatch.setattr(event_loop.gevent, "sleep", pauses.append)
    for _ in range(1000):
        yield_to_others()
    assert len(pauses) == 1
    clock[0] += event_loop.SLICE_S
    yield_to_others()
    assert len(pauses) == 2
