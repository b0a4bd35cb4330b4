"""The group commit, without a database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import gevent
import pytest
from gevent.event import Event

from services.errors import StoreUnavailable
from services.runs.committer import Committer, Fenced
from services.runs.record import Chunk
from tests.parts.run_stores import frames

WITHIN_S = 10.0


class Table:
    """Stores what is written, while ``gate`` is open."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Chunk]] = []
        self.refused: set[str] = set()
        self.reports: list[tuple[set[str], set[str]]] = []
        self.gate = Event()
        self.gate.set()
        self.fail: Callable[[], None] = lambda: None

    def write(self, batch: Mapping[str, Chunk]) -> Collection[str]:
        self.batches.append(dict(batch))
        self.gate.wait()
        self.fail()
        return self.refused & set(batch)

    def report(self, stored: Mapping[str, Chunk], lost: Collection[str]) -> None:
        self.reports.append((set(stored), set(lost)))

    def committer(self, **options: Any) -> Committer:
        return Committer(self.write, self.report, **{"interval_s": 0.0} | options)


def until(is_true: Callable[[], object]) -> None:
    with gevent.Timeout(WITHIN_S):
        while not is_true():
            gevent.sleep(0.001)


def test_one_chunk_of_a_run_is_under_way_and_the_next_has_all_that_came_meanwhile() -> None:
    table = Table()
    committer = table.committer()
    table.gate.clear()
    committer.append("a", frames(1))
    until(lambda: table.batches)
    for number in range(2, 5):
        committer.append("a", frames(number))
    committer.append("b", frames(1))
    gevent.sleep(0.01)
    assert table.batches == [{"a": frames(1)}]
    table.gate.set()
    committer.flush("a")
    assert table.batches[1:] == [{"a": frames(2, 3), "b": frames(1)}]


def test_all_that_stands_behind_a_refused_chunk_is_dropped() -> None:
    table = Table()
    committer = table.committer()
    table.gate.clear()
    table.refused = {"a"}
    committer.append("a", frames(1))
    until(lambda: table.batches)
    committer.append("a", frames(2))
    committer.append("b", frames(1))
    table.gate.set()
    committer.flush("b")
    with pytest.raises(Fenced):
        committer.append("a", frames(3))
    assert table.batches == [{"a": frames(1)}, {"b": frames(1)}]
    assert table.reports == [(set(), {"a"}), ({"b"}, set())]
    assert (committer.has("a"), committer.has("b")) == (False, True)
    committer.close("a")
    table.refused = set()
    committer.append("a", frames(7))
    committer.flush("a")
    assert table.batches[-1] == {"a": frames(7)}


def test_who_is_held_up_is_released_when_the_run_is_refused_or_closed() -> None:
    for release in ("refused", "closed"):
        table = Table()
        committer = table.committer(pending_limit_bytes=10)
        table.gate.clear()
        committer.append("a", frames(1))
        held = gevent.spawn(committer.append, "a", frames(2))
        flushing = gevent.spawn(committer.flush, "a")
        until(lambda table=table: table.batches)
        assert not held.dead
        assert not flushing.dead
        if release == "refused":
            table.refused = {"a"}
            table.gate.set()
        else:
            committer.close("a")
        for waiter in (held, flushing):
            with pytest.raises(Fenced):
                waiter.get(timeout=WITHIN_S)
        table.gate.set()


def test_a_chunk_larger_than_the_limit_is_taken_when_nothing_else_waits() -> None:
    table = Table()
    committer = table.committer(pending_limit_bytes=10)
    for number in range(1, 4):
        committer.append("a", frames(number, text="x" * 100))
    committer.flush("a")
    assert len(table.batches) == 3


def test_an_error_of_our_own_fails_the_runs_of_its_batch_and_not_the_committer(caplog: pytest.LogCaptureFixture) -> None:
    table = Table()
    committer = table.committer()
    table.fail = lambda: [].pop()
    committer.append("a", frames(1))
    with pytest.raises(StoreUnavailable):
        committer.flush("a")
    assert "could not be stored" in caplog.text
    table.fail = lambda: None
    committer.append("b", frames(1))
    committer.flush("b")


def test_a_chunk_that_cannot_be_stored_costs_no_other_run_its_events(caplog: pytest.LogCaptureFixture) -> None:
    table = Table()
    committer = table.committer()
    table.gate.clear()
    committer.append("first", frames(1))
    until(lambda: table.batches)
    for run_id in ("a", "poison", "b"):
        committer.append(run_id, frames(1))

    def fail() -> None:
        if "poison" in table.batches[-1]:
            raise ValueError("poison")

    table.fail = fail
    table.gate.set()
    for run_id in ("a", "b"):
        committer.flush(run_id)
    with pytest.raises(StoreUnavailable):
        committer.append("poison", frames(2))
    assert "poison" in caplog.text
    assert table.reports[-1] == ({"a", "b"}, {"poison"})


def test_a_commit_is_tried_again_with_pauses_until_it_is_given_up() -> None:
    table = Table()
    committer = table.committer(retry_s=0.2)

    def fail() -> None:
        raise StoreUnavailable("down")

    table.fail = fail
    committer.append("a", frames(1))
    with pytest.raises(StoreUnavailable, match="down"):
        committer.flush("a")
    assert 2 <= len(table.batches) <= 4
    assert all(batch == {"a": frames(1)} for batch in table.batches)


def test_flushing_a_run_that_was_never_written_returns() -> None:
    Table().committer().flush("a")
