"""One process for many runs at once, each in a thread of its own: `codex app-server`."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from time import monotonic

import gevent
from gevent.event import Event

from services.cancellation import Cancellation
from services.clis.codex.connection import CodexConnection
from services.clis.codex.turn import CodexTurn
from services.clis.conversation import Conversation
from services.clis.spec import BackendSpec, Invocation
from services.clis.warmth import Parameters
from services.decoding.decoder import Exit
from services.events import Batch, Failed, ToolCall
from services.execution.driver import Limits
from services.execution.line_limit import LineLimit, LineTooLong
from services.execution.run import Process, ProcessRun
from services.execution.worker import BaseWorker, Keep, Need, Problem
from services.processes.child import Child
from services.processes.leftovers import end_marked
from services.processes.marks import MARK, RunFolder, new_mark, new_path
from services.processes.spawner import Spawner

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


class Channel:
    """A run's share of such a process, to the run a process of its own (`services.execution.run.Process`). What its tools start has
    the run's own mark, and is ended with it."""

    breach: str | None = None

    def __init__(self, worker: MultiplexedWorker, invocation: Invocation) -> None:
        self._worker = worker
        self._mark = new_mark()
        self._folder = os.path.join(worker.folder.path, os.path.basename(invocation.run_dir))
        os.mkdir(self._folder, 0o700)
        variables = {"TMPDIR": self._folder, MARK: self._mark}
        self.turn = CodexTurn(invocation, {f"shell_environment_policy.set.{name}": value for name, value in variables.items()})
        self.has_overflowed = False
        self._queue: deque[tuple[Batch, bytes]] = deque()
        self._queued_bytes = 0
        self._events: Batch = []
        self._used_tools = False
        self._is_interrupted = False
        self._is_closed = False
        self._is_woken = False
        self._changed = Event()
        worker.add(self)

    # -- for the worker --

    def put(self, batch: Batch, line: bytes) -> None:
        """Events of the turn, from this line. Never waits: the process has other runs to serve."""
        self._used_tools = self._used_tools or any(isinstance(event, ToolCall) for event in batch)
        self._changed.set()
        if self.has_overflowed:
            return
        self._queue.append((batch, line))
        self._queued_bytes += len(line)
        if self._queued_bytes > QUEUE_LIMIT_BYTES + len(line):
            self.has_overflowed = True
            self.stop()

    # -- for the run --

    @property
    def is_empty(self) -> bool:
        return not self._queue

    @property
    def exit(self) -> Exit | None:
        return Exit(0) if self.turn.is_complete else self._worker.exit

    @property
    def is_gone(self) -> bool:
        return self._worker.exit is not None

    def read(self, timeout_s: float) -> bytes | None:
        """The next lines of the turn, up to `BATCH_BYTES` and one; their events are `take_events`."""
        deadline = monotonic() + timeout_s
        while not self._queue:
            if self._is_woken:
                self._is_woken = False
                return None
            if self.has_overflowed or self.exit:
                return b""
            if not self._changed.wait(max(0.0, deadline - monotonic())):
                return None
            self._changed.clear()
        lines: list[bytes] = []
        taken = 0
        while self._queue and taken < BATCH_BYTES:
            events, line = self._queue.popleft()
            self._events += events
            lines.append(line)
            taken += len(line)
        self._queued_bytes -= taken
        return b"\n".join((*lines, b""))

    def take_events(self) -> Batch:
        events, self._events = self._events, []
        return events

    def send(self, data: bytes) -> None:
        """Its requests are the turn's, numbered and written by the worker."""

    def try_send(self, data: bytes) -> bool:
        return False

    def end_input(self) -> None:
        """The process has other runs to serve."""

    def stop(self, number: int = signal.SIGTERM, grace_s: float = 0.0) -> None:
        """Interrupt the turn. Runs in the event loop: never blocks."""
        self._is_interrupted = True
        self.turn.interrupt()
        self._worker.flush()

    def wake(self) -> None:
        self._is_woken = True
        self._changed.set()

    def wait_exit(self, timeout_s: float) -> Exit | None:
        self._wait(INTERRUPT_S, lambda: self.turn.is_complete)
        if not self.exit:
            log.warning("codex: a turn did not stop within %g s; its process takes no more runs", INTERRUPT_S)
            self._worker.is_draining = True
        return self.exit

    def close(self) -> None:
        """Interrupt the turn if it is still active, and end what its tools have left running."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self.turn.is_complete:
            self.stop()
            self.wait_exit(INTERRUPT_S)
        if self.turn.is_misunderstood:
            log.warning("codex: it answered a run in a way that is not understood; its process takes no more runs")
            self._worker.is_draining = True
        if self.turn.holds_session:
            self._unload()
        self._worker.drop(self)
        # An interrupted turn may have begun a tool that it has not told of.
        if self.turn.has_tried and (self._is_interrupted or self.turn.is_misunderstood or self._used_tools):
            end_marked(self._mark)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _unload(self) -> None:
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
            self._changed.wait(left)
            self._changed.clear()


class ChannelConversation(Conversation):
    """The turn of a channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._turn = channel.turn

    @property
    def is_complete(self) -> bool:
        return self._turn.is_complete and self._channel.is_empty

    @property
    def is_retryable(self) -> bool:
        """Not once the prompt has been sent: a tool may have run without any event (codex 0.169.0: one that kills its own Codex had
        done so before its ``item/started`` came)."""
        has_gone = self._channel.is_gone and not self._turn.is_complete
        return (has_gone or self._turn.is_misunderstood) and not self._turn.has_tried

    def receive(self, data: bytes) -> Batch:
        return self._channel.take_events()

    def finish(self, exit: Exit) -> Batch:
        return self._turn.finish(exit)


class MultiplexedRun(ProcessRun):
    """Ends with its turn: the process stays."""

    def __init__(self, invocation: Invocation, limits: Limits, cancellation: Cancellation, channel: Channel) -> None:
        super().__init__(invocation, limits, cancellation, ChannelConversation(channel))
        self._channel = channel
        self.attach(channel, None)

    def _is_kept(self, process: Process) -> bool:
        return True

    def _breach(self, process: Process) -> Failed | None:
        if not self._channel.has_overflowed:
            return None
        return Failed("backend", f"the client read so slowly that {QUEUE_LIMIT_BYTES >> 20} MB waited for it, so the run was stopped")


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
