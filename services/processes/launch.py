"""What a supervisor receives for one run: the job, and the descriptors of the CLI and the supervisor."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Sequence

from services.processes.bubblewrap import PROGRAM, wrapped
from services.processes.child import Child
from services.processes.confinement import Confinement
from services.processes.stdin import close_fd

# Node defers writes to a full pipe, and Gemini CLI exits without waiting for them: output that did not fit is lost, with exit code 0
# (0.61.0: it echoes the prompt as one line; with a prompt of 300 KB and a fast model its last line was missing in 1 of 2 runs
# with Linux's default of 64 KiB, in none with 1 MiB, the maximum for an unprivileged process).
STDOUT_PIPE_BYTES = 1 << 20


def job_of(argv: Sequence[str], env: dict[str, str], cwd: str, *, is_held: bool) -> bytes:
    """The job as JSON, with the confinement taken from ``env`` applied."""
    confinement = Confinement.take(env)
    job: dict[str, object] = {"argv": list(argv), "env": env, "cwd": cwd, "is_held": is_held}
    if limits := confinement.limits.given():
        job["limits"] = limits
    if confinement.sandbox:
        temporary = [confinement.run_dir, env.get("TMPDIR", "")]
        sandboxed = wrapped(argv, cwd=cwd, writable=confinement.writable, temporary=temporary, hidden=confinement.hidden)
        job |= {"argv": sandboxed, "wrapper": PROGRAM}
    return json.dumps(job).encode()


def connected(program: str, job: bytes, stdin: bytes | None, mark: str, theirs: contextlib.ExitStack) -> tuple[Child, list[int]]:
    """A child that has not started, and the supervisor's descriptors, which ``theirs`` closes. On OSError none stays open."""
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
    """A pipe with a capacity of `STDOUT_PIPE_BYTES` where the system permits it."""
    read, write = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # EPERM: over the user's pipe-user-pages-soft; keep the default size
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, STDOUT_PIPE_BYTES)
    return read, write


def _file(content: bytes) -> int:
    """A descriptor of an anonymous file with ``content``. Unlike a pipe it never blocks the writer."""
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
