"""Processes that this process, a sub-reaper, adopts from a killed spawner: supervisors of runs in progress, and orphans.

A process cannot move into the session of another, and the spawner starts everything in other sessions. So the children of this
process with a different session are adopted ones, whatever their environment says.
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
"""How long an idle supervisor may take to exit after its spawner has ended."""
END_DEADLINE_S = 5.0


class Orphans:
    def __init__(self) -> None:
        self.is_watched = False
        self._spawners: dict[int, float] = {}
        """PID of each spawner, the session leader of its supervisors → when its end was noticed, or `math.inf`."""

    def spawner_started(self, pid: int) -> None:
        self._spawners[pid] = math.inf

    def spawner_ended(self, pid: int) -> None:
        self._spawners[pid] = monotonic()

    def is_left_behind(self, session: int) -> bool:
        """Whether processes of this session can be ended, unless they are supervisors of runs.

        A spawner's death is noticed late: until its jobs have been taken back, an idle supervisor may still take one.
        """
        return monotonic() - self._spawners.get(session, -math.inf) > LEAVE_S

    def watch(self, lock: AbstractContextManager[Any], is_known: Callable[[int], bool]) -> None:
        """End orphans until no adopted process is left. ``is_known`` is true for the spawner and the supervisors of runs.

        ``lock`` prevents starting a spawner, which would not be known yet.
        """
        if self.is_watched or not is_subreaper():
            return
        self.is_watched = True
        gevent.spawn(self._watch, lock, is_known)

    def end_all(self) -> None:
        """End every adopted process. For a process that is about to exit."""
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
                    # Check again each time, the parent too: `end_tree` yields to other greenlets.
                    if self.is_left_behind(session) and not is_known(pid) and parent_of(pid) == os.getpid():
                        log.warning("ended orphaned process %s", pid)
                        end_tree(pid)
                gevent.sleep(LOOK_EVERY_S)
        finally:
            self.is_watched = False


def adopted(parent: int) -> dict[int, int]:
    """Children of ``parent`` in another session than its own → their session."""
    own, found = os.getsid(parent), {}
    for pid in children(parent):
        try:
            session = os.getsid(pid)
        except ProcessLookupError:
            continue
        if session != own:
            found[pid] = session
    return found
