"""The worker's handle on one run: stdout, stdin, signals, exit status. Blocking calls block only the calling greenlet."""

from __future__ import annotations

import errno
import logging
import os
import signal
from _socket import SHUT_WR, socket
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
import orjson
from gevent.event import Event

from services.decoding.decoder import Exit
from services.errors import BackendUnavailable
from services.event_loop import yield_to_others
from services.processes.descriptors import close_fd
from services.processes.leftovers import end_marked, end_tree
from services.processes.stdin import Stdin, queued_bytes

log = logging.getLogger("clinvk.processes")

READ_BYTES = 65_536
STOP_DEADLINE_S = 7.0
"""Slightly longer than the supervisor takes to give up on a process that SIGKILL does not end."""
SUPERVISOR_ANSWER_S = 2.0
"""A supervisor that does not acknowledge a request in time (a CLI may have stopped it) is killed with its process tree."""

REASONS = {errno.ENOENT: "is not installed", errno.EACCES: "is not executable", errno.ENOEXEC: "is not a valid executable"}


class Child:
    """One process and its descendants. `close` must be called and ends all of them."""

    def __init__(self, program: str, control: socket, stdout: int, stdin: int | None, mark: str) -> None:
        self.program = program
        self._mark = mark
        self.pid = 0
        self.supervisor = 0
        """PID of its supervisor; 0 until one has taken the job."""
        self.taken_at = 0.0
        """When one has, by `time.monotonic`; 0 before."""
        self.exit: Exit | None = None
        self.cpu_s: float | None = None
        self.max_rss_kb: int | None = None
        self.breach: str | None = None
        """The limit that it exceeded, a field name of `services.processes.confinement.RunLimits`."""
        self._control = control
        self._stdout = stdout
        self._stdin = None if stdin is None else Stdin(stdin)
        self._messages = b""
        self._failure: dict[str, Any] | None = None
        self._is_gone = False
        self._is_woken = False
        self._is_closed = False
        self._may_hold_more = True
        self._changed = Event()
        control.setblocking(False)
        os.set_blocking(stdout, False)
        loop = gevent.get_hub().loop
        self._control_watcher = loop.io(control.fileno(), 1)
        self._control_watcher.start(self._on_control_readable)
        self._stdout_watcher = loop.io(stdout, 1)
        self._answer_timer: Any = None
        self._on_close: Callable[[Child], object] = lambda _: None

    def on_close(self, callback: Callable[[Child], object]) -> None:
        """Call ``callback`` when every process of the run has ended."""
        self._on_close = callback

    @property
    def is_decided(self) -> bool:
        """Whether the program has been started, or cannot be."""
        return bool(self.pid or self._failure or self._is_gone)

    def wait_decided(self, timeout_s: float) -> bool:
        """Wait until `is_decided`, and return it."""
        deadline = monotonic() + timeout_s
        while not self.is_decided and (left := deadline - monotonic()) > 0:
            self._wait(left)
        return self.is_decided

    def check_started(self) -> None:
        """Raises BackendUnavailable if the program has not been started."""
        if self.pid:
            return
        silence = "no supervisor took the job in time"
        if self.supervisor:
            silence = "its supervisor was killed" if self._is_gone else "its supervisor did not answer"
        failure = self._failure or {"errno": 0, "path": "", "message": silence}
        what = failure["path"] or self.program
        reason = REASONS.get(failure["errno"], "cannot be started") if what == self.program else "cannot be used as workdir"
        raise BackendUnavailable(f"{what} {reason}: {failure['message']}", issue=failure["message"])

    def read(self, timeout_s: float) -> bytes | None:
        """The next bytes of stdout; ``b""`` at EOF, None after ``timeout_s`` without output or after `wake`."""
        deadline = monotonic() + timeout_s
        yield_to_others()  # a CLI that writes faster than we read must not block the worker
        while True:
            if self._is_woken:
                self._is_woken = False
                return None
            if self._may_hold_more or self.exit or self._is_gone:
                try:
                    data = os.read(self._stdout, READ_BYTES)
                    # A CLI writes line by line: reading again at once would find nothing, at the cost of a system call.
                    self._may_hold_more = len(data) == READ_BYTES
                    return data
                except BlockingIOError:
                    self._may_hold_more = False
                    if self.exit or self._is_gone:  # a descendant holds the pipe open; the CLI's own output has been read
                        return b""
            left = deadline - monotonic()
            if left <= 0:
                return None
            self._stdout_watcher.start(self._on_stdout_readable)
            try:
                self._wait(left)
            finally:
                self._stdout_watcher.stop()

    @property
    def is_gone(self) -> bool:
        """Whether its supervisor has ended: no exit code will arrive."""
        return self._is_gone

    @property
    def is_silent(self) -> bool:
        """Whether no output is waiting to be read."""
        return not queued_bytes(self._stdout)

    @property
    def has_read_all(self) -> bool:
        """Whether the CLI has read all of its stdin so far."""
        return self._stdin is None or self._stdin.is_read

    def send(self, data: bytes) -> None:
        """Write to stdin, now or while the CLI's output is read. Never blocks."""
        assert self._stdin is not None, "started with a fixed stdin"
        self._stdin.send(data)

    def try_send(self, data: bytes) -> bool:
        """Write to stdin at once. Returns whether all of ``data`` was written."""
        return self._stdin is not None and self._stdin.try_send(data)

    def end_input(self) -> None:
        """Close stdin when everything has been written: the CLI reads EOF."""
        if self._stdin is not None:
            self._stdin.end()

    def wake(self) -> None:
        """Make a blocked `read` in another greenlet return None."""
        self._is_woken = True
        self._changed.set()

    def stop(self, number: int = signal.SIGTERM, grace_s: float = 1.0) -> None:
        """Send signal ``number`` to the CLI; after ``grace_s`` its process tree is killed. Does not wait."""
        try:
            self._control.send(orjson.dumps({"stop": int(number), "grace_s": grace_s}) + b"\n")
            self._expect_answer()
        except OSError:  # the supervisor has ended, and its process tree with it
            self._is_gone = True

    def wait_exit(self, timeout_s: float) -> Exit | None:
        """The exit of the CLI, or None if it is still running after ``timeout_s``."""
        deadline = monotonic() + timeout_s
        while not self.exit and not self._is_gone and (left := deadline - monotonic()) > 0:
            self._wait(left)
        return self.exit

    def wait_gone(self, timeout_s: float) -> None:
        """Wait until every process of the run has ended, at most ``timeout_s``."""
        deadline = monotonic() + timeout_s
        while not self._is_gone and (left := deadline - monotonic()) > 0:
            self._wait(left)

    def close(self) -> None:
        """End all processes of the run, wait for them and close all descriptors. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._stdin is not None:
            self._stdin.close()
        try:
            if self.supervisor:
                if not self.exit:
                    # EOF on our side makes the supervisor end the process tree at once; it closes its side when done.
                    self._control.shutdown(SHUT_WR)
                    self._expect_answer()
                self.wait_gone(STOP_DEADLINE_S)
                self._end_supervisor()
        except OSError:  # the supervisor has already ended
            self._is_gone = True
        finally:
            self._stop_answer_timer()
            for watcher in (self._control_watcher, self._stdout_watcher):
                watcher.stop()
                watcher.close()
            close_fd(self._stdout)
            self._control.close()
            if self.supervisor and not self.exit and not self._failure:
                end_marked(self._mark)  # the supervisor was killed, and possibly the spawner, which would clean up after it
            self._on_close(self)

    def _expect_answer(self) -> None:
        if self.supervisor and not self._is_gone and self._answer_timer is None:
            self._answer_timer = gevent.get_hub().loop.timer(SUPERVISOR_ANSWER_S)
            self._answer_timer.start(gevent.spawn, self._end_supervisor)

    def _stop_answer_timer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.stop()
            self._answer_timer.close()
            self._answer_timer = None

    def _end_supervisor(self) -> None:
        """Kill the supervisor's process tree, unless it has ended. While its socket is open its PID cannot have been reused."""
        if self.supervisor and not self._is_gone:
            log.warning("the supervisor (pid %s) of %s did not respond; killing it and its process tree", self.supervisor, self.program)
            end_tree(self.supervisor)
            self.wait_gone(SUPERVISOR_ANSWER_S)

    def _wait(self, timeout_s: float) -> None:
        timer = gevent.get_hub().loop.timer(timeout_s)  # `gevent.Timeout` takes twice as long, and every event waits once
        timer.start(self._changed.set)
        try:
            self._changed.wait()
        finally:
            timer.stop()
            timer.close()
            self._changed.clear()

    def _on_stdout_readable(self) -> None:
        """Data or EOF on stdout. Runs in the event loop."""
        self._may_hold_more = True
        self._changed.set()

    def _on_control_readable(self) -> None:
        """A message or EOF from the supervisor. Runs in the event loop: never blocks."""
        try:
            data = self._control.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._stop_answer_timer()
        if not data:
            self._is_gone = True
            self._control_watcher.stop()
        *lines, self._messages = (self._messages + data).split(b"\n")
        for line in lines:
            message = orjson.loads(line)
            if "supervisor" in message:
                self.supervisor, self.taken_at = message["supervisor"], monotonic()
            elif "pid" in message:
                self.pid = message["pid"]
            elif "exit" in message:
                self.exit = Exit(message["exit"], message["stderr"])
                self.cpu_s, self.max_rss_kb, self.breach = message["cpu_s"], message["max_rss_kb"], message["breach"]
                self._is_gone = self._is_gone or message["is_gone"]
            elif "errno" in message:
                self._failure = message
        if self.is_decided:  # nobody waits for the supervisor's first message alone
            self._changed.set()
