"""A reader waits for the end of a run."""

from __future__ import annotations

from dataclasses import fields, replace
from time import monotonic
from typing import Any
from unittest.mock import create_autospec

import gevent

from services.runs.feed import Feed
from services.runs.log import EventLog
from services.runs.lookup import RunLookup
from services.runs.record import Chunk, Run
from services.runs.service import Runs

RUN = Run(id="run_1", kind="prompt", owner="anna", is_background=True, request_id="req", status="running", created_at=1)


def runs(feed: Feed, get: Any) -> Runs:
    """``get``: (id, owner) → the run as the store has it."""
    events, lookup = create_autospec(EventLog, instance=True), create_autospec(RunLookup, instance=True)
    events.subscribe.side_effect = feed.subscribe
    lookup.get.side_effect = get
    return Runs(**{field.name: None for field in fields(Runs)} | {"events": events, "lookup": lookup})


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
