"""A reader waits for the end of a run."""

from __future__ import annotations

from dataclasses import fields, replace
from time import monotonic
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import gevent

from services.runs.feed import Feed
from services.runs.log import EventLog
from services.runs.lookup import RunLookup
from services.runs.record import Chunk, Run
from services.runs.service import Runs
from services.runs.store import RunStore

RUN = Run(id="run_1", kind="prompt", owner="anna", is_background=True, request_id="req", status="running", created_at=1)


def runs(feed: Feed, get: Any) -> Runs:
    """``get``: (id, owner) → the run as the store has it."""
    events, lookup = create_autospec(EventLog, instance=True), create_autospec(RunLookup, instance=True)
    events.subscribe.side_effect = feed.subscribe
    lookup.get.side_effect = get
    store = create_autospec(RunStore, instance=True)
    worker = SimpleNamespace(is_draining=False)
    store.status_of.side_effect = lambda id: get(id, None).status
    return Runs(**{field.name: None for field in fields(Runs)} | {"events": events, "lookup": lookup, "store": store, "worker": worker})


def test_the_time_limit_does_not_interrupt_a_query() -> None:
    finished = []

    def get(*_: object) -> Run:
        gevent.sleep(0.1)
        finished.append(True)
        return RUN

    feed = Feed()
    gevent.spawn_later(0.01, feed.wake, RUN.id)
    assert runs(feed, get).wait(RUN, 0.05) == RUN
    assert finished


def test_a_run_that_never_pauses_is_answered_at_the_time_limit_too() -> None:
    feed = Feed()

    def talk() -> None:
        while True:
            feed.put(RUN.id, Chunk(1, 1, b"\n\n"))
            gevent.sleep(0)

    talking = gevent.spawn(talk)
    begun = monotonic()
    with gevent.Timeout(20):
        assert runs(feed, lambda *_: RUN).wait(RUN, 0.1) == RUN
    assert monotonic() - begun >= 0.1
    talking.kill()


def test_the_end_is_answered_at_once() -> None:
    feed = Feed()
    gevent.spawn_later(0.01, feed.wake, RUN.id)
    ended = replace(RUN, status="completed")
    with gevent.Timeout(20):
        assert runs(feed, lambda *_: ended).wait(RUN, 3600) == ended


def test_while_it_waits_it_reads_the_status_alone() -> None:
    feed, status = Feed(), ["running", "running", "running", "completed"]
    waiting = runs(feed, lambda *_: replace(RUN, status="completed"))
    waiting.store.status_of.side_effect = lambda id: status.pop(0)  # type: ignore[attr-defined]

    def wake() -> None:
        while status:
            feed.wake(RUN.id)
            gevent.sleep(0.001)

    waking = gevent.spawn(wake)
    with gevent.Timeout(20):
        assert waiting.wait(RUN, 3600).status == "completed"
    waking.join()
    assert waiting.lookup.get.call_count == 1  # type: ignore[attr-defined]
