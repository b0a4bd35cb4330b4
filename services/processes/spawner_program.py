"""The program that a worker's spawner is: it forks supervisors beforehand, and ends what a killed one has left. Standard library alone.

Forking this small process does not stop the worker's event loop, while forking a large gevent process blocks it for 2 to 8 ms. Its
supervisors wait at the same socket for the next job, so a run does not wait for a fork.

``python -I -S spawner_program.py JOBS ALIVE [OPEN_FILES]``: the socket that jobs come from, a descriptor that ends with the worker, and the soft
limit of open files.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import socket
import sys

if __name__ == "__main__":  # started with -I: nothing is on the path but the standard library
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from services.processes.own_process import become_subreaper, forbid_inspection
from services.processes.procfs import descendants, signal_all
from services.processes.supervisor import READ_BYTES, child_signal_pipe, keep_forever, tell

IDLE_SUPERVISORS = 2
"""Forked beforehand, so that a run does not wait for a fork."""
FORK_RETRY_S = 0.2
STRAYS_RETRY_S = 0.02


def fork_supervisor(jobs: socket.socket, report: int, ours: list[int]) -> int:
    """The pid of a new supervisor, which closes ``ours``. The forked side never returns."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        for fd in ours:
            os.close(fd)
        keep_forever(jobs, report)
        status = 0
    except BaseException:  # the border of this process
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def spawn_forever(jobs: socket.socket, alive: int) -> None:
    """See to it that there is always an idle supervisor, until ``alive`` ends with the worker and the last supervisor has left."""
    forbid_inspection()  # jobs hold the environments of CLIs
    become_subreaper()
    wake = child_signal_pipe()
    reports, report = os.pipe()
    gc.freeze()
    is_idle: dict[int, bool] = {}
    has_strays = False
    watched = [wake, reports, alive]
    tell(alive, b"!")
    while alive in watched or is_idle:
        wait_s = STRAYS_RETRY_S if has_strays else None
        while alive in watched and sum(is_idle.values()) < IDLE_SUPERVISORS:
            try:
                is_idle[fork_supervisor(jobs, report, [reports, alive])] = True
            except OSError:  # the system has no process left: a run waits for a supervisor that becomes idle
                wait_s = FORK_RETRY_S
                break
        ready = select.select(watched, [], [], wait_s)[0]
        if reports in ready:
            take_reports(os.read(reports, READ_BYTES), is_idle)
        if wake in ready:
            os.read(wake, READ_BYTES)
            has_strays |= reap_supervisors(is_idle)
        has_strays = has_strays and end_strays(is_idle)
        if alive in ready:
            if os.read(alive, READ_BYTES):
                tell(alive, b"!")
            else:
                watched.remove(alive)


def take_reports(told: bytes, is_idle: dict[int, bool]) -> None:
    """A supervisor that has left stays forgotten: its last words may be read after it was reaped, and the spawner waits for those it knows."""
    for report in told.split():
        if (pid := int(report[1:])) in is_idle:
            is_idle[pid] = report.startswith(b"+")


def reap_supervisors(supervisors: dict[int, bool]) -> bool:
    """Forget the supervisors that have left; whether one of them was killed, which leaves its run to this sub-reaper."""
    was_killed = False
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            break
        was_killed |= supervisors.pop(pid, None) is not None and status != 0
    return was_killed


def end_strays(supervisors: dict[int, bool]) -> bool:
    """Kill what is below no supervisor; whether there was anything, which may have started more meanwhile."""
    strays = descendants(os.getpid(), without=supervisors)
    signal_all(strays, signal.SIGKILL)
    return bool(strays)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        # This program ends when the worker does. A handler, not SIG_IGN: what is ignored stays ignored in the CLI.
        signal.signal(number, lambda *_: None)
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[3]), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    spawn_forever(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
