"""The shared processes of one backend: one for each environment, replaced by uses, age, memory, and what it has read."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Hashable, Mapping
from time import monotonic

import gevent
from gevent.event import Event

from services.cancellation import Cancellation
from services.clis.spec import BackendSpec, Invocation
from services.errors import BackendUnavailable
from services.execution.backoff import Backoff
from services.execution.circuit_breaker import CircuitBreaker
from services.execution.driver import Limits
from services.execution.multiplexed import READY_S, SharedProcess, SharedRun
from services.processes.memory import free_mb, rss_mb
from services.processes.spawner import Spawner

log = logging.getLogger("clinvk.warm")

LOOK_EVERY_S = 5.0


class SharedPool:
    """The first run of an environment starts a process of its own, and the shared one beside it, for those that follow."""

    def __init__(self, spec: BackendSpec, spawner: Spawner, environ: Mapping[str, str], breaker: CircuitBreaker) -> None:
        self._spawner = spawner
        self._breaker = breaker
        self._current: dict[Hashable, SharedProcess] = {}
        self._retired: list[SharedProcess] = []
        self._wanted: dict[Hashable, Invocation] = {}
        self._kept: dict[Hashable, Invocation] = {}
        self._backoffs: defaultdict[Hashable, Backoff] = defaultdict(Backoff)
        """Of starts that failed, for those that are always to be there. A run that asks for one is reason enough to try at once."""
        self._changed = Event()
        self._greenlet: gevent.Greenlet | None = None
        self._adopt(spec)

    def renew(self, spec: BackendSpec) -> None:
        """Another configuration: what was started with the old one takes no more runs, and ends with those that it has."""
        if spec != self._spec:
            self.retire()
            self._adopt(spec)

    def retire(self) -> None:
        """Keep nothing any more, until it is asked for again."""
        self._wanted.clear()
        self._kept.clear()
        for key in tuple(self._current):
            self._retire(key)

    def _adopt(self, spec: BackendSpec) -> None:
        assert spec.warmth
        assert spec.warm
        self._spec, self._warmth, self._limits = spec, spec.warmth, spec.warm

    def prestart(self, invocation: Invocation, count: int) -> None:
        if (key := _key(invocation)) is not None:
            self._kept[key] = invocation
            self._want(key, invocation)

    def start(self, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> SharedRun | None:
        key = _key(invocation)
        if key is None or not self._breaker.is_closed:
            return None
        process = self._current.get(key)
        if process and self._is_worn(process, invocation):
            self._retire(key)
            process = None
        if process is None:
            self._want(key, invocation)
            return None
        if not process.is_ready:
            return None
        try:
            return SharedRun(process, invocation, limits, cancellation)
        except OSError as error:  # its folder has been removed, or the disk is full
            log.warning("%s: the shared process takes no more runs, its folder cannot be used: %s", self._spec.name, error)
            self._retire(key)
            return None

    def settle(self, cwd: str, *, has_worked: bool) -> None:
        self._changed.set()

    def begin(self, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> None:
        """No process of a run's own stays here."""

    def release(self, session_id: str) -> None:
        """No session is held here between its turns."""

    @property
    def ready_count(self) -> int:
        return sum(process.is_ready for process in self._current.values())

    def close(self) -> None:
        if self._greenlet:
            self._greenlet.kill()
            self._greenlet = None
        for key in tuple(self._current):
            self._retire(key)
        gevent.joinall([gevent.spawn(process.close) for process in self._retired])
        self._retired.clear()

    def _want(self, key: Hashable, invocation: Invocation) -> None:
        self._wanted[key] = invocation
        self._changed.set()
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = gevent.spawn(self._work)

    def _work(self) -> None:
        while True:
            self._changed.clear()
            self._tidy()
            self._wanted |= {key: invocation for key, invocation in self._kept.items() if self._backoffs[key].is_due}
            while self._wanted:
                key, invocation = self._wanted.popitem()
                if key not in self._current and self._breaker.is_closed and self._has_room():
                    self._start(key, invocation)
            self._changed.wait(LOOK_EVERY_S)

    def _has_room(self) -> bool:
        """Room for one more; the one that was not used the longest makes it, if it is idle."""
        if free_mb() < self._limits.min_free_mb:
            return False
        if len(self._current) < self._limits.max:
            return True
        idle = [(process.used_at, key) for key, process in self._current.items() if not process.runs and key not in self._kept]
        if not idle:
            return False
        self._retire(min(idle, key=lambda one: one[0])[1])
        self._tidy()
        return True

    def _start(self, key: Hashable, invocation: Invocation) -> None:
        try:
            process = SharedProcess(self._spawner, invocation, self._state(invocation))
        except (BackendUnavailable, OSError) as error:
            log.warning("%s: no process could be started beforehand: %s", self._spec.name, error)
            self._backoffs[key].record_failure()
            return
        self._current[key] = process
        process.ready.wait(READY_S)
        if problem := self._problem_of(process):
            self._retire(key)
            self._backoffs[key].record_failure()
            self._breaker.record_failure(problem, for_good=bool(process.refusal))
        else:
            self._backoffs[key].record_success()
            log.debug("%s: process %d waits for every folder", self._spec.name, process.child.pid)

    def _problem_of(self, process: SharedProcess) -> str:
        """Why it is not fit to serve; empty where it is."""
        if not process.is_ready:
            said = process.exit.stderr_tail.strip()[-500:] if process.exit else ""
            return process.refusal or said or "it did not answer"
        if self._is_too_large(process):
            return f"it holds more than {self._limits.max_rss_mb} MB as soon as it is up (backends.{self._spec.name}.warm.max_rss_mb)"
        return ""

    def _state(self, invocation: Invocation) -> object:
        files = self._spec.session_files
        return self._warmth.state(files.root(invocation.env) if files else "", "")

    def _is_worn(self, process: SharedProcess, invocation: Invocation) -> bool:
        if process.is_retired or process.exit is not None or process.uses >= self._limits.max_uses:
            return True
        if monotonic() - process.started_at > self._limits.max_age_s or process.state != self._state(invocation):
            return True
        return self._is_too_large(process)

    def _is_too_large(self, process: SharedProcess) -> bool:
        return rss_mb(process.child.pid) > self._limits.max_rss_mb

    def _retire(self, key: Hashable) -> None:
        if process := self._current.pop(key, None):
            process.is_retired = True
            self._retired.append(process)
            self._changed.set()

    def _tidy(self) -> None:
        is_short = free_mb() < self._limits.min_free_mb / 2
        for key, process in tuple(self._current.items()):
            is_late = not process.runs and (is_short or (key not in self._kept and monotonic() - process.used_at > self._limits.idle_s))
            if is_late or process.exit or process.is_retired:
                self._retire(key)
        for process in tuple(self._retired):
            if not process.runs:
                self._retired.remove(process)
                gevent.spawn(process.close)


def _key(invocation: Invocation) -> Hashable | None:
    """What the process cannot be told later; None where it must not be shared.

    Only where /proc tells what a run's tools have left behind can that be ended without ending the process.
    """
    if invocation.files or invocation.links or not os.path.isdir("/proc/self"):
        return None
    return (invocation.argv, tuple(sorted((name, value) for name, value in invocation.env.items() if name != "TMPDIR")))
