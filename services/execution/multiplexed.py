"""One process for many runs at once, each in a thread of its own: `codex app-server`."""

from __future__ import annotations

import logging
import os
import signal
from dataclasses import replace
from time import monotonic

import gevent
from gevent.event import Event

from services.cancellation import Cancellation
from services.clis.codex.connection import CodexConnection
from services.clis.codex.turn import CodexTurn
from services.clis.spec import BackendSpec, Invocation
from services.clis.warmth import Parameters
from services.decoding.decoder import Exit
from services.execution.channel import Channel, MultiplexedRun
from services.execution.driver import Limits
from services.execution.line_limit import LineLimit, LineTooLong
from services.execution.worker import BaseWorker, Keep, Need, Problem
from services.processes.child import Child
from services.processes.marks import RunFolder, new_path
from services.processes.spawner import Spawner

log = logging.getLogger("clinvk.warm")

READY_S = 30.0
READ_S = 60.0
EXIT_S = 1.0
"""How long a process may take to exit after the end of its output."""
GONE_S = 7.0
"""How long the end of all that it has started may take (`services.processes.child.STOP_DEADLINE_S`)."""
LINE_LIMIT_BYTES = 64 << 20
"""Of any line, more only if a run's whole output may be more: a line belongs to a run only once it is whole, and passing this ends
the process. A run's own ``line_limit_bytes`` ends that run alone."""


class MultiplexedWorker(BaseWorker):
    """One app-server with the runs that it serves. Its folder contains those of its runs, so that they may write there."""

    is_multiplexed = is_initialized = True
    session_id = ""
    problem: Problem | None = None

    def __init__(self, need: Need, spawner: Spawner) -> None:
        super().__init__(need, started_at=monotonic())
        self.channels: dict[CodexTurn, Channel] = {}
        self.exit: Exit | None = None
        self.is_draining = False
        """It takes no more runs."""
        self._is_closed = False
        self._ready = Event()
        self._connection = CodexConnection()
        self._line_limit = LineLimit(LINE_LIMIT_BYTES)
        self._has_outgoing = Event()
        self._has_outgoing.set()
        self._is_unused = Event()
        self._is_unused.set()
        self.folder = RunFolder(new_path())
        try:
            env = {**need.invocation.env, "TMPDIR": self.folder.path}
            self.child: Child = spawner.start(need.invocation.argv, env=env, cwd=self.folder.path, stdin=None)
        except BaseException:
            self.folder.remove()
            raise
        self._greenlets = [gevent.spawn(self._read), gevent.spawn(self._write)]

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def is_idle(self) -> bool:
        return not self.channels

    @property
    def is_sound(self) -> bool:
        return self._connection.is_ready and self.exit is None and not self.is_draining

    def can_serve(self, need: Need) -> bool:
        return need.key == self.need.key and need.state == self.need.state and self.is_sound

    def wait_ready(self) -> Problem | None:
        self._ready.wait(READY_S)
        if self.is_sound:
            self._started_at = self.idle_since = monotonic()
            return None
        refusal, stderr = self._connection.refusal, self.exit.stderr_tail.strip()[-500:] if self.exit else ""
        return Problem(refusal or stderr or "it did not answer", is_permanent=bool(refusal))

    def run(self, need: Need, limits: Limits, cancellation: Cancellation, keep: Keep | None) -> MultiplexedRun:
        try:
            channel = Channel(self, need.invocation)
        except OSError as error:  # its folder has been removed, or the disk is full
            log.warning("codex: the shared process takes no more runs, its folder cannot be used: %s", error)
            raise
        self._line_limit.limit_bytes = max(self._line_limit.limit_bytes, limits.max_output_bytes)
        return MultiplexedRun(need.invocation, limits, cancellation, channel)

    def add(self, channel: Channel) -> None:
        self._uses += 1
        self.channels[channel.turn] = channel
        self._is_unused.clear()
        self._connection.add(channel.turn)
        self.flush()

    def drop(self, channel: Channel) -> None:
        if self.channels.pop(channel.turn, None):
            self._connection.drop(channel.turn)
            self.idle_since = monotonic()
            self.flush()
            if not self.channels:
                self._is_unused.set()

    def flush(self) -> None:
        """Have the turns' messages written. Never blocks."""
        self._has_outgoing.set()

    def close(self, *, wait_for_runs: bool = True) -> None:
        self.is_draining = True
        if wait_for_runs:
            self._is_unused.wait()
        if self._is_closed:  # meanwhile, by a call that did not wait
            return
        self._is_closed = True
        self._is_unused.set()
        gevent.killall(self._greenlets)
        self._end(self.exit or Exit(None))
        self.child.close()
        self.folder.remove()

    def _write(self) -> None:
        while True:
            self._has_outgoing.wait()
            self._has_outgoing.clear()
            try:
                self.child.send(self._connection.outgoing())
            except BrokenPipeError:  # it has gone: the reader finds out why
                return

    def _read(self) -> None:
        is_over = False
        try:
            while chunk := self._chunk():
                self._line_limit.check(chunk)
                for turn, batch, line in self._connection.receive(chunk):
                    if channel := self.channels.get(turn):
                        channel.put(batch, line)
                if self._connection.is_ready or self._connection.refusal:
                    self._ready.set()
                self.flush()
            is_over = True
        except LineTooLong as error:
            log.warning("codex: %s; its process is ended", error)
        except Exception:  # the border of this greenlet: without it every run would wait for output in vain
            log.exception("codex: its output cannot be processed; its process is ended")
        self.is_draining = True
        exit = self.child.wait_exit(EXIT_S) if is_over else None
        self.child.stop(signal.SIGKILL, 0.0)
        self.child.wait_gone(GONE_S)  # before its runs begin again elsewhere
        self._end(exit or self.child.exit or Exit(None))

    def _chunk(self) -> bytes:
        while (chunk := self.child.read(READ_S)) is None:
            pass
        return chunk

    def _end(self, exit: Exit) -> None:
        self.is_draining = True
        self.exit = exit
        if not self.channels:  # no run's tool has ended it
            self.problem = Problem("it ended while it was idle")
        self._ready.set()
        for channel in tuple(self.channels.values()):
            channel.wake()


class MultiplexedWorkers:
    """A `WorkerFactory`."""

    is_multiplexed = True

    def __init__(self, spec: BackendSpec, spawner: Spawner) -> None:
        assert spec.warmth
        self._warmth = spec.warmth
        self._spawner = spawner

    def need(self, invocation: Invocation) -> Need | None:
        """Only where /proc shows what a run's tools have left running can that be ended without ending the process."""
        if invocation.files or invocation.links or not os.path.isdir("/proc/self"):
            return None
        env = tuple(sorted((name, value) for name, value in invocation.env.items() if name != "TMPDIR"))
        return Need((invocation.argv, env), {}, self._warmth.state(invocation.home, ""), "", invocation)

    def state(self, need: Need) -> object:
        return self._warmth.state(need.invocation.home, "")

    def renewed(self, need: Need) -> Need:
        return replace(need, state=self.state(need))

    def start(self, need: Need, parameters: Parameters | None) -> MultiplexedWorker:
        return MultiplexedWorker(need, self._spawner)

    def start_reusable(self, need: Need, limits: Limits, cancellation: Cancellation, keep: Keep) -> None:
        """Its sessions are unloaded after each turn."""
