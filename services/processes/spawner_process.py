"""One spawner process: its job socket, and the socket that shows whether it is alive."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import gevent

from services.processes.descriptors import close_fd, plain_socketpair
from services.processes.leftovers import end_tree

PROGRAM = Path(__file__).with_name("spawner_program.py")
CLOSE_DEADLINE_S = 2.0
END_DEADLINE_S = 1.0
PING_EVERY_S = 1.0
MAX_UNANSWERED_PINGS = 3
"""A spawner that was stopped or hangs is killed after so many."""
FDS_PER_JOB = 4


class SpawnerProcess:
    def __init__(
        self, files_limit: int | None, *, on_ready: Callable[[SpawnerProcess], None], on_end: Callable[[SpawnerProcess, str], None]
    ) -> None:
        """``on_ready`` and ``on_end`` (called with the reason, or "") run in the event loop."""
        self.is_ready = False
        self._unanswered = 0
        self._started_at = monotonic()
        self._on_ready, self._on_end = on_ready, on_end
        # This process keeps the other end too, to take back unread jobs after the spawner has ended.
        self._jobs, theirs = plain_socketpair()
        self._their_jobs = socket.socket(fileno=theirs.detach())
        self._alive, their_alive = plain_socketpair()
        try:
            fds = [self._their_jobs.fileno(), their_alive.fileno()]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(PROGRAM), *map(str, fds), *([str(files_limit)] if files_limit else [])],
                pass_fds=fds, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, env={},
            )  # fmt: skip
        finally:
            their_alive.close()
        self._jobs.setblocking(False)
        self._alive.setblocking(False)
        loop = gevent.get_hub().loop
        self._watcher = loop.io(self._alive.fileno(), 1)
        self._watcher.start(self._on_alive_readable)
        self._pings = loop.timer(PING_EVERY_S, PING_EVERY_S, ref=False)
        self._pings.start(self._ping)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def age_s(self) -> float:
        return monotonic() - self._started_at

    def hand_over(self, fds: list[int]) -> None:
        """Send this job to the next idle supervisor. Does not wait.

        Raises BrokenPipeError if the spawner has ended, BlockingIOError if the socket is full (hundreds of jobs).
        """
        self._jobs.sendmsg([b"j"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))])

    def pass_on(self, fds: list[int]) -> None:
        """Like `hand_over`, but closes the descriptors."""
        try:
            self.hand_over(fds)
        finally:
            for fd in fds:
                close_fd(fd)

    def take_back(self) -> Iterator[list[int]]:
        """Yield the jobs that no supervisor has taken. No further jobs can be handed over."""
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
            return "closed its socket and was killed"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def close(self) -> None:
        """Stop the spawner. It waits for its supervisors and they for their runs; after a timeout the process tree is killed."""
        self.forget()
        try:
            self._process.wait(CLOSE_DEADLINE_S)
        except subprocess.TimeoutExpired:
            end_tree(self.pid)
            self._process.wait(CLOSE_DEADLINE_S)

    def forget(self) -> None:
        """Close this process's ends, which makes the spawner and idle supervisors exit. Idempotent."""
        for watcher in (self._watcher, self._pings):
            watcher.stop()
            watcher.close()
        for ours in (self._jobs, self._their_jobs, self._alive):
            ours.close()

    def _on_alive_readable(self) -> None:
        """A reply or EOF from the spawner. Runs in the event loop."""
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
        """Runs in the event loop; replies are read between two pings."""
        if not self.is_ready:
            return
        if self._unanswered >= MAX_UNANSWERED_PINGS:
            self.kill()
            self._ended(f"did not respond {MAX_UNANSWERED_PINGS} times and was killed")
            return
        self._unanswered += 1
        try:
            self._alive.send(b"?")
        except OSError:  # it has ended (EOF will be read), or its socket is full because it does not read
            return

    def _ended(self, why: str) -> None:
        self._watcher.stop()
        self._pings.stop()
        self._on_end(self, why)
