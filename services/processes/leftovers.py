"""Clean up processes and folders of a server that was killed together with its spawner and supervisors. Those of a running
server are never touched."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from time import monotonic

import gevent

from services.processes.marks import FOLDER, MARK, has_owner, start_time
from services.processes.procfs import descendants, signal_all

TERM_GRACE_S = 1.0
KILL_DEADLINE_S = 5.0
POLL_S = 0.02


def end_leftover_processes() -> int:
    """End every process tree whose server is dead. Returns the number of processes. Linux only."""
    return _end(lambda value: not has_owner(value))


def end_marked(mark: str) -> int:
    """End the remaining processes of one run of this server. Returns their number."""
    return _end(mark.__eq__)


def _end(matches: Callable[[str], bool]) -> int:
    found = remaining = _find(matches)
    start = monotonic()
    number: int = signal.SIGTERM
    while remaining and monotonic() < start + KILL_DEADLINE_S:
        signal_all(remaining, number)
        gevent.sleep(POLL_S)
        number = signal.SIGKILL if monotonic() > start + TERM_GRACE_S else 0
        remaining = _find(matches)
    return len(found)


def end_tree(root: int) -> None:
    """Kill the descendants of ``root``, then ``root``, which stays the parent of processes started in the meantime."""
    deadline = monotonic() + KILL_DEADLINE_S
    while (below := descendants(root)) and monotonic() < deadline:
        signal_all(below, signal.SIGKILL)
        gevent.sleep(POLL_S)
    signal_all([root], signal.SIGKILL)


def remove_leftover_folders() -> int:
    """Remove the run folders that are not in use. Returns their number."""
    count = 0
    with os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if FOLDER.fullmatch(entry.name) and _is_abandoned(entry):
                shutil.rmtree(entry.path, ignore_errors=True)
                count += not os.path.exists(entry.path)
    return count


def _find(matches: Callable[[str], bool]) -> list[int]:
    """`_marked` in a thread: it reads a file of every process on the system, which would block the event loop."""
    found: list[int] = gevent.get_hub().threadpool.apply(_marked, (matches,))
    return found


def _marked(matches: Callable[[str], bool]) -> list[int]:
    """The live processes with a matching mark, and their descendants."""
    if not os.path.isdir("/proc/self"):
        return []
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    marked = [pid for pid in pids if (value := _mark_of(pid)) and matches(value) and start_time(pid)]
    below = [pid for parent in marked for pid in descendants(parent)]
    return list(dict.fromkeys([*marked, *below]))


def _mark_of(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environ = file.read()
    except OSError:  # it has exited, or belongs to another user
        return None
    start = f"{MARK}=".encode()
    found = next((entry for entry in environ.split(b"\0") if entry.startswith(start)), None)
    return found[len(start) :].decode("ascii", "replace") if found else None


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    """Whether the folder is owned by this user, not a symlink, and not locked (`services.processes.marks.RunFolder`)."""
    if not entry.is_dir(follow_symlinks=False) or entry.stat(follow_symlinks=False).st_uid != os.getuid():
        return False
    try:
        folder = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(folder)
    return True
