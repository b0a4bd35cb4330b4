"""One process for many runs at once, each in a thread of its own: `codex app-server`."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import monotonic

import gevent
from gevent.event import Event

from services.cancellation import Cancellation
from services.clis.codex.connection import CodexConnection
from services.clis.codex.turn import CodexTurn
from services.clis.spec import BackendSpec, Invocation
from services.clis.warmth import Parameters, WarmLimits
from services.decoding.decoder import Exit
from services.events import Batch, Failed, ToolCall
from services.execution.driver import Limits
from services.execution.line_limit import LineLimit, LineTooLong
from services.execution.worker import Keep, Need, Problem
from services.processes.child import Child
from services.processes.leftovers import end_marked
from services.processes.marks import MARK, RunFolder, new_mark, new_path
from services.processes.memory import rss_mb
from services.processes.spawner import Spawner
from services.telemetry import Start

log = logging.getLogger("clinvk.warm")

READY_S = 30.0
INTERRUPT_S = 2.0
"""If an interrupted turn has not stopped by then, the process takes no more runs."""
READ_S = 60.0
EXIT_S = 1.0
"""How long a process may take to exit after the end of its output."""
GONE_S = 7.0
"""How long the end of all that it has started may take (`services.processes.child.STOP_DEADLINE_S`)."""
QUEUE_LIMIT_BYTES = 16 << 20
"""What may be queued for a slow client, in bytes of the CLI's output. A process with one run is not read from until its client has
read; this one must be, for its other runs."""
LINE_LIMIT_BYTES = 64 << 20
"""Of any line, more only if a run's whole output may be more: a line belongs to a run only once it is whole, and passing this ends
the process. A run's own ``line_limit_bytes`` ends that run alone."""
BATCH_BYTES = 256 << 10
"""So much of the queue is passed on at a time."""


class MultiplexedWorker:
    """One app-server with the runs that it serves. Its folder contains those of its runs, so that they may write there."""

    is_multiplexed = is_initialized = True
    session_id = ""
    problem: Problem | None = None

    def __init__(self, need: Need, spawner: Spawner) -> None:
        self.need = need
        self.runs: dict[CodexTurn, MultiplexedRun] = {}
        self.exit: Exit | None = None
        self.is_draining = False
        """It takes no more runs."""
        self._uses = 0
        self.idle_since = self._started_at = monotonic()
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
    def rss_mb(self) -> float:
        return rss_mb(self.child.pid)

    @property
    def is_idle(self) -> bool:
        return not self.runs

    @property
    def is_sound(self) -> bool:
        return self._connection.is_ready and self.exit is None and not self.is_draining

    def can_serve(self, need: Need) -> bool:
        return need.key == self.need.key and need.state == self.need.state and self.is_sound

    def has_expired(self, limits: WarmLimits, now: float) -> bool:
        is_old = now - self._started_at > limits.max_age_s or self._uses >= limits.max_uses
        return is_old or not self.is_sound or self.rss_mb > limits.max_rss_mb

    def wait_ready(self) -> Problem | None:
        self._ready.wait(READY_S)
        if self.is_sound:
            self._started_at = self.idle_since = monotonic()
            return None
        refusal, stderr = self._connection.refusal, self.exit.stderr_tail.strip()[-500:] if self.exit else ""
        return Problem(refusal or stderr or "it did not answer", is_permanent=bool(refusal))

    def run(self, need: Need, limits: Limits, cancellation: Cancellation, keep: Keep | None) -> MultiplexedRun:
        try:
            return MultiplexedRun(self, need.invocation, limits, cancellation)
        except OSError as error:  # its folder has been removed, or the disk is full
            log.warning("codex: the shared process takes no more runs, its folder cannot be used: %s", error)
            raise

    def add(self, run: MultiplexedRun, limits: Limits) -> None:
        self._uses += 1
        self._line_limit.limit_bytes = max(self._line_limit.limit_bytes, limits.max_output_bytes)
        self.runs[run.turn] = run
        self._is_unused.clear()
        self._connection.add(run.turn)
        self.flush()

    def drop(self, run: MultiplexedRun) -> None:
        if self.runs.pop(run.turn, None):
            self._connection.drop(run.turn)
            self.idle_since = monotonic()
            self.flush()
            if not self.runs:
                self._is_unused.set()

    def flush(self) -> None:
        """Have the turns' messages written. Never blocks."""
        self._has_outgoing.set()

    def close(self, *, wait_for_runs: bool = True) -> None:
        self.is_draining = True
        if wait_for_runs:
            self._is_unused.wait()
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
                for turn, batch, size in self._connection.receive(chunk):
                    if run := self.runs.get(turn):
                        run.receive(batch, size)
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
        self._ready.set()
        for run in tuple(self.runs.values()):
            run.changed.set()


class MultiplexedRun:
    """A `Running` in such a process. What its tools have started has the run's own mark, and is ended with it."""

    began_as: Start = "warm"

    def __init__(self, worker: MultiplexedWorker, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> None:
        self._worker = worker
        self._invocation = invocation
        self._limits = limits
        self._cancellation = cancellation
        self._mark = new_mark()
        self._folder = os.path.join(worker.folder.path, os.path.basename(invocation.run_dir))
        os.mkdir(self._folder, 0o700)
        variables = {"TMPDIR": self._folder, MARK: self._mark}
        self.turn = CodexTurn(invocation, {f"shell_environment_policy.set.{name}": value for name, value in variables.items()})
        self.changed = Event()
        self._received: deque[tuple[Batch, int]] = deque()
        self._waiting_bytes = 0
        self.last_output_at = monotonic()
        self._output_bytes = 0
        self._too_much = ""
        self._has_worked = False
        self._is_closed = False
        worker.add(self, limits)
        self._stop_listening: Callable[[], None] | None = cancellation.listen(self._stop)

    @property
    def is_retryable(self) -> bool:
        """Not once the prompt has been sent: a tool may have run without any event (codex 0.169.0: one that kills its own Codex had
        done so before its ``item/started`` came)."""
        has_gone = self._worker.exit is not None and not self.turn.is_complete
        return (has_gone or self.turn.is_misunderstood) and not self.turn.has_tried

    def receive(self, batch: Batch, size: int) -> None:
        """Events of the turn, from a line of so many bytes. Never waits: the process has other runs to serve."""
        self.last_output_at = monotonic()
        if self._too_much:
            return
        self._output_bytes += size
        if self._output_bytes > self._limits.max_output_bytes:
            self._too_much = f"the output passed {self._limits.max_output_bytes} bytes (server.max_output_bytes), so the run was stopped"
        elif size > self._limits.line_limit_bytes:
            self._too_much = f"the CLI wrote a line of more than {self._limits.line_limit_bytes} bytes (server.line_limit_bytes)"
        elif batch:
            self._received.append((batch, size))
            self._waiting_bytes += size
            if self._waiting_bytes > QUEUE_LIMIT_BYTES + size:
                self._too_much = f"the client read so slowly that {QUEUE_LIMIT_BYTES >> 20} MB waited for it, so the run was stopped"
                self._stop()
        self.changed.set()

    def batches(self) -> Iterator[Batch]:
        limits = self._limits
        while not self._cancellation.failure:
            if batch := self._take():
                self._has_worked = self._has_worked or any(isinstance(event, ToolCall) for event in batch)
                yield batch
                continue
            if self._too_much:
                yield [Failed("backend", self._too_much)]
                return
            if self.turn.is_complete or self._worker.exit:
                yield self.turn.finish(Exit(0) if self.turn.is_complete else self._worker.exit or Exit(None))
                return
            if self.changed.wait(min(limits.keepalive_s, limits.idle_output_timeout_s)):
                self.changed.clear()
            else:
                yield []
        self._wait_until_stopped()
        yield [self._cancellation.failure]

    def _take(self) -> Batch:
        """What waits, up to `BATCH_BYTES` and one line."""
        batch: Batch = []
        taken = 0
        while self._received and taken < BATCH_BYTES:
            events, size = self._received.popleft()
            batch += events
            taken += size
        self._waiting_bytes -= taken
        return batch

    def close(self) -> None:
        """Interrupt the turn if it is still going, and end what its tools left behind."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._stop_listening:
            self._stop_listening()
            self._stop_listening = None
        was_cut_short = not self.turn.is_complete
        if was_cut_short:
            self._stop()
            self._wait_until_stopped()
        if self.turn.is_misunderstood:
            log.warning("codex: it answered a run in a way that is not understood; its process takes no more runs")
            self._worker.is_draining = True
        if self.turn.holds_session:
            self._let_go()
        self._worker.drop(self)
        may_go_on = was_cut_short or self.turn.is_misunderstood
        if self.turn.has_tried and (may_go_on or self._has_worked or self._cancellation.failure):
            end_marked(self._mark)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _stop(self) -> None:
        """Runs in the event loop: never blocks."""
        self.turn.interrupt()
        self._worker.flush()
        self.changed.set()

    def _let_go(self) -> None:
        """Unload the session: it may be continued in this process, in another worker's, or by hand."""
        self.turn.let_go()
        self._worker.flush()
        self._wait(INTERRUPT_S, lambda: not self.turn.is_listening)
        if self.turn.holds_session and not self._worker.exit:
            log.warning("codex: a session could not be let go; its process takes no more runs and is ended with those that it has")
            self._worker.is_draining = True

    def _wait(self, within_s: float, is_enough: Callable[[], bool]) -> None:
        deadline = monotonic() + within_s
        while not is_enough() and not self._worker.exit and (left := deadline - monotonic()) > 0:
            self.changed.wait(left)
            self.changed.clear()

    def _wait_until_stopped(self) -> None:
        self._wait(INTERRUPT_S, lambda: self.turn.is_complete)
        if not self.turn.is_complete and not self._worker.exit:
            log.warning("codex: a turn did not stop within %g s; its process takes no more runs", INTERRUPT_S)
            self._worker.is_draining = True


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
