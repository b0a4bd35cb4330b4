"""One spawner process: the socket that it takes jobs from, and the one by which its end is seen."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import gevent

from services.processes.child import close_fd
from services.processes.leftovers import end_tree

PROGRAM = Path(__file__).with_name("spawner_program.py")
CLOSE_DEADLINE_S = 2.0
END_DEADLINE_S = 1.0
PING_EVERY_S = 1.0
MOST_UNANSWERED = 3
"""Pings. A spawner that was stopped, or hangs, is ended."""
FDS_PER_JOB = 4


class SpawnerProcess:
    def __init__(
        self, files_limit: int | None, *, on_ready: Callable[[SpawnerProcess], None], on_end: Callable[[SpawnerProcess, str], None]
    ) -> None:
        """``on_ready`` and ``on_end`` (called with the reason, where it is known) run in the event loop."""
        self.is_ready = False
        self._unanswered = 0
        self._started_at = monotonic()
        self._on_ready, self._on_end = on_ready, on_end
        # This process keeps the other end too: what lies in it when the spawner has gone can be taken back.
        self._jobs, self._their_jobs = socket.socketpair()
        self._alive, their_alive = socket.socketpair()
        with their_alive:
            fds = [self._their_jobs.fileno(), their_alive.fileno()]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(PROGRAM), *map(str, fds), *([str(files_limit)] if files_limit else [])],
                pass_fds=fds, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, env={},
            )  # fmt: skip
        self._jobs.setblocking(False)  # one greenlet at a time may wait for a gevent socket, so none does
        self._alive.setblocking(False)
        loop = gevent.get_hub().loop
        self._watcher = loop.io(self._alive.fileno(), 1)
        self._watcher.start(self._hear)
        self._pings = loop.timer(PING_EVERY_S, PING_EVERY_S, ref=False)
        self._pings.start(self._ping)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def age_s(self) -> float:
        return monotonic() - self._started_at

    def hand_over(self, fds: list[int]) -> None:
        """Have an idle supervisor take this job. Does not wait.

        Raises BrokenPipeError when the spawner has gone, BlockingIOError when hundreds of jobs lie untaken in the socket.
        """
        socket.send_fds(self._jobs, [b"j"], fds)

    def pass_on(self, fds: list[int]) -> None:
        """As `hand_over`; closes the descriptors."""
        try:
            self.hand_over(fds)
        finally:
            for fd in fds:
                close_fd(fd)

    def take_back(self) -> Iterator[list[int]]:
        """The jobs that no supervisor has taken; from here on none can be handed over."""
        self._jobs.shutdown(socket.SHUT_RDWR)
        while True:
            data, fds, _, _ = socket.recv_fds(self._their_jobs, 1, FDS_PER_JOB)
            if not data:
                return
            yield fds

    def kill(self) -> None:
        self._process.kill()

    def how_it_ended(self) -> str:
        try:
            code = self._process.wait(END_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return "closed its socket and was ended"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def close(self) -> None:
        """Have it leave. It waits for its supervisors, and they for their runs; what takes too long is killed with everything below."""
        self.forget()
        try:
            self._process.wait(CLOSE_DEADLINE_S)
        except subprocess.TimeoutExpired:
            end_tree(self.pid)
            self._process.wait(CLOSE_DEADLINE_S)

    def forget(self) -> None:
        """Close this process's ends, which makes the spawner and idle supervisors exit. May be called twice."""
        for watcher in (self._watcher, self._pings):
            watcher.stop()
            watcher.close()
        for ours in (self._jobs, self._their_jobs, self._alive):
            ours.close()

    def _hear(self) -> None:
        """It is ready, or has gone. Runs in the event loop."""
        try:
            data = self._alive.recv(16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._unanswered = 0
        if data:
            self.is_ready = True
            self._on_ready(self)
        else:
            self._ended("")

    def _ping(self) -> None:
        """Runs in the event loop; an answer that has come meanwhile is heard between two pings."""
        if not self.is_ready:
            return
        if self._unanswered >= MOST_UNANSWERED:
            self.kill()
            self._ended(f"did not answer {MOST_UNANSWERED} times and was ended")
            return
        self._unanswered += 1
        try:
            self._alive.send(b"?")
        except OSError:  # it has ended: its end is read, or its socket is full because it does not read
            return

    def _ended(self, why: str) -> None:
        self._watcher.stop()
        self._pings.stop()
        self._on_end(self, why)
