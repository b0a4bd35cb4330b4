"""A supervisor: runs one CLI at a time and ends it with its process tree. Standard library only.

It is a sub-reaper (prctl(2), PR_SET_CHILD_SUBREAPER), so every descendant of its CLI stays *its* descendant, even one with a
session of its own or whose parent died. Ending a run means ending every descendant of the supervisor, so no process is missed.
The supervisor sees EOF on its control socket when the worker dies, so even a worker killed with SIGKILL leaves no process behind.
Without sub-reapers (macOS), descendants that leave both their parent and their process group escape; the documentation says so.

Worker → supervisors: one byte with the descriptors (job, stdin, stdout, control); any idle supervisor takes it.
Worker → supervisor:  a JSON line ``{"stop": SIGNAL, "grace_s": S}``; EOF means stop at once.
Supervisor → worker:  ``{"supervisor": N}`` when it has taken the job; ``{"pid": N}`` or ``{"errno": N, "path": …}``; then
                      ``{"exit": CODE, "stderr": …, "cpu_s": …, "max_rss_kb": …, "breach": LIMIT, "is_gone": BOOL}``;
                      ``{"stopping": true}`` acknowledges a stop. ``is_gone`` or EOF: every process of the run has ended.
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
from services.processes.reserve import Reserve

STDERR_TAIL_BYTES = 16 * 1024
TERM_GRACE_S = 0.5
"""Grace period of the remaining process tree between SIGTERM and SIGKILL."""
KILL_DEADLINE_S = 5.0
"""A process that SIGKILL does not end in this time hangs in the kernel. Stop waiting for it."""
READ_BYTES = 65_536
LIMITS_CHECK_S = 0.5
"""Interval between checks of a run's limits."""
CPU_MARGIN_S = 5
"""CPU time that a process has after SIGXCPU to end by itself."""
SUPERVISOR_IDLE_S = 300.0
"""A supervisor that a burst of runs has left (`services.processes.reserve`) exits after so long without a job."""


class Supervisor:
    """One run: its CLI and process tree, its stderr, and the control socket to the worker."""

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
        """Start the job, watch it and end its process tree. ``wake`` becomes readable when a child dies."""
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
            self.send({"errno": error.errno, "path": str(error.filename or ""), "message": error.strerror})
            return
        except (ValueError, subprocess.SubprocessError) as error:
            self.send({"errno": 0, "path": "", "message": str(error)})
            return
        finally:
            for fd in (stdin, stdout, stderr_write):
                os.close(fd)
        process.returncode = 0  # reaped here, not by Popen
        self.main = process.pid
        self.send({"pid": self.main})
        self.watch(wake)
        self.end_rest()

    def watch(self, wake: int) -> None:
        """Wait until the CLI has exited, its grace period or a limit has passed, or the worker has ended."""
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
                    grace_s = self.handle_stop()
                    if grace_s is None:
                        if self.is_held and self.exit_code is None:  # EOF on its stdin, closed with the worker, would start it
                            os.kill(self.main, signal.SIGKILL)
                        return
                    deadline = time.monotonic() + grace_s

    def limit(self) -> None:
        """Runs in the child before exec: set the limits that the kernel enforces per process."""
        for name, kind, margin in (("cpu_secs", resource.RLIMIT_CPU, CPU_MARGIN_S), ("file_bytes", resource.RLIMIT_FSIZE, 0)):
            if name in self.limits:
                hard = resource.getrlimit(kind)[1]
                most = self.limits[name] + margin if hard == resource.RLIM_INFINITY else min(self.limits[name] + margin, hard)
                resource.setrlimit(kind, (min(self.limits[name], most), most))

    def is_over_limit(self) -> bool:
        """Whether the process tree exceeds a limit. Sets `breach` to its name."""
        used = usage(descendants(os.getpid()))
        used["cpu_secs"] += self.reaped_cpu_s
        self.breach = next((name for name, most in self.limits.items() if used.get(name, 0) > most), None)
        return self.breach is not None

    def handle_stop(self) -> float | None:
        """Forward the worker's stop signal and return the grace period in seconds; None if the worker has ended."""
        try:
            data = self.control.recv(READ_BYTES)
        except OSError:
            data = b""
        self.send({"stopping": True})
        if not data:
            return None
        order = json.loads(data.splitlines()[-1])
        try:
            os.kill(inside(self.main, self.wrapper) if self.wrapper else self.main, order["stop"])
        except ProcessLookupError:
            self.reap()
        return float(order["grace_s"])

    def read_stderr(self) -> bool:
        """Read and keep the tail of stderr; False at EOF."""
        try:
            data = os.read(self.stderr_fd, READ_BYTES)
        except BlockingIOError:
            return True
        self.stderr_tail = (self.stderr_tail + data)[-STDERR_TAIL_BYTES:]
        return bool(data)

    def reap(self) -> bool:
        """Reap dead children, including adopted ones, and report the CLI's exit to the worker. Returns False if no child is
        left, and so no descendant: all of them are below a child of this sub-reaper."""
        of_main: resource.struct_rusage | None = None
        has_children = True
        while has_children:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                has_children = False
                continue
            if pid == 0:
                break
            self.reaped_cpu_s += used.ru_utime + used.ru_stime
            if pid == self.main and self.exit_code is None:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code, of_main = code if code >= 0 else 128 - code, used
        if of_main:
            self.report_exit(of_main, is_gone=not has_children)
        return has_children

    def report_exit(self, used: resource.struct_rusage, *, is_gone: bool) -> None:
        before = None
        while before is not self.stderr_tail and self.read_stderr():
            before = self.stderr_tail
        self.send(
            {
                "exit": self.exit_code,
                "stderr": self.stderr_tail.decode("utf-8", "replace"),
                "cpu_s": round(used.ru_utime + used.ru_stime, 6),
                "max_rss_kb": used.ru_maxrss,
                "breach": self.breach or self.breach_by_signal(),
                "is_gone": is_gone,
            }
        )

    def breach_by_signal(self) -> str | None:
        """The limit for which the kernel ended the CLI, from its signal."""
        name = {128 + signal.SIGXCPU: "cpu_secs", 128 + signal.SIGXFSZ: "file_bytes"}.get(self.exit_code or 0)
        return name if name in self.limits else None

    def end_rest(self) -> None:
        """End all descendants: SIGTERM, a grace period, then SIGKILL until none is left."""
        start = time.monotonic()
        if not self.reap():
            return
        if not self.breach:  # no grace period after a limit was exceeded
            signal_all(descendants(os.getpid()), signal.SIGTERM)
        while self.reap() and time.monotonic() < start + KILL_DEADLINE_S:
            if self.breach or time.monotonic() > start + TERM_GRACE_S:
                signal_all(descendants(os.getpid()), signal.SIGKILL)
            time.sleep(0.005)

    def send(self, message: dict[str, object]) -> bool:
        """Send ``message`` to the worker. Returns False if the worker has closed the socket."""
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


def serve_jobs(jobs: socket.socket, shortage: int, reserve: Reserve, index: int) -> None:
    """Main loop of a forked supervisor: one job after the other, until the worker has ended, no job came for a while, or enough other
    supervisors wait for one.

    ``index``: its byte of ``reserve``. Writes to ``shortage`` when too few wait for the next job.
    """
    become_subreaper()
    wake = child_signal_pipe()
    wait_for_job = job_waiter(jobs)
    while wait_for_job(SUPERVISOR_IDLE_S):
        try:
            data, fds, _, _ = socket.recv_fds(jobs, 1, 4, socket.MSG_DONTWAIT)
        except BlockingIOError:  # another supervisor was faster
            continue
        if not data:
            return
        reserve.leave(index)
        if reserve.is_short:
            notify(shortage, b"!")
        job, stdin, stdout, control = fds
        with open(job, "rb") as file, socket.socket(fileno=control) as control_socket:
            supervisor = Supervisor(control_socket)
            if supervisor.send({"supervisor": os.getpid()}):
                try:
                    supervisor.run(json.load(file), stdin, stdout, wake)
                finally:
                    os.close(supervisor.stderr_fd)
            else:  # the run was abandoned before it was taken: do not start it
                os.close(stdin)
                os.close(stdout)
        if reserve.is_full:
            return
        reserve.wait(index)


def notify(pipe: int, data: bytes) -> None:
    """Write to a process that may have been killed; the run continues without it."""
    try:
        os.write(pipe, data)
    except BrokenPipeError:
        return


def job_waiter(jobs: socket.socket) -> Callable[[float], bool]:
    """A function that waits up to so many seconds for a job and returns whether there is one. Where supported, a job wakes a
    single idle supervisor, not the hundreds that a burst may have left (epoll_ctl(2), EPOLLEXCLUSIVE)."""
    if not hasattr(select, "EPOLLEXCLUSIVE"):
        return lambda timeout_s: bool(select.select([jobs], [], [], timeout_s)[0])
    epoll = select.epoll()
    epoll.register(jobs, select.EPOLLIN | select.EPOLLEXCLUSIVE)
    return lambda timeout_s: bool(epoll.poll(timeout_s))
