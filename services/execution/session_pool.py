"""Sessions whose processes stay: the next turn of one goes on in its own, where nothing speaks against it.

A process is of one session for its whole life, from the first turn on: it was started for it, or waited for anybody's and was
taken (`ProcessPool`). What speaks against it: an option that can only be told at the start, files that it has read and that are
others now, a session's file that somebody else has written to, age, size. Then it is ended, and the turn starts one of its own.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import partial
from time import monotonic

import gevent

from services.cancellation import Cancellation
from services.clis.spec import BackendSpec, Invocation
from services.execution.circuit_breaker import CircuitBreaker
from services.execution.driver import Lasting, Limits
from services.execution.pool import LOOK_EVERY_S, ProcessPool
from services.execution.protocols import PROTOCOLS
from services.execution.resumable_run import LiveRun
from services.execution.run import ProcessRun
from services.execution.session_worker import Kind, Living, Transcript, transcript_of
from services.processes.child import Child
from services.processes.marks import RunFolder
from services.processes.memory import free_mb
from services.processes.spawner import Spawner

log = logging.getLogger("clinvk.warm")


class LivePool:
    """All of one backend: the processes that wait for anybody, and those that wait for their session's next turn."""

    def __init__(self, spec: BackendSpec, spawner: Spawner, environ: Mapping[str, str], breaker: CircuitBreaker) -> None:
        self._idle = ProcessPool(spec, spawner, environ, breaker)
        self._spawner = spawner
        self._breaker = breaker
        self._living: OrderedDict[str, Living] = OrderedDict()
        self._leaving: dict[str, gevent.Greenlet] = {}
        """Those that are being ended, by their session: until they have gone they may still write to its file."""
        self._greenlet: gevent.Greenlet | None = None
        self._is_closed = False
        self._generation = 0
        """Rises when nothing is to be kept any more of what has begun until then."""
        self._adopt(spec)

    def _adopt(self, spec: BackendSpec) -> None:
        assert spec.warm
        assert spec.warmth
        self._spec = spec
        self._limits = spec.warm
        self._protocol = PROTOCOLS[spec.warmth.driver]

    # -- as every pool --

    def start(self, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> ProcessRun | None:
        """The run in a process that is there already; None where there is none for it."""
        if invocation.request.resume:
            return None if invocation.request.ephemeral else self._go_on(invocation, limits, cancellation)
        if not self._may_keep(invocation):
            return self._idle.start(invocation, limits, cancellation)
        taken = self._idle.take(invocation)
        if taken is None:
            return None
        key, warm, one = taken
        keep = partial(self._keep, self._generation, Kind(key, self._protocol.parameters(warm), one.state), one.since, 1)
        run = LiveRun(warm, limits, cancellation, self._protocol.turn(warm, one.greeting), keep, None)
        run.adopt(one.child, one.folder)
        return run

    def begin(self, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> ProcessRun | None:
        """The run in a process that is started for it and may stay; None where that cannot be. Raises BackendUnavailable."""
        if self._protocol.begin is None or not self._may_keep(invocation):
            return None
        found, session_id = self._idle.find(invocation), invocation.request.resume
        own = self._idle.warm(invocation, session_id)
        if found is None or own is None:
            return None
        own = replace(own, own_env=invocation.own_env)
        kind = Kind(found[0], self._protocol.parameters(found[1]), self._idle.state(own))
        keep = partial(self._keep, self._generation, kind, monotonic(), 1)
        transcript = self._transcript(own, session_id) if session_id else None
        run = LiveRun(own, limits, cancellation, self._protocol.begin(own), keep, transcript)
        run.start(self._spawner)
        return run

    def settle(self, cwd: str, *, has_worked: bool) -> None:
        self._idle.settle(cwd, has_worked=has_worked)

    def prestart(self, invocation: Invocation, count: int) -> None:
        self._idle.prestart(invocation, count)

    def renew(self, spec: BackendSpec) -> None:
        """Another configuration: what was started with the old one goes."""
        if spec != self._spec:
            self._end_sessions()
            self._adopt(spec)
        self._idle.renew(spec)

    def retire(self) -> None:
        """Keep nothing any more, until it is asked for again."""
        self._idle.retire()
        self._end_sessions()

    def release(self, session_id: str) -> None:
        """End the session's process, if there is one. Returns when it has gone."""
        if one := self._living.pop(session_id, None):
            self._end([one])
        if leaving := self._leaving.get(session_id):
            leaving.join()

    @property
    def ready_count(self) -> int:
        """For anybody: a session's process is nobody else's."""
        return self._idle.ready_count

    def close(self) -> None:
        self._is_closed = True
        if self._greenlet:
            self._greenlet.kill()
            self._greenlet = None
        self._end_sessions()
        self._idle.close()
        gevent.joinall(list(self._leaving.values()))

    # -- sessions --

    def _may_keep(self, invocation: Invocation) -> bool:
        is_kept = not invocation.request.ephemeral and self._spec.session_files is not None
        # Only where /proc tells what a turn's tools have left behind.
        return is_kept and self._limits.live_max > 0 and not self._is_closed and os.path.isdir("/proc/self")

    def _transcript(self, invocation: Invocation, session_id: str) -> Transcript | None:
        """Looked for in a thread: folders of many sessions would stop the event loop."""
        found: Transcript | None = gevent.get_hub().threadpool.apply(transcript_of, (self._spec.session_files, session_id, invocation.env))
        return found

    def _go_on(self, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> LiveRun | None:
        session_id = str(invocation.request.resume)
        one = self._living.pop(session_id, None)
        if one is None:
            self.release(session_id)
            return None
        found = self._idle.find(invocation)
        if found is None or not self._serves(one, *found) or not self._may_keep(invocation):
            log.debug("%s: process %d does not fit the next turn of its session", self._spec.name, one.child.pid)
            one.end()
            return None
        _, warm = found
        log.debug("%s: process %d goes on with its session", self._spec.name, one.child.pid)
        keep = partial(self._keep, self._generation, one.kind, one.started_at, one.uses + 1)
        run = LiveRun(warm, limits, cancellation, one.turn.next(warm), keep, one.transcript)
        run.adopt(one.child, one.folder)
        return run

    def _serves(self, one: Living, key: Hashable, warm: Invocation) -> bool:
        return one.kind == Kind(key, self._protocol.parameters(warm), self._idle.state(warm)) and one.is_sound

    def _keep(
        self,
        generation: int,
        kind: Kind,
        started_at: float,
        uses: int,
        child: Child,
        folder: RunFolder,
        turn: Lasting,
        transcript: Transcript,
    ) -> None:
        """Take a process whose turn has ended well."""
        one = Living(kind, child, folder, turn, transcript, started_at, uses)
        is_current = generation == self._generation and not self._is_closed
        is_welcome = is_current and self._breaker.is_closed and uses < self._limits.max_uses and not self._is_worn(one)
        if not is_welcome or one.session_id in self._living or free_mb() < self._limits.min_free_mb:
            one.end()
            return
        self._living[one.session_id] = one
        while len(self._living) > self._limits.live_max:
            self._end([self._living.popitem(last=False)[1]])
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = gevent.spawn(self._tidy)

    # -- in the background --

    def _tidy(self) -> None:
        """End what has waited too long, has grown too large, or is of no more use."""
        while self._living:
            gevent.sleep(min(LOOK_EVERY_S, self._limits.idle_s))
            is_short = free_mb() < self._limits.min_free_mb / 2
            for session_id, one in tuple(self._living.items()):
                is_late = monotonic() - one.since > self._limits.idle_s
                if is_short or is_late or self._is_worn(one) or not one.is_sound:
                    del self._living[session_id]
                    self._end([one])

    def _is_worn(self, one: Living) -> bool:
        return monotonic() - one.started_at > self._limits.max_age_s or one.rss_mb > self._limits.max_rss_mb

    def _end_sessions(self) -> None:
        """End every session's process, those of turns that are still going at their end."""
        self._generation += 1
        living = list(self._living.values())
        self._living.clear()
        self._end(living)

    def _end(self, processes: list[Living]) -> None:
        for one in processes:
            self._leaving[one.session_id] = gevent.spawn(self._see_off, one)

    def _see_off(self, one: Living) -> None:
        try:
            one.end()
        finally:
            if self._leaving.get(one.session_id) is gevent.getcurrent():
                del self._leaving[one.session_id]
