"""What a supervisor receives for one run: the job, and the descriptors of the CLI and the supervisor."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Sequence

from services.processes.bubblewrap import PROGRAM, wrapped
from services.processes.child import Child
from services.processes.confinement import Confinement
from services.processes.descriptors import close_fd, plain_socketpair

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


def connected(program: str, job: bytes, stdin: bytes | None, mark: str) -> tuple[Child, list[int]]:
    """A child that has not started, and the supervisor's descriptors, which the caller closes. On OSError none stays open."""
    ours: list[int] = []
    theirs: list[int] = []
    try:
        theirs.append(_file(job))
        stdin_write = None
        if stdin is None:
            read, stdin_write = os.pipe()
            theirs.append(read)
            ours.append(stdin_write)
        else:
            theirs.append(_file(stdin))
        stdout_read, stdout_write = _wide_pipe()
        theirs.append(stdout_write)
        ours.append(stdout_read)
        control, their_control = plain_socketpair()
        theirs.append(their_control.detach())
        return Child(program, control, stdout_read, stdin_write, mark), theirs
    except BaseException:
        for fd in (*ours, *theirs):
            close_fd(fd)
        raise


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
    view, written = memoryview(content), 0
    while written < len(view):
        written += os.pwrite(fd, view[written:], written)  # which leaves the file's position at its beginning
    return fd
