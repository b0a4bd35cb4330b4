"""The worker's handle on one run: read its stdout, write to it, stop it, learn how it ended. Blocks its greenlet alone."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import socket
import sys
import termios
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
import orjson
from gevent.event import Event
from gevent.monkey import get_original

from services.decoding.decoder import Exit
from services.errors import BackendUnavailable
from services.processes.leftovers import end_marked, end_tree

log = logging.getLogger("clinvk.processes")

READ_BYTES = 65_536
READS_BEFORE_YIELD = 16
"""A CLI that writes faster than we read must not keep every other greenlet of the worker from running."""
STOP_DEADLINE_S = 7.0
"""The supervisor gives up on a process that SIGKILL does not end; this is a little longer than it takes to."""
SUPERVISOR_ANSWER_S = 2.0
"""A supervisor that does not confirm an order within this time (a CLI may stop it) is killed, with everything below it."""

# gevent's patched os.close leaves the closing to a later turn of the loop (measured with 26.9: up to seconds later), while
# the other end waits for it. Every watcher of a descriptor is stopped before it is closed here.
close_fd = get_original("os", "close")

REASONS = {errno.ENOENT: "is not installed", errno.EACCES: "may not be run", errno.ENOEXEC: "is not a program of this system"}


class Child:
    """One process and everything below it. `close` must be called, and leaves nothing of it."""

    def __init__(self, program: str, control: socket.socket, stdout: int, stdin: int | None, mark: str) -> None:
        self.program = program
        self._mark = mark
        self.pid = 0
        self.supervisor = 0
        """The process id of its supervisor; 0 before one has taken it."""
        self.exit: Exit | None = None
        self.cpu_s: float | None = None
        self.max_rss_kb: int | None = None
        self.breach: str | None = None
        """The limit for which it was ended, by its name in `services.processes.confinement.RunLimits`."""
        self._control = control
        self._stdout = stdout
        self._stdin = stdin
        self._messages = b""
        self._failure: dict[str, Any] | None = None
        self._is_gone = False
        self._is_woken = False
        self._is_closed = False
        self._reads = 0
        self._may_hold_more = True
        self._changed = Event()
        control.setblocking(False)
        os.set_blocking(stdout, False)
        loop = gevent.get_hub().loop
        self._control_watcher = loop.io(control.fileno(), 1)
        self._control_watcher.start(self._hear)
        self._stdout_watcher = loop.io(stdout, 1)
        self._answer_timer = loop.timer(SUPERVISOR_ANSWER_S)
        self._on_close: Callable[[Child], object] = lambda _: None

    def on_close(self, forget: Callable[[Child], object]) -> None:
        """``forget`` is called when nothing of the run is left."""
        self._on_close = forget

    def wait_taken(self, timeout_s: float) -> bool:
        """Whether a supervisor has taken the run."""
        deadline = monotonic() + timeout_s
        while not self.supervisor and not self._is_gone and (left := deadline - monotonic()) > 0:
            self._wait(left)
        return bool(self.supervisor) or self._is_gone

    def wait_started(self, timeout_s: float) -> None:
        """Raises BackendUnavailable when the system refused to start the program."""
        deadline = monotonic() + timeout_s
        while not self.pid and not self._failure and not self._is_gone and monotonic() < deadline:
            self._wait(deadline - monotonic())
        if self.pid:
            return
        silence = "no supervisor took it in time"
        if self.supervisor:
            silence = "its supervisor was killed" if self._is_gone else "its supervisor did not answer"
        failure = self._failure or {"errno": 0, "path": "", "message": silence}
        what = failure["path"] or self.program
        reason = REASONS.get(failure["errno"], "cannot be started") if what == self.program else "cannot be used as workdir"
        raise BackendUnavailable(f"{what} {reason}: {failure['message']}", issue=failure["message"])

    def read(self, timeout_s: float) -> bytes | None:
        """The next bytes of stdout; ``b""`` at its end, None after ``timeout_s`` of silence or when `wake` was called."""
        deadline = monotonic() + timeout_s
        self._reads += 1
        if self._reads % READS_BEFORE_YIELD == 0:
            gevent.sleep(0)
        while True:
            if self._is_woken:
                self._is_woken = False
                return None
            if self._may_hold_more or self.exit or self._is_gone:
                try:
                    data = os.read(self._stdout, READ_BYTES)
                    # A CLI's lines come one by one: to look for another one at once would find none, for the price of a read.
                    self._may_hold_more = len(data) == READ_BYTES
                    return data
                except BlockingIOError:
                    self._may_hold_more = False
                    if self.exit or self._is_gone:  # what holds the pipe open now is not the CLI: all it wrote has been read
                        return b""
            left = deadline - monotonic()
            if left <= 0:
                return None
            self._stdout_watcher.start(self._arrives)
            try:
                self._wait(left)
            finally:
                self._stdout_watcher.stop()

    @property
    def is_gone(self) -> bool:
        """Whether its supervisor has ended: no exit code comes any more."""
        return self._is_gone

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing to read now."""
        return not _queued(self._stdout)

    @property
    def has_read_all(self) -> bool:
        """Whether the CLI has taken everything that was sent to it."""
        return self._stdin is None or not _queued(self._stdin)

    def send(self, data: bytes) -> None:
        """Write to stdin, waiting while the pipe is full. Raises BrokenPipeError when the CLI reads no more."""
        assert self._stdin is not None, "started with a fixed stdin"
        os.set_blocking(self._stdin, False)
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                watcher = gevent.get_hub().loop.io(self._stdin, 2)
                watcher.start(self._changed.set)
                try:
                    self._wait(1.0)
                finally:
                    watcher.stop()
                    watcher.close()
                if self._is_woken or self.exit or self._is_gone:
                    raise BrokenPipeError(errno.EPIPE, "the CLI has gone") from None

    def try_send(self, data: bytes) -> bool:
        """Write to stdin if it takes all of ``data`` at once: for the event loop, which may not wait."""
        if self._stdin is None:
            return False
        os.set_blocking(self._stdin, False)
        try:
            return os.write(self._stdin, data) == len(data)
        except OSError:
            return False

    def end_input(self) -> None:
        """Close stdin: the CLI reads its end."""
        if self._stdin is not None:
            close_fd(self._stdin)
            self._stdin = None

    def wake(self) -> None:
        """Make a `read` that is waiting in another greenlet return None."""
        self._is_woken = True
        self._changed.set()

    def stop(self, number: int = signal.SIGTERM, grace_s: float = 1.0) -> None:
        """Ask the CLI to end with signal ``number``; after ``grace_s`` it is killed, with everything below it. Does not wait."""
        try:
            self._control.send(orjson.dumps({"stop": int(number), "grace_s": grace_s}) + b"\n")
            self._expect_answer()
        except OSError:  # the supervisor has gone, and everything with it
            self._is_gone = True

    def wait_exit(self, timeout_s: float) -> Exit | None:
        """How the CLI ended, or None if it is still there after ``timeout_s``."""
        deadline = monotonic() + timeout_s
        while not self.exit and not self._is_gone and (left := deadline - monotonic()) > 0:
            self._wait(left)
        return self.exit

    def wait_gone(self, timeout_s: float) -> None:
        """Until nothing of the run lives, or ``timeout_s`` are over."""
        deadline = monotonic() + timeout_s
        while not self._is_gone and (left := deadline - monotonic()) > 0:
            self._wait(left)

    def close(self) -> None:
        """End whatever is left and give every descriptor back. Returns when nothing of the run lives; may be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self.end_input()
        try:
            if self.supervisor:
                if not self.exit:
                    # Closing our side makes the supervisor end the tree at once; it closes its side when it is done.
                    self._control.shutdown(socket.SHUT_WR)
                    self._expect_answer()
                self.wait_gone(STOP_DEADLINE_S)
                self._end_supervisor()
        except OSError:  # the supervisor has gone already
            self._is_gone = True
        finally:
            for watcher in (self._control_watcher, self._stdout_watcher, self._answer_timer):
                watcher.stop()
                watcher.close()
            close_fd(self._stdout)
            self._control.close()
            if self.supervisor and not self.exit and not self._failure:
                end_marked(self._mark)  # the supervisor was killed, and perhaps the spawner that ends its runs then
            self._on_close(self)

    def _expect_answer(self) -> None:
        if self.supervisor and not self._is_gone and not self._answer_timer.active:
            self._answer_timer.start(gevent.spawn, self._end_supervisor)

    def _end_supervisor(self) -> None:
        """Kill the supervisor and everything below it, unless it has gone: as long as its socket is open its process id is its own."""
        if self.supervisor and not self._is_gone:
            log.warning(
                "the supervisor (pid %s) of %s did not answer; it is killed with everything below it", self.supervisor, self.program
            )
            end_tree(self.supervisor)
            self.wait_gone(SUPERVISOR_ANSWER_S)

    def _wait(self, timeout_s: float) -> None:
        timer = gevent.get_hub().loop.timer(timeout_s)  # a `gevent.Timeout` takes twice as long, and every event waits once
        timer.start(self._changed.set)
        try:
            self._changed.wait()
        finally:
            timer.stop()
            timer.close()
            self._changed.clear()

    def _arrives(self) -> None:
        """There is something to read, or the end of it. Runs in the event loop."""
        self._may_hold_more = True
        self._changed.set()

    def _hear(self) -> None:
        """The supervisor spoke, or has gone. Runs in the event loop: never blocks."""
        try:
            data = self._control.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._answer_timer.stop()
        if not data:
            self._is_gone = True
            self._control_watcher.stop()
        *lines, self._messages = (self._messages + data).split(b"\n")
        for line in lines:
            message = orjson.loads(line)
            if "supervisor" in message:
                self.supervisor = message["supervisor"]
            elif "pid" in message:
                self.pid = message["pid"]
            elif "exit" in message:
                self.exit = Exit(message["exit"], message["stderr"])
                self.cpu_s, self.max_rss_kb, self.breach = message["cpu_s"], message["max_rss_kb"], message["breach"]
            elif "errno" in message:
                self._failure = message
        self._changed.set()


def _queued(pipe: int) -> int:
    """How many bytes are in the pipe, told at either end of it."""
    count = bytearray(4)
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return int.from_bytes(count, sys.byteorder)
