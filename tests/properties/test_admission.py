"""Whoever comes and goes in whatever order, no run waits for a backend that has a free slot."""

from __future__ import annotations

from collections import Counter

import gevent
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.services.test_gate import admission, enter


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["claude", "codex", "demo"]), st.booleans()), max_size=40))
@settings(max_examples=60, deadline=None)
def test_nobody_waits_for_a_backend_that_has_room(steps: list[tuple[str, str, bool]]) -> None:
    limits = {"claude": 1, "codex": 2}
    door = admission(limit=4, queue_limit=100, **limits)
    asked: list[tuple[str, gevent.Greenlet]] = []
    for caller, backend, ends_one in steps:
        asked.append((backend, gevent.spawn(enter, door, caller, backend)))
        gevent.sleep(0)
        running = [(name, one) for name, one in asked if one.ready()]
        if ends_one and running:
            running[0][1].value.release()
            asked.remove(running[0])
            gevent.sleep(0)
        counts = Counter(name for name, one in asked if one.ready())
        for name in {name for name, one in asked if not one.ready()}:
            assert counts.total() == 4 or counts[name] == limits.get(name, 4)
    gevent.killall([one for _, one in asked])
