"""What an earlier run of the server left behind, because it was killed together with all that would have cleaned up: found
and ended. What belongs to a server that lives is never touched."""

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
    """End every process whose server is dead, with all below it; how many there were. Only Linux tells whose they are."""
    return _end(lambda value: not has_owner(value))


def end_marked(mark: str) -> int:
    """End what is left of one run of this server."""
    return _end(mark.__eq__)


def _end(is_meant: Callable[[str], bool]) -> int:
    found = all_left = _look(is_meant)
    start = monotonic()
    number: int = signal.SIGTERM
    while all_left and monotonic() < start + KILL_DEADLINE_S:
        signal_all(all_left, number)
        gevent.sleep(POLL_S)
        number = signal.SIGKILL if monotonic() > start + TERM_GRACE_S else 0
        all_left = _look(is_meant)
    return len(found)


def end_tree(root: int) -> None:
    """Kill everything below ``root``, then ``root``: it stays the parent of whatever is started meanwhile."""
    deadline = monotonic() + KILL_DEADLINE_S
    while (below := descendants(root)) and monotonic() < deadline:
        signal_all(below, signal.SIGKILL)
        gevent.sleep(POLL_S)
    signal_all([root], signal.SIGKILL)


def remove_leftover_folders() -> int:
    """Remove the run folders that nobody uses; how many there were."""
    count = 0
    with os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if FOLDER.fullmatch(entry.name) and _is_abandoned(entry):
                shutil.rmtree(entry.path, ignore_errors=True)
                count += not os.path.exists(entry.path)
    return count


def _look(is_meant: Callable[[str], bool]) -> list[int]:
    """`_marked`, in a thread: it reads a file of every process of the system, which would stop the event loop."""
    found: list[int] = gevent.get_hub().threadpool.apply(_marked, (is_meant,))
    return found


def _marked(is_meant: Callable[[str], bool]) -> list[int]:
    """The living processes with such a mark, and what is below them."""
    if not os.path.isdir("/proc/self"):
        return []
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    marked = [pid for pid in pids if (value := _mark_of(pid)) and is_meant(value) and start_time(pid)]
    below = [pid for parent in marked for pid in descendants(parent)]
    return list(dict.fromkeys([*marked, *below]))


def _mark_of(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environ = file.read()
    except OSError:  # it has gone, or is another user's
        return None
    start = f"{MARK}=".encode()
    found = next((entry for entry in environ.split(b"\0") if entry.startswith(start)), None)
    return found[len(start) :].decode("ascii", "replace") if found else None


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    """Ours, a real folder, and not locked: see `services.processes.marks.RunFolder`."""
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
