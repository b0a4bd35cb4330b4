"""The spawner's program: preforks supervisors, and cleans up after those that were killed. Standard library only.

Forking the large gevent process of a worker would block its event loop for 2 to 8 ms; forking this small one does not. Idle
supervisors wait on the same socket for the next job, so a run does not wait for a fork.

``python -I -S spawner_program.py JOBS ALIVE [OPEN_FILES]``: descriptors of the job socket and of a socket whose EOF means that the
worker has ended, and the soft limit of open files.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import socket
import sys

if __name__ == "__main__":  # started with -I: sys.path has the standard library only
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from services.processes.own_process import become_subreaper, forbid_inspection
from services.processes.procfs import descendants, signal_all
from services.processes.reserve import Reserve
from services.processes.supervisor import READ_BYTES, child_signal_pipe, notify, serve_jobs

FORK_RETRY_S = 0.2
STRAYS_RETRY_S = 0.02


def fork_supervisor(jobs: socket.socket, shortage: int, reserve: Reserve, ours: list[int]) -> tuple[int, int]:
    """Fork a supervisor, which closes ``ours``, and return its PID and its place in the reserve. The child never returns."""
    index = reserve.add()
    try:
        pid = os.fork()
    except OSError:
        reserve.remove(index)
        raise
    if pid:
        return pid, index
    status = 1
    try:
        for fd in ours:
            os.close(fd)
        serve_jobs(jobs, shortage, reserve, index)
        status = 0
    except BaseException:  # outermost handler of this process
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def spawn_forever(jobs: socket.socket, alive: int) -> None:
    """Keep idle supervisors available until ``alive`` reaches EOF (the worker has ended) and the last supervisor has exited."""
    forbid_inspection()  # jobs contain the environments of CLIs
    become_subreaper()
    wake = child_signal_pipe()
    shortages, shortage = os.pipe()
    reserve = Reserve()
    gc.freeze()
    supervisors: dict[int, int] = {}
    """By PID, their places in the reserve."""
    has_strays = False
    watched = [wake, shortages, alive]
    notify(alive, b"!")
    while alive in watched or supervisors:
        wait_s = STRAYS_RETRY_S if has_strays else None
        while alive in watched and reserve.is_short:
            try:
                pid, index = fork_supervisor(jobs, shortage, reserve, [shortages, alive])
            except OSError:  # out of processes: a run waits until a supervisor becomes idle
                wait_s = FORK_RETRY_S
                break
            supervisors[pid] = index
        ready = select.select(watched, [], [], wait_s)[0]
        if shortages in ready:
            os.read(shortages, READ_BYTES)
        if wake in ready:
            os.read(wake, READ_BYTES)
            has_strays |= reap_supervisors(supervisors, reserve)
        has_strays = has_strays and end_strays(supervisors)
        if alive in ready and has_ended(alive):
            watched.remove(alive)


def has_ended(alive: int) -> bool:
    """Whether the worker has ended. If not, it has asked whether this process is alive, and gets its answer."""
    try:
        is_asked = os.read(alive, READ_BYTES)
    except ConnectionResetError:  # it was killed before it had read the last answer
        return True
    if is_asked:
        notify(alive, b"!")
    return not is_asked


def reap_supervisors(supervisors: dict[int, int], reserve: Reserve) -> bool:
    """Remove the supervisors that have exited. Returns whether one was killed, whose run this sub-reaper then adopts."""
    was_killed = False
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            break
        index = supervisors.pop(pid, None)
        if index is not None:
            reserve.remove(index)
            was_killed |= status != 0
    return was_killed


def end_strays(supervisors: dict[int, int]) -> bool:
    """Kill processes without a supervisor. Returns whether there were any: they may have started others in the meantime."""
    strays = descendants(os.getpid(), without=supervisors)
    signal_all(strays, signal.SIGKILL)
    return bool(strays)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        # This program ends with the worker. A handler, not SIG_IGN: the CLI would inherit ignored signals.
        signal.signal(number, lambda *_: None)
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[3]), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    spawn_forever(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
