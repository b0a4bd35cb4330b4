"""Notices what other processes store of the runs that this process has readers of: one query for all of them, not one for each reader."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager

import gevent
from gevent.event import Event

from services.errors import StoreUnavailable
from services.event_loop import yield_to_others

log = logging.getLogger("clinvk.runs")

LOOK_LIMIT = 200
"""How many runs one query asks for, so that it does not hold up the event loop."""


class Watch:
    """One per process. ``look`` returns the state of each of these runs that there is, ``is_fed`` says whether a run needs no look,
    ``wake`` has its readers read. ``every_s``: the shortest and longest time between two looks; it grows while nothing changes."""

    def __init__(
        self,
        look: Callable[[Collection[str]], Mapping[str, Hashable]],
        is_fed: Callable[[str], bool],
        wake: Callable[[str], None],
        every_s: tuple[float, float],
    ) -> None:
        self._look = look
        self._is_fed = is_fed
        self._wake = wake
        self._every_s = every_s
        self._readers: Counter[str] = Counter()
        self._states: dict[str, Hashable] = {}
        self._joined = Event()
        self._greenlet: gevent.Greenlet | None = None
        self._pid = 0

    @contextmanager
    def watching(self, run_id: str) -> Iterator[None]:
        """Enter before the run is read: its readers are woken at the first look, and whenever its state is another one."""
        self._readers[run_id] += 1
        self._joined.set()
        if self._greenlet is None or self._greenlet.dead or self._pid != os.getpid():
            self._pid = os.getpid()
            self._greenlet = gevent.spawn(self._work)
        try:
            yield
        finally:
            self._readers[run_id] -= 1
            if not self._readers[run_id]:
                del self._readers[run_id]
                self._states.pop(run_id, None)

    def _work(self) -> None:
        pause_s = self._every_s[0]
        while self._readers:
            if self._joined.wait(pause_s):
                self._joined.clear()
                pause_s = self._every_s[0]
                gevent.sleep(pause_s)
            try:
                has_changed = self._look_at_all()
            except StoreUnavailable as error:
                log.warning("%s", error.message)
                has_changed = False
            except Exception:
                log.exception("runs of other processes could not be watched")
                has_changed = False
            pause_s = self._every_s[0] if has_changed else min(self._every_s[1], pause_s * 2)

    def _look_at_all(self) -> bool:
        """Whether the state of any run is new."""
        wanted = [run_id for run_id in self._readers if not self._is_fed(run_id)]
        has_changed = False
        for start in range(0, len(wanted), LOOK_LIMIT):
            part = wanted[start : start + LOOK_LIMIT]
            found = self._look(part)
            for run_id in part:
                state = found.get(run_id)
                if run_id in self._readers and (run_id not in self._states or self._states[run_id] != state):
                    self._states[run_id] = state
                    self._wake(run_id)
                    has_changed = True
            yield_to_others()
        return has_changed
