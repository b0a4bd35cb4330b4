"""A supervisor: starts one CLI at a time and ends it with everything below it. Standard library alone.

It is a sub-reaper (prctl(2), PR_SET_CHILD_SUBREAPER), so every descendant of its CLI stays *its* descendant, also one that made a
session of its own or whose parent died. Ending a run is ending everything below the supervisor; nothing has to be guessed, and nothing is
missed. The supervisor sees the worker's death as the end of its control socket, so a worker killed with SIGKILL leaves nothing behind
either. Where there is no sub-reaper (macOS), descendants that leave both their parent and their process group escape; that is said
in the documentation.

Worker → supervisors: one byte with the descriptors (job, stdin, stdout, control); any idle supervisor takes it.
Worker → supervisor:  a JSON line ``{"stop": SIGNAL, "grace_s": S}``; the end of the socket means stop at once.
Supervisor → worker:  ``{"supervisor": N}`` when it has taken the job; ``{"pid": N}`` or ``{"errno": N, "path": …}``; then ``{"exit": CODE, "stderr": …, "cpu_s": …, "max_rss_kb": …,
                  "breach": LIMIT}``; ``{"stopping": true}`` at once when it was asked to stop; the end of the socket says that nothing of the run is left.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable

from services.processes.own_process import become_subreaper
from services.processes.procfs import descendants, inside, signal_all, usage

STDERR_TAIL_BYTES = 16 * 1024
TERM_GRACE_S = 0.5
"""How long the rest of a tree may take to leave after SIGTERM, before SIGKILL."""
KILL_DEADLINE_S = 5.0
"""A process that SIGKILL does not end in this time hangs in the kernel; nobody can wait for it."""
READ_BYTES = 65_536
LIMITS_CHECK_S = 0.5
"""How often a run with limits is looked at: it may exceed them for so long."""
CPU_MARGIN_S = 5
"""After the signal that says that its CPU time is over, a process has so much more to end by itself."""
SUPERVISOR_IDLE_S = 300.0
"""A supervisor that a burst of runs left over leaves after so long without a job."""


class Supervisor:
    """One run: its CLI, everything below it, its stderr, and the control socket to the worker."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.main = 0
        self.exit_code: int | None = None
        self.stderr_tail = b""
        self.stderr_fd = -1
        self.limits: dict[str, int] = {}
        self.wrapper = ""
        self.is_held = False
        self.breach: str | None = None
        self.reaped_cpu_s = 0.0

    def run(self, job: dict[str, object], stdin: int, stdout: int, wake: int) -> None:
        """Start the job, watch it, end it. ``wake`` becomes readable when a child dies."""
        self.is_held = bool(job.get("is_held"))
        self.limits, self.wrapper = dict(job.get("limits") or {}), str(job.get("wrapper") or "")  # type: ignore[call-overload]
        self.stderr_fd, stderr_write = os.pipe()
        os.set_blocking(self.stderr_fd, False)
        try:
            process = subprocess.Popen(  # type: ignore[call-overload]
                job["argv"], env=job["env"], cwd=job["cwd"], stdin=stdin, stdout=stdout, stderr=stderr_write,
                start_new_session=True, umask=0o077, preexec_fn=self.limit if self.limits else None,
            )  # fmt: skip
        except OSError as error:
            self.tell({"errno": error.errno, "path": str(error.filename or ""), "message": error.strerror})
            return
        except (ValueError, subprocess.SubprocessError) as error:
            self.tell({"errno": 0, "path": "", "message": str(error)})
            return
        finally:
            for fd in (stdin, stdout, stderr_write):
                os.close(fd)
        process.returncode = 0  # reaped here, not by Popen
        self.main = process.pid
        self.tell({"pid": self.main})
        self.watch(wake)
        self.end_rest()

    def watch(self, wake: int) -> None:
        """Until the CLI has exited, by itself or stopped as the worker asks, or the worker has gone."""
        poll = select.poll()
        for fd in (self.control.fileno(), wake, self.stderr_fd):
            poll.register(fd, select.POLLIN)
        deadline: float | None = None
        while self.exit_code is None:
            wait_ms = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000) + 1)
            if self.limits:
                if self.is_over_limit():
                    return
                wait_ms = min(wait_ms or int(LIMITS_CHECK_S * 1000), int(LIMITS_CHECK_S * 1000))
            ready = poll.poll(wait_ms)
            if deadline is not None and time.monotonic() >= deadline:
                return
            for fd, _ in ready:
                if fd == wake:
                    os.read(wake, READ_BYTES)
                    self.reap()
                elif fd == self.stderr_fd:
                    if not self.read_stderr():
                        poll.unregister(fd)
                else:
                    grace_s = self.obey()
                    if grace_s is None:
                        if self.is_held and self.exit_code is None:  # its stdin has ended with the worker, by which it begins
                            os.kill(self.main, signal.SIGKILL)
                        return
                    deadline = time.monotonic() + grace_s

    def limit(self) -> None:
        """In the child, before the program: what the system itself holds every single process to."""
        for name, kind, margin in (("cpu_secs", resource.RLIMIT_CPU, CPU_MARGIN_S), ("file_bytes", resource.RLIMIT_FSIZE, 0)):
            if name in self.limits:
                hard = resource.getrlimit(kind)[1]
                most = self.limits[name] + margin if hard == resource.RLIM_INFINITY else min(self.limits[name] + margin, hard)
                resource.setrlimit(kind, (min(self.limits[name], most), most))

    def is_over_limit(self) -> bool:
        """Whether the tree uses more than it may; `breach` says of what."""
        used = usage(descendants(os.getpid()))
        used["cpu_secs"] += self.reaped_cpu_s
        self.breach = next((name for name, most in self.limits.items() if used.get(name, 0) > most), None)
        return self.breach is not None

    def obey(self) -> float | None:
        """Pass on the worker's stop signal and return the grace; None: the worker has gone."""
        try:
            data = self.control.recv(READ_BYTES)
        except OSError:
            data = b""
        self.tell({"stopping": True})
        if not data:
            return None
        order = json.loads(data.splitlines()[-1])
        try:
            os.kill(inside(self.main, self.wrapper) if self.wrapper else self.main, order["stop"])
        except ProcessLookupError:
            self.reap()
        return float(order["grace_s"])

    def read_stderr(self) -> bool:
        """Keep the tail of what there is to read; False at the end."""
        try:
            data = os.read(self.stderr_fd, READ_BYTES)
        except BlockingIOError:
            return True
        self.stderr_tail = (self.stderr_tail + data)[-STDERR_TAIL_BYTES:]
        return bool(data)

    def reap(self) -> bool:
        """Reap every dead child, adopted ones included; the CLI's own exit is told to the worker. False: none is left,
        so nothing at all: once the CLI is dead, every descendant is below a child of this sub-reaper."""
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self.reaped_cpu_s += used.ru_utime + used.ru_stime
            if pid == self.main and self.exit_code is None:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else 128 - code
                before = None
                while before is not self.stderr_tail and self.read_stderr():
                    before = self.stderr_tail
                self.tell(
                    {
                        "exit": self.exit_code,
                        "stderr": self.stderr_tail.decode("utf-8", "replace"),
                        "cpu_s": round(used.ru_utime + used.ru_stime, 6),
                        "max_rss_kb": used.ru_maxrss,
                        "breach": self.breach or self.breach_by_signal(),
                    }
                )

    def breach_by_signal(self) -> str | None:
        """The limit by which the system itself ended the CLI."""
        name = {128 + signal.SIGXCPU: "cpu_secs", 128 + signal.SIGXFSZ: "file_bytes"}.get(self.exit_code or 0)
        return name if name in self.limits else None

    def end_rest(self) -> None:
        """End everything below this supervisor: SIGTERM, a moment, then SIGKILL until nothing is left."""
        start = time.monotonic()
        if not self.reap():
            return
        if not self.breach:  # what takes too much gets no time to take more
            signal_all(descendants(os.getpid()), signal.SIGTERM)
        while self.reap() and time.monotonic() < start + KILL_DEADLINE_S:
            if self.breach or time.monotonic() > start + TERM_GRACE_S:
                signal_all(descendants(os.getpid()), signal.SIGKILL)
            time.sleep(0.005)

    def tell(self, message: dict[str, object]) -> bool:
        """Whether the worker still has its end of the run."""
        try:
            self.control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True


def child_signal_pipe() -> int:
    """A descriptor that becomes readable whenever a child dies."""
    read, write = os.pipe()
    for fd in (read, write):
        os.set_blocking(fd, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write)
    return read


def keep_forever(jobs: socket.socket, report: int) -> None:
    """A forked supervisor's whole life: one job after the other, until the worker is gone or nothing came for a while.

    ``report`` is told ``-PID`` when a job is taken and ``+PID`` when this supervisor is idle again.
    """
    become_subreaper()
    wake = child_signal_pipe()
    has_job = waiting_for(jobs)
    while has_job(SUPERVISOR_IDLE_S):
        try:
            data, fds, _, _ = socket.recv_fds(jobs, 1, 4, socket.MSG_DONTWAIT)
        except BlockingIOError:  # another supervisor was faster
            continue
        if not data:
            return
        tell(report, b"-%d\n" % os.getpid())
        job, stdin, stdout, control = fds
        with open(job, "rb") as file, socket.socket(fileno=control) as control_socket:
            supervisor = Supervisor(control_socket)
            if supervisor.tell({"supervisor": os.getpid()}):
                try:
                    supervisor.run(json.load(file), stdin, stdout, wake)
                finally:
                    os.close(supervisor.stderr_fd)
            else:  # the run was given up before it was taken: it must not be started any more
                os.close(stdin)
                os.close(stdout)
        tell(report, b"+%d\n" % os.getpid())


def tell(report: int, words: bytes) -> None:
    """Write to a process that may have been killed: then the run goes on without it."""
    try:
        os.write(report, words)
    except BrokenPipeError:
        return


def waiting_for(jobs: socket.socket) -> Callable[[float], bool]:
    """Waits so many seconds for a job to take. Where the system can, a job wakes one idle supervisor and not all of them:
    a burst may have left hundreds (epoll_ctl(2), EPOLLEXCLUSIVE)."""
    if not hasattr(select, "EPOLLEXCLUSIVE"):
        return lambda timeout_s: bool(select.select([jobs], [], [], timeout_s)[0])
    epoll = select.epoll()
    epoll.register(jobs, select.EPOLLIN | select.EPOLLEXCLUSIVE)
    return lambda timeout_s: bool(epoll.poll(timeout_s))
