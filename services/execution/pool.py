"""Processes started before anybody asks, each for one run of one caller: what one has seen never reaches another."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from dataclasses import replace
from time import monotonic

import gevent
from gevent.event import Event

from services.cancellation import Cancellation
from services.clis.command import invoke
from services.clis.spec import BackendSpec, Invocation
from services.clis.warmth import WarmLimits
from services.errors import BackendUnavailable, InvalidRequest
from services.execution.circuit_breaker import CircuitBreaker
from services.execution.demand import Idle, Shelf, Shelves, key_of
from services.execution.driver import Limits
from services.execution.protocols import PROTOCOLS
from services.execution.run import ProcessRun
from services.execution.starting import greet, start_idle
from services.processes.marks import new_path
from services.processes.memory import free_mb, rss_mb
from services.processes.spawner import Spawner

log = logging.getLogger("clinvk.warm")

LOOK_EVERY_S = 5.0


class ProcessPool:
    """The warm processes of one backend that takes one run a process.

    A kind of run that is asked for a second time gets a process for the third; each time none is there, one more is kept, up
    to the limits; one that waited too long in vain is not replaced.
    """

    def __init__(self, spec: BackendSpec, spawner: Spawner, environ: Mapping[str, str], breaker: CircuitBreaker) -> None:
        self._spawner = spawner
        self._environ = environ
        self._breaker = breaker
        self._shelves = Shelves()
        self._changed = Event()
        self._greenlet: gevent.Greenlet | None = None
        self._starting: Idle | None = None
        self._adopt(spec)

    def renew(self, spec: BackendSpec) -> None:
        """Another configuration: what was started with the old one goes."""
        if spec != self._spec:
            self.retire()
            self._adopt(spec)

    def retire(self) -> None:
        """Keep nothing any more, until it is asked for again."""
        self._end(self._shelves.take_off_all())

    def _adopt(self, spec: BackendSpec) -> None:
        assert spec.warmth
        assert spec.warm
        self._spec = spec
        self._warmth = spec.warmth
        self._protocol = PROTOCOLS[spec.warmth.driver]
        self._limits: WarmLimits = spec.warm

    def prestart(self, invocation: Invocation, count: int) -> None:
        """Have so many processes ready for runs like this one, from now on."""
        if found := self._kind_of(invocation):
            key, warm = found
            shelf = self._visit(key, warm)
            shelf.floor = shelf.wanted = count
            shelf.parameters, shelf.is_steady = self._protocol.parameters(warm), True
            self._work_on()

    def start(self, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> ProcessRun | None:
        """The run in a process that is there already; None where there is none for it."""
        taken = self.take(invocation)
        if taken is None:
            return None
        _, warm, one = taken
        run = ProcessRun(warm, limits, cancellation, self._protocol.turn(warm, one.greeting))
        run.adopt(one.child, one.folder)
        return run

    def take(self, invocation: Invocation) -> tuple[Hashable, Invocation, Idle] | None:
        """A process for the run, which is the caller's from now on; with its kind, and the run as it is in such a process."""
        found = None if invocation.request.resume else self.find(invocation)
        if found is None:
            return None
        key, warm = found
        parameters = self._protocol.parameters(warm)
        shelf = self._visit(key, warm)
        is_new = shelf.parameters is None
        shelf.expect(parameters)
        one = self._take(shelf, parameters)
        if one is None:
            if not is_new:
                shelf.wanted = min(shelf.wanted + 1, self._limits.max)
            return None
        try:
            warm.prepare_prompt(one.folder.path)
        except OSError:  # as a run of its own will tell
            self._end([one])
            return None
        return key, warm, one

    def settle(self, cwd: str, *, has_worked: bool) -> None:
        """A run has ended; ``has_worked``: its tools may have changed what idle processes have read of the folder."""
        if has_worked:
            self._end([one for shelf in self._shelves if shelf.invocation.cwd == cwd for one in shelf.take_all()])
        self._work_on()

    def begin(self, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> None:
        """No process of a run's own stays here."""

    def release(self, session_id: str) -> None:
        """No session is held here between its turns."""

    @property
    def ready_count(self) -> int:
        return self._shelves.idle_count

    def close(self) -> None:
        if self._greenlet:
            self._greenlet.kill()
            self._greenlet = None
        ending = self._end(self._shelves.take_off_all() + ([self._starting] if self._starting else []))
        self._starting = None
        gevent.joinall(ending)

    # -- who gets what --

    def find(self, invocation: Invocation) -> tuple[Hashable, Invocation] | None:
        """``invocation`` as a process that is there already would run it, and its kind; None where it can not."""
        return self._kind_of(invocation) if self._breaker.is_closed else None

    def _kind_of(self, invocation: Invocation) -> tuple[Hashable, Invocation] | None:
        warm = self.warm(invocation, resume=None)
        key = self._key(warm) if warm else None
        return None if key is None or warm is None else (key, warm)

    def _key(self, warm: Invocation) -> Hashable | None:
        key = key_of(warm)
        return None if key is None else (key, self._protocol.kind(warm))

    def warm(self, invocation: Invocation, resume: str | None) -> Invocation | None:
        """``invocation`` as one that is spoken to in the warm way."""
        spec, request = invocation.spec.as_warm(), replace(invocation.request, resume=resume)
        try:
            return invoke(spec, request, cwd=invocation.cwd, environ=self._environ, run_dir=new_path())
        except InvalidRequest:
            return None

    def _visit(self, key: Hashable, warm: Invocation) -> Shelf:
        shelf, lost = self._shelves.visit(key, warm)
        self._end(lost)
        return shelf

    def _take(self, shelf: Shelf, parameters: Mapping[str, object]) -> Idle | None:
        state = self._state(shelf)
        while one := shelf.take(parameters):
            if one.child.exit is None and one.state == state and not one.has_spoken:
                return one
            self._end([one])
        return None

    def _state(self, shelf: Shelf) -> object:
        return self.state(shelf.invocation)

    def state(self, invocation: Invocation) -> object:
        """Of the files that a process for the run reads at its start."""
        return self._warmth.state(invocation.home, invocation.cwd)

    # -- in the background --

    def _work_on(self) -> None:
        self._changed.set()
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = gevent.spawn(self._work)

    def _work(self) -> None:
        while True:
            self._changed.clear()
            self._tidy()
            while self._breaker.is_closed and (shelf := self._shelves.next_to_fill()) and self._has_room_for(shelf):
                self._fill(shelf)
            self._changed.wait(LOOK_EVERY_S)

    def _has_room_for(self, shelf: Shelf) -> bool:
        if free_mb() < self._limits.min_free_mb:
            return False
        if self._shelves.idle_count < self._limits.max:
            return True
        if one := self._shelves.give_up_for(shelf):
            one.close()
            return True
        shelf.wanted = len(shelf.idle)
        return False

    def _tidy(self) -> None:
        """End what has waited too long, has grown too large, has gone, or knows what is no more so."""
        is_short = free_mb() < self._limits.min_free_mb / 2
        for shelf in self._shelves:
            state = self._state(shelf)
            for one in tuple(shelf.idle):
                waited_s = monotonic() - one.since
                is_late = waited_s > self._limits.idle_s and len(shelf.idle) > shelf.floor
                if one.child.exit:
                    self._breaker.record_failure("it ended while it waited")
                is_worn = waited_s > self._limits.max_age_s or one.state != state or self._is_too_large(one)
                if one.has_spoken:
                    self._breaker.record_failure("it spoke before it was asked", for_good=True)
                if is_late or is_short or is_worn or one.has_spoken or one.child.exit:
                    shelf.idle.remove(one)
                    shelf.wanted -= is_late and shelf.wanted > shelf.floor
                    self._end([one])

    def _replace(self, shelf: Shelf) -> None:
        """What its processes are to be told has changed: those that are always to be there are told that instead."""
        log.debug("%s: what a process in %s is started with has changed", self._spec.name, shelf.invocation.cwd)
        floor = shelf.floor
        self._end(shelf.clear())
        if floor:
            self.prestart(shelf.invocation, floor)

    def _is_too_large(self, one: Idle) -> bool:
        return rss_mb(one.child.pid) > self._limits.max_rss_mb

    def _fill(self, shelf: Shelf) -> None:
        parameters = shelf.parameters if shelf.is_steady else None
        found = self.find(shelf.invocation)
        if found is None or found[0] != self._key(shelf.invocation):  # it would be told something else by now
            self._replace(shelf)
            return
        try:
            one = start_idle(self._spawner, self._protocol, found[1], parameters, self._state(shelf))
        except (BackendUnavailable, OSError) as error:
            log.warning("%s: no process could be started beforehand: %s", self._spec.name, error)
            shelf.record_failure()
            return
        self._starting = one
        problem = greet(one)
        self._starting = None
        if not problem and self._is_too_large(one):
            problem = f"it holds more than {self._limits.max_rss_mb} MB as soon as it is up (backends.{self._spec.name}.warm.max_rss_mb)"
        if problem:
            self._end([one])
            shelf.record_failure()
            self._breaker.record_failure(problem, for_good=bool(one.greeting.refusal))
        elif len(shelf.idle) >= shelf.wanted:  # nobody wants it any more
            self._end([one])
        else:
            one.since = monotonic()
            shelf.backoff.record_success()
            shelf.idle.append(one)
            log.debug("%s: process %d waits in %s", self._spec.name, one.child.pid, shelf.invocation.cwd)

    def _end(self, processes: list[Idle]) -> list[gevent.Greenlet]:
        return [gevent.spawn(one.close) for one in processes]
