"""The worker's handle on its spawner: starts CLIs through it, and replaces it when it has ended or does not respond."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from time import monotonic

import gevent
from gevent.lock import BoundedSemaphore, RLock

from services.processes.child import Child
from services.processes.descriptors import close_fd
from services.processes.launch import connected, job_of
from services.processes.marks import MARK, new_mark
from services.processes.orphans import Orphans
from services.processes.spawner_process import SpawnerProcess

log = logging.getLogger("clinvk.processes")

STARTS_AT_A_TIME = 16
"""Concurrent starts. Further ones wait in order, and the timeout of a start begins after that wait: the spawner forks a few dozen
processes a second on a busy machine, and the job socket holds about 300 jobs (Linux)."""
STALL_S = 3.0
"""The spawner is replaced if a job waits and none was taken for so long: it, or an idle supervisor, was stopped."""
SPAWNER_START_S = 10.0
"""How long a spawner may take to start before `STALL_S` applies."""
RESTART_PAUSE_S = 0.5
"""Delay before replacing a spawner that lived for less than this."""


class Spawner:
    """Starts processes. One per worker; a fork of the worker creates its own at its first start.

    Runs survive the spawner: each has its own supervisor. Jobs that no supervisor has taken are passed to the replacement, so each is
    started once.
    """

    def __init__(self, files_limit: int | None = None) -> None:
        """``files_limit``: soft limit of open files for CLIs, if the server raised its own."""
        self.replacements = 0
        """How often the spawner was replaced."""
        self.is_being_replaced = False
        self._files_limit = files_limit
        self._process: SpawnerProcess | None = None
        self._owner = 0
        self._children: set[Child] = set()
        self._orphans = Orphans()
        self._taken_at = 0.0
        self._lock = RLock()
        self._starts = BoundedSemaphore(STARTS_AT_A_TIME)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        stdin: bytes | None,
        timeout_s: float = 10.0,
        is_held: bool = False,
    ) -> Child:
        """Start ``argv`` in its own session with ``stdin`` as input; with None the child gets a pipe for `Child.send`.

        ``timeout_s`` excludes the wait for earlier starts (`STARTS_AT_A_TIME`).
        ``is_held``: the program starts working at EOF of that pipe, so it is killed, not terminated, if this process dies.

        Raises BackendUnavailable if the program cannot be started, OSError if the server is out of file descriptors.
        """
        mark = new_mark()
        job = job_of(argv, {**env, MARK: mark}, cwd, is_held=is_held)
        with self._starts:
            deadline = monotonic() + timeout_s
            child, fds = connected(argv[0], job, stdin, mark)
            child.on_close(self._children.discard)
            self._children.add(child)
            try:
                try:
                    self._hand_over(fds)
                finally:  # only the supervisor may hold its end of the control socket, so that its death is noticed
                    for fd in fds:
                        close_fd(fd)
                self._wait_until_decided(child, deadline)
                child.check_started()
            except BaseException:
                child.close()
                raise
        return child

    def warm_up(self) -> None:
        """Start the spawner now, so that the first run does not wait for it."""
        self._connect()

    def close(self) -> None:
        """Close the spawner. Kill processes that do not exit, and adopted ones."""
        with self._lock:
            process, self._process = self._process, None
            if process and self._owner == os.getpid():
                process.close()
                self._orphans.spawner_ended(process.pid)
                self._orphans.end_all()

    def _hand_over(self, fds: list[int]) -> None:
        for attempt in range(2):
            process = self._connect()
            try:
                process.hand_over(fds)
                return
            except (BrokenPipeError, ConnectionResetError):  # it has ended; the job was not sent
                self._replace(process)
                if attempt:
                    raise

    def _wait_until_decided(self, child: Child, deadline: float) -> None:
        begun = monotonic()
        while not child.wait_decided(min(STALL_S, deadline - monotonic())) and monotonic() < deadline:
            process = self._process
            is_up = process and (process.is_ready or process.age_s > SPAWNER_START_S)
            latest = max(begun, self._taken_at, *(one.taken_at for one in self._children))
            if not child.supervisor and process and is_up and monotonic() - latest >= STALL_S:
                process.kill()
                self._replace(process, f"took no job within {STALL_S:g} s and was killed")
        self._taken_at = max(self._taken_at, child.taken_at)

    def _connect(self) -> SpawnerProcess:
        if self._process and self._owner == os.getpid():
            return self._process
        with self._lock:
            if self._owner != os.getpid():
                self._process, self._owner = None, os.getpid()
            if self._process is None:
                self._process = SpawnerProcess(self._files_limit, on_ready=self._on_ready, on_end=self._on_end)
                self._orphans.spawner_started(self._process.pid)
            return self._process

    def _on_ready(self, process: SpawnerProcess) -> None:
        """Runs in the event loop."""
        if process is self._process:
            self.is_being_replaced = False

    def _on_end(self, process: SpawnerProcess, why: str) -> None:
        """Runs in the event loop."""
        if process is self._process:
            self.is_being_replaced = True
            gevent.spawn(self._replace, process, why)

    def _replace(self, process: SpawnerProcess, why: str = "") -> None:
        """Start another spawner and pass it the jobs that were not taken."""
        with self._lock:
            if process is not self._process:
                return
            self.is_being_replaced = True
            self.replacements += 1
            how = process.how_it_ended()
            log.warning("the process spawner (pid %s) %s; replacing it, runs in progress continue", process.pid, why or how)
            self._process = None
            self._orphans.spawner_ended(process.pid)
            if process.age_s < RESTART_PAUSE_S:
                gevent.sleep(RESTART_PAUSE_S)
            try:
                successor = self._connect()
                for fds in process.take_back():
                    successor.pass_on(fds)
            except OSError as error:
                log.error("the process spawner cannot be replaced: %s; the next run will retry", error.strerror)
            finally:
                process.forget()
        if not self._orphans.is_watched:
            self._orphans.watch(self._lock, self._is_known)

    def _is_known(self, pid: int) -> bool:
        """Whether ``pid`` is the spawner or the supervisor of a run."""
        return pid == self.pid or any(child.supervisor == pid for child in self._children)
