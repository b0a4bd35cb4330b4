"""One run's share of a process that serves many: its lines in a queue, and what its tools have started."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic
from typing import Protocol

from gevent.event import Event

from services.cancellation import Cancellation
from services.clis.codex.turn import CodexTurn
from services.clis.conversation import Conversation
from services.clis.spec import Invocation
from services.decoding.decoder import Exit
from services.events import Batch, Failed, ToolCall
from services.execution.driver import Limits
from services.execution.run import Process, ProcessRun
from services.processes.leftovers import end_marked
from services.processes.marks import MARK, RunFolder, new_mark

log = logging.getLogger("clinvk.warm")

INTERRUPT_S = 2.0
"""If an interrupted turn has not stopped by then, the process takes no more runs."""
QUEUE_LIMIT_BYTES = 16 << 20
"""What may be queued for a slow client, in bytes of the CLI's output. A process with one run is not read from until its client has
read; this one must be, for its other runs."""
SILENT_LINE_BYTES = 256
"""What a line without events counts for there, however long it is: nothing of it is kept but its length."""
BATCH_BYTES = 256 << 10
"""So much of the queue is passed on at a time."""


class SharedProcess(Protocol):
    """What a channel needs of its worker."""

    folder: RunFolder
    exit: Exit | None
    is_draining: bool

    def add(self, channel: Channel) -> None: ...
    def drop(self, channel: Channel) -> None: ...
    def flush(self) -> None: ...


class Channel:
    """A run's share of such a process, to the run a process of its own (`services.execution.run.Process`). What its tools start has
    the run's own mark, and is ended with it."""

    breach: str | None = None

    def __init__(self, worker: SharedProcess, invocation: Invocation) -> None:
        self._worker = worker
        self._mark = new_mark()
        self._folder = os.path.join(worker.folder.path, os.path.basename(invocation.run_dir))
        os.mkdir(self._folder, 0o700)
        variables = {"TMPDIR": self._folder, MARK: self._mark}
        self.turn = CodexTurn(invocation, {f"shell_environment_policy.set.{name}": value for name, value in variables.items()})
        self.has_overflowed = False
        self._queue: deque[tuple[Batch, int]] = deque()
        """The events of each line, and its bytes."""
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
        """Events of the turn, from this line, if any. Never waits: the process has other runs to serve."""
        self._used_tools = self._used_tools or any(isinstance(event, ToolCall) for event in batch)
        self._changed.set()
        if self.has_overflowed:
            return
        has_room = self._queued_bytes <= QUEUE_LIMIT_BYTES
        self._queue.append((batch, len(line)))
        self._queued_bytes += _weight(batch, len(line))
        if not has_room:
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
        """As many bytes as the next lines of the turn had, up to `BATCH_BYTES` and one line; their events are `take_events`."""
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
            events, size = self._queue.popleft()
            self._events += events
            lines.append(bytes(size))
            taken += size
            self._queued_bytes -= _weight(events, size)
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
        with ExitStack() as rest:  # the last one first, and each of them whatever becomes of the others
            rest.callback(shutil.rmtree, self._folder, ignore_errors=True)
            rest.callback(self._end_tools)
            rest.callback(self._worker.drop, self)
            try:
                self._end_turn()
            except BaseException:
                self._worker.is_draining = True  # the turn may go on in it
                raise

    def _end_turn(self) -> None:
        if not self.turn.is_complete:
            self.stop()
            self.wait_exit(INTERRUPT_S)
        if self.turn.is_misunderstood:
            log.warning("codex: unexpected response to a run; its process takes no more runs")
            self._worker.is_draining = True
        if self.turn.holds_session:
            self._unload()

    def _end_tools(self) -> None:
        """An interrupted turn may have begun a tool that it has not told of."""
        if self.turn.has_tried and (self._is_interrupted or self.turn.is_misunderstood or self._used_tools):
            end_marked(self._mark)

    def _unload(self) -> None:
        """Unload the session: it may be continued in this process, in another worker's, or by hand."""
        self.turn.let_go()
        self._worker.flush()
        self._wait(INTERRUPT_S, lambda: not self.turn.is_listening)
        if self.turn.holds_session and not self._worker.exit:
            log.warning("codex: a session could not be unloaded; its process takes no more runs and is stopped after the current ones")
            self._worker.is_draining = True

    def _wait(self, within_s: float, is_enough: Callable[[], bool]) -> None:
        deadline = monotonic() + within_s
        while not is_enough() and not self._worker.exit and (left := deadline - monotonic()) > 0:
            self._changed.wait(left)
            self._changed.clear()


def _weight(batch: Batch, size: int) -> int:
    """What a line counts for in the queue."""
    return size if batch else SILENT_LINE_BYTES


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
