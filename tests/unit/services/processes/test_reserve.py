from __future__ import annotations

import os

import pytest

from services.processes import reserve
from services.processes.reserve import AHEAD, PLACES, Reserve


def test_one_is_forked_as_long_as_fewer_wait_than_are_to_be_there_early() -> None:
    one = Reserve()
    while one.is_short:
        taken = one.add()
    assert not one.is_full
    one.leave(taken)
    assert one.is_short
    one.wait(taken)
    assert not one.is_short


def test_it_is_full_when_so_many_wait() -> None:
    one = Reserve()
    busy = one.add()
    one.leave(busy)
    for _ in range(AHEAD + PLACES):
        assert not one.is_full
        one.add()
    assert one.is_full


def test_a_supervisor_that_has_ended_waits_no_more_and_another_gets_its_place() -> None:
    one = Reserve()
    first = one.add()
    one.add()
    one.remove(first)
    assert one.is_short
    assert one.add() == first


def test_what_a_forked_process_says_is_seen_here() -> None:
    one = Reserve()
    for _ in range(AHEAD):
        taken = one.add()
    child = os.fork()
    if not child:
        one.leave(taken)
        os._exit(0)
    os.waitpid(child, 0)
    assert one.is_short


def test_more_supervisors_than_the_page_has_bytes_are_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserve, "MOST", 3)
    one = Reserve()
    for _ in range(3):
        one.leave(one.add())
    with pytest.raises(OSError, match="more than 3 supervisors"):
        one.add()
