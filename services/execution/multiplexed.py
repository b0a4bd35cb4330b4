"""One process for many runs at once, each in a thread of its own: `codex app-server`."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic

import gevent
from gevent.event import Event

from services.cancellation import Cancellation
from services.clis.codex.connection import CodexConnection
from services.clis.codex.turn import CodexTurn
from services.clis.spec import Invocation
from services.decoding.decoder import Exit
from services.events import Batch, Failed, ToolCall
from services.execution.driver import Limits
from services.execution.line_limit import LineLimit, LineTooLong
from services.processes.child import Child
from services.processes.leftovers import end_marked
from services.processes.marks import MARK, RunFolder, new_mark, new_path
from services.processes.spawner import Spawner

log = logging.getLogger("clinvk.warm")

READY_S = 30.0
INTERRUPT_S = 2.0
"""A turn that was told to stop and has not by then: the process takes no more runs."""
READ_S = 60.0
EXIT_S = 1.0
"""How long a process that says no more may take to exit."""
GONE_S = 7.0
"""How long the end of all that it has started may take (`services.processes.child.STOP_DEADLINE_S`)."""
QUEUE_LIMIT_BYTES = 16 << 20
"""What may wait for a client that reads slowly, as long as the CLI wrote it. A process of one run's own is not read from until
its client has read; this one must be, for the others."""
LINE_LIMIT_BYTES = 64 << 20
"""Of a line of any run, more only if a run's whole output may be more: whose line it is is not known before its end, and passing this
ends the process. A run's own ``line_limit_bytes`` ends that run alone."""
BATCH_BYTES = 256 << 10
"""Of what waits, so much goes out at a time."""


class SharedProcess:
    """One app-server, what is said to it and by whom. Its folder holds those of its runs, so that they may write there."""

    def __init__(self, spawner: Spawner, invocation: Invocation, state: object) -> None:
        self.state = state
        self.uses = 0
        self.is_retired = False
        self.used_at = self.started_at = monotonic()
        self.runs: dict[CodexTurn, SharedRun] = {}
        self.exit: Exit | None = None
        self.ready = Event()
        self._connection = CodexConnection()
        self._line_limit = LineLimit(LINE_LIMIT_BYTES)
        self._has_outgoing = Event()
        self._has_outgoing.set()
        self.folder = RunFolder(new_path())
        try:
            env = {**invocation.env, "TMPDIR": self.folder.path}
            self.child: Child = spawner.start(invocation.argv, env=env, cwd=self.folder.path, stdin=None)
        except BaseException:
            self.folder.remove()
            raise
        self._greenlets = [gevent.spawn(self._read), gevent.spawn(self._write)]

    @property
    def is_ready(self) -> bool:
        return self._connection.is_ready and self.exit is None

    @property
    def refusal(self) -> str:
        return self._connection.refusal

    def add(self, run: SharedRun, limits: Limits) -> None:
        self.uses += 1
        self._line_limit.limit_bytes = max(self._line_limit.limit_bytes, limits.max_output_bytes)
        self.runs[run.turn] = run
        self._connection.add(run.turn)
        self.flush()

    def drop(self, run: SharedRun) -> None:
        if self.runs.pop(run.turn, None):
            self._connection.drop(run.turn)
            self.used_at = monotonic()
            self.flush()

    def flush(self) -> None:
        """Have written what the turns want to say. Never blocks."""
        self._has_outgoing.set()

    def close(self) -> None:
        self.is_retired = True
        gevent.killall(self._greenlets)
        self._end(self.exit or Exit(None))
        self.child.close()
        self.folder.remove()

    def _write(self) -> None:
        while True:
            self._has_outgoing.wait()
            self._has_outgoing.clear()
            try:
                self.child.send(self._connection.take_outgoing())
            except BrokenPipeError:  # it has gone: the reader finds out why
                return

    def _read(self) -> None:
        is_over = False
        try:
            while chunk := self._chunk():
                self._line_limit.check(chunk)
                for turn, batch, size in self._connection.feed(chunk):
                    if run := self.runs.get(turn):
                        run.hear(batch, size)
                if self._connection.is_ready or self._connection.refusal:
                    self.ready.set()
                self.flush()
            is_over = True
        except LineTooLong as error:
            log.warning("codex: %s; its process is ended", error)
        except Exception:  # the border of this greenlet: without it every run would wait for words in vain
            log.exception("codex: it said what is not understood; its process is ended")
        self.is_retired = True
        exit = self.child.wait_exit(EXIT_S) if is_over else None
        self.child.stop(signal.SIGKILL, 0.0)
        self.child.wait_gone(GONE_S)  # before its runs begin again elsewhere
        self._end(exit or self.child.exit or Exit(None))

    def _chunk(self) -> bytes:
        while (chunk := self.child.read(READ_S)) is None:
            pass
        return chunk

    def _end(self, exit: Exit) -> None:
        self.is_retired = True
        self.exit = exit
        self.ready.set()
        for run in tuple(self.runs.values()):
            run.changed.set()


class SharedRun:
    """A `Running` in a shared process. What its tools have started carries the run's own mark, and is ended with it."""

    def __init__(self, process: SharedProcess, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> None:
        self._process = process
        self._invocation = invocation
        self._limits = limits
        self._cancellation = cancellation
        self._mark = new_mark()
        self._folder = os.path.join(process.folder.path, os.path.basename(invocation.run_dir))
        os.mkdir(self._folder, 0o700)
        variables = {"TMPDIR": self._folder, MARK: self._mark}
        self.turn = CodexTurn(invocation, {f"shell_environment_policy.set.{name}": value for name, value in variables.items()})
        self.changed = Event()
        self._heard: deque[tuple[Batch, int]] = deque()
        self._waiting_bytes = 0
        self.last_output_at = monotonic()
        self._output_bytes = 0
        self._too_much = ""
        self._has_worked = False
        self._is_closed = False
        process.add(self, limits)
        self._stop_listening: Callable[[], None] | None = cancellation.listen(self._stop)

    @property
    def has_broken(self) -> bool:
        """Once the prompt has gone out, it is not told again: a tool may have run though nothing has been heard of it (codex 0.169.0: one
        that kills its own Codex had done so before its ``item/started`` came)."""
        has_gone = self._process.exit is not None and not self.turn.is_complete
        return (has_gone or self.turn.is_misunderstood) and not self.turn.has_tried

    def hear(self, batch: Batch, size: int) -> None:
        """Events of the turn, from a line of so many bytes. Never waits: other runs are told by the same process."""
        self.last_output_at = monotonic()
        if self._too_much:
            return
        self._output_bytes += size
        if self._output_bytes > self._limits.max_output_bytes:
            self._too_much = f"the output passed {self._limits.max_output_bytes} bytes (server.max_output_bytes), so the run was stopped"
        elif size > self._limits.line_limit_bytes:
            self._too_much = f"the CLI wrote a line of more than {self._limits.line_limit_bytes} bytes (server.line_limit_bytes)"
        elif batch:
            self._heard.append((batch, size))
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
            if self.turn.is_complete or self._process.exit:
                yield self.turn.finish(Exit(0) if self.turn.is_complete else self._process.exit or Exit(None))
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
        while self._heard and taken < BATCH_BYTES:
            events, size = self._heard.popleft()
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
            self._process.is_retired = True
        if self.turn.holds_session:
            self._let_go()
        self._process.drop(self)
        may_go_on = was_cut_short or self.turn.is_misunderstood
        if self.turn.has_tried and (may_go_on or self._has_worked or self._cancellation.failure):
            end_marked(self._mark)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _stop(self) -> None:
        """Runs in the event loop: never blocks."""
        self.turn.interrupt()
        self._process.flush()
        self.changed.set()

    def _let_go(self) -> None:
        """Leave the session to whoever continues it next: in this process, in another worker's, by hand."""
        self.turn.let_go()
        self._process.flush()
        self._wait(INTERRUPT_S, lambda: not self.turn.is_listening)
        if self.turn.holds_session and not self._process.exit:
            log.warning("codex: a session could not be let go; its process takes no more runs and is ended with those that it has")
            self._process.is_retired = True

    def _wait(self, within_s: float, is_enough: Callable[[], bool]) -> None:
        deadline = monotonic() + within_s
        while not is_enough() and not self._process.exit and (left := deadline - monotonic()) > 0:
            self.changed.wait(left)
            self.changed.clear()

    def _wait_until_stopped(self) -> None:
        self._wait(INTERRUPT_S, lambda: self.turn.is_complete)
        if not self.turn.is_complete and not self._process.exit:
            log.warning("codex: a turn did not stop within %g s; its process takes no more runs", INTERRUPT_S)
            self._process.is_retired = True
