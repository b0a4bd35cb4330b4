"""What a killed spawner leaves to this process, which is a sub-reaper: supervisors that still have a run, and processes that nobody owns.

A process that was born in another session cannot enter this process's own, and whatever the spawner has started was born in another.
So the children of this process with another session are adopted ones, whatever their environment says.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any

import gevent

from services.processes.leftovers import end_tree
from services.processes.own_process import is_subreaper
from services.processes.procfs import children, parent_of

log = logging.getLogger("clinvk.processes")

LOOK_EVERY_S = 0.2
LEAVE_S = 2.0
"""How long an idle supervisor may take to leave after its spawner's end."""
END_DEADLINE_S = 5.0


class Orphans:
    def __init__(self) -> None:
        self.is_watched = False
        self._spawners: dict[int, float] = {}
        """Each leads the session of its supervisors: when it was known to be dead, or `math.inf`."""

    def spawner_started(self, pid: int) -> None:
        self._spawners[pid] = math.inf

    def spawner_ended(self, pid: int) -> None:
        self._spawners[pid] = monotonic()

    def is_left_behind(self, session: int) -> bool:
        """Whether nothing in this session has a reason to go on, unless it is the supervisor of a run.

        A spawner may be dead before that is known here: until its jobs have been taken back, an idle supervisor may still take one.
        """
        return monotonic() - self._spawners.get(session, -math.inf) > LEAVE_S

    def watch(self, lock: AbstractContextManager[Any], is_known: Callable[[int], bool]) -> None:
        """End what nobody owns, until nothing is adopted any more. ``is_known`` is true for the spawner and the supervisors of runs.

        ``lock`` is held while no other spawner may be started: it would be one that is not known yet.
        """
        if self.is_watched or not is_subreaper():
            return
        self.is_watched = True
        gevent.spawn(self._watch, lock, is_known)

    def end_all(self) -> None:
        """End everything that was adopted. For a process that is about to leave."""
        if not is_subreaper():
            return
        deadline = monotonic() + END_DEADLINE_S
        while (found := adopted(os.getpid())) and monotonic() < deadline:
            for pid in found:
                end_tree(pid)
            gevent.sleep(LOOK_EVERY_S)

    def _watch(self, lock: AbstractContextManager[Any], is_known: Callable[[int], bool]) -> None:
        try:
            is_left = True
            while is_left:
                with lock:
                    found = adopted(os.getpid())
                    is_left = not all(pid == session and is_known(pid) for pid, session in found.items())  # only the spawner
                for pid, session in found.items():
                    # Asked again each time, its parent too: `end_tree` lets others run.
                    if self.is_left_behind(session) and not is_known(pid) and parent_of(pid) == os.getpid():
                        log.warning("ended process %s, which was left behind by processes that were killed", pid)
                        end_tree(pid)
                gevent.sleep(LOOK_EVERY_S)
        finally:
            self.is_watched = False


def adopted(parent: int) -> dict[int, int]:
    """The children of ``parent`` that are of another session than it: each with its session."""
    own, found = os.getsid(parent), {}
    for pid in children(parent):
        try:
            session = os.getsid(pid)
        except ProcessLookupError:
            continue
        if session != own:
            found[pid] = session
    return found
