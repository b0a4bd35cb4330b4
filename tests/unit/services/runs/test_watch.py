"""One look for all readers of runs that other processes execute."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import gevent
import pytest

from services.errors import StoreUnavailable
from services.runs.watch import LOOK_LIMIT, Watch
from tests.parts.processes import PATIENCE_S

EVERY_S = 0.002


@dataclass
class Store:
    """``states``: of the runs that there are."""

    states: dict[str, object] = field(default_factory=dict)
    looks: list[list[str]] = field(default_factory=list)
    fed: set[str] = field(default_factory=set)
    woken: list[str] = field(default_factory=list)
    is_broken: bool = False

    def look(self, run_ids: Collection[str]) -> dict[str, object]:
        self.looks.append(list(run_ids))
        if self.is_broken:
            raise StoreUnavailable("away")
        return {run_id: self.states[run_id] for run_id in run_ids if run_id in self.states}

    def watch(self) -> Watch:
        return Watch(self.look, self.fed.__contains__, self.woken.append, (EVERY_S, EVERY_S))


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    with gevent.Timeout(PATIENCE_S):
        yield


def next_look(store: Store) -> None:
    seen = len(store.looks)
    while len(store.looks) < seen + 2:  # the next one may be under way
        gevent.sleep(EVERY_S)


def test_readers_are_woken_at_the_first_look_and_at_each_change() -> None:
    store = Store({"a": 1, "b": 1})
    watch = store.watch()
    with watch.watching("a"), watch.watching("b"):
        next_look(store)
        assert store.woken == ["a", "b"]
        store.states["b"] = 2
        next_look(store)
        del store.states["a"]
        next_look(store)
    assert store.woken == ["a", "b", "b", "a"]


def test_many_readers_cost_one_look() -> None:
    store = Store({"a": 1})
    watch = store.watch()
    with ExitStack() as readers:
        for number in range(LOOK_LIMIT):
            readers.enter_context(watch.watching(f"run {number % 50}"))
        next_look(store)
        assert {len(look) for look in store.looks} == {50}


def test_a_run_that_this_process_executes_is_not_looked_at() -> None:
    store = Store({"a": 1, "b": 1}, fed={"a"})
    watch = store.watch()
    with watch.watching("a"), watch.watching("b"):
        next_look(store)
    assert {tuple(look) for look in store.looks} == {("b",)}


def test_nobody_looks_when_the_last_reader_has_left() -> None:
    store = Store({"a": 1})
    watch = store.watch()
    with watch.watching("a"):
        next_look(store)
    gevent.sleep(5 * EVERY_S)
    seen = len(store.looks)
    gevent.sleep(5 * EVERY_S)
    assert len(store.looks) == seen
    with watch.watching("a"):
        next_look(store)
    assert store.woken == ["a", "a"]


def test_a_store_that_comes_back_is_looked_at_again() -> None:
    store = Store({"a": 1}, is_broken=True)
    watch = store.watch()
    with watch.watching("a"):
        next_look(store)
        assert not store.woken
        store.is_broken = False
        next_look(store)
    assert store.woken == ["a"]
