"""The worker's handle on its spawner: starts CLIs through it, starts it again if it has gone."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from gevent.lock import RLock

from services.processes.bubblewrap import PROGRAM, wrapped
from services.processes.child import Child, close_fd
from services.processes.confinement import Confinement
from services.processes.owner import MARK, new_mark

FORKER = Path(__file__).with_name("forker.py")
CLOSE_DEADLINE_S = 10.0
HAND_OVER_TIMEOUT_S = 5.0

# Node writes to a full pipe later, and Gemini CLI exits without waiting for that: what did not fit is lost, with exit code 0
# (0.61.0: it echoes the prompt as one line, and with one of 300 KB and a fast model its last line went missing in 1 of 2 runs
# with Linux's 64 KiB, in none with 1 MiB, which is what an unprivileged process may ask for).
STDOUT_PIPE_BYTES = 1 << 20


class Spawner:
    """Starts processes. One a worker; a fork of the worker gets its own at its first start."""

    def __init__(self, files_limit: int | None = None) -> None:
        """``files_limit``: of open files of a CLI, where the server's own was raised."""
        self._files_limit = files_limit
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._alive: socket.socket
        self._owner = 0
        self._lock = RLock()

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
        """Start ``argv`` in a session of its own, with ``stdin`` to read; with None the child gets a pipe for `Child.send`.

        ``is_held``: the end of that pipe is what it waits for to begin, so it is killed, not told to leave, where this process dies.

        Raises BackendUnavailable when the program cannot be started, with the reason; OSError when the server has no descriptor left.
        """
        mark = new_mark()
        job = json.dumps(_job(argv, {**env, MARK: mark}, cwd) | {"is_held": is_held}).encode()
        with contextlib.ExitStack() as theirs:
            child, fds = _connected(argv[0], job, stdin, mark, theirs)
            try:
                self._hand_over(fds)
                child.wait_started(timeout_s)
            except BaseException:
                child.close()
                raise
        return child

    def warm_up(self) -> None:
        """Start the spawner now, so that the first run need not wait for it."""
        self._connect()

    def close(self) -> None:
        """Let the spawner go; it leaves when its runs have ended, which their control sockets have brought about."""
        if self._socket and self._process and self._owner == os.getpid():
            for ours in (self._socket, self._alive):
                ours.shutdown(socket.SHUT_RDWR)
                ours.close()
            self._process.wait(timeout=CLOSE_DEADLINE_S)
        self._socket = self._process = None

    def _hand_over(self, fds: list[int]) -> None:
        for attempt in range(2):
            worker_side = self._connect()
            try:
                socket.send_fds(worker_side, [b"j"], fds)  # gevent's: waits while the socket is full, and lets others run
                return
            except (BrokenPipeError, ConnectionResetError):  # the spawner was killed; nothing was handed over
                self.close()
                if attempt:
                    raise

    def _connect(self) -> socket.socket:
        with self._lock:
            if self._socket is None or self._owner != os.getpid():
                ours, jobs = socket.socketpair()
                self._alive, alive = socket.socketpair()
                with jobs, alive:
                    fds = [jobs.fileno(), alive.fileno()]
                    self._process = subprocess.Popen(
                        [sys.executable, "-I", "-S", str(FORKER), *map(str, fds), *([str(self._files_limit)] if self._files_limit else [])],
                        pass_fds=fds, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, env={},
                    )  # fmt: skip
                ours.settimeout(HAND_OVER_TIMEOUT_S)
                self._socket, self._owner = ours, os.getpid()
            return self._socket


def _job(argv: Sequence[str], env: dict[str, str], cwd: str) -> dict[str, object]:
    """What the keeper is to start, within the confinement that ``env`` carries."""
    confinement = Confinement.take(env)
    job: dict[str, object] = {"argv": list(argv), "env": env, "cwd": cwd}
    if limits := confinement.limits.given():
        job["limits"] = limits
    if confinement.sandbox:
        temporary = [confinement.run_dir, env.get("TMPDIR", "")]
        sandboxed = wrapped(argv, cwd=cwd, writable=confinement.writable, temporary=temporary, hidden=confinement.hidden)
        job |= {"argv": sandboxed, "wrapper": PROGRAM}
    return job


def _connected(program: str, job: bytes, stdin: bytes | None, mark: str, theirs: contextlib.ExitStack) -> tuple[Child, list[int]]:
    """A child that has not started, and the keeper's descriptors, which ``theirs`` closes. All of them, or none and OSError."""
    with contextlib.ExitStack() as ours:
        fds = []
        for fd in (_file(job), *([_file(stdin)] if stdin is not None else [])):
            theirs.callback(close_fd, fd)
            fds.append(fd)
        stdin_write = None
        if stdin is None:
            read, stdin_write = os.pipe()
            theirs.callback(close_fd, read)
            ours.callback(close_fd, stdin_write)
            fds.append(read)
        stdout_read, stdout_write = _wide_pipe()
        theirs.callback(close_fd, stdout_write)
        ours.callback(close_fd, stdout_read)
        control, their_control = socket.socketpair()
        theirs.enter_context(their_control)
        ours.enter_context(control)
        child = Child(program, control, stdout_read, stdin_write, mark)
        ours.pop_all()
        return child, [*fds, stdout_write, their_control.fileno()]


def _wide_pipe() -> tuple[int, int]:
    """A pipe that holds `STDOUT_PIPE_BYTES` where the system grants it."""
    read, write = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # EPERM: past the user's pipe-user-pages-soft; it works as it is
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, STDOUT_PIPE_BYTES)
    return read, write


def _file(content: bytes) -> int:
    """A descriptor of an unnamed file that holds ``content``: any size, never a full pipe to wait for."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("clinvk")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
