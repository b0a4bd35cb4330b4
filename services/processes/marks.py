"""Whose a process or a folder is: marks that outlive their owner, and tell afterwards that it has gone.

A CLI is started with a variable that names its server's process; what the CLI starts inherits it, in whatever session and
below whatever parent. A run's folder is locked by the process that made it, for as long as that process lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import tempfile
from functools import cache

MARK = "RUN_OF_CLINVK"
"""Not ``CLINVK_*``: those are the server's own, and no CLI gets one."""
FOLDER_PREFIX = "clinvk-"
FOLDER = re.compile(FOLDER_PREFIX + "[0-9a-f]{16}")
UNLOCKED_PREFIX = ".clinvk-new-"


def new_mark() -> str:
    """The value of `MARK` for one run of this process: its namespace, its id, the time of its start; then the run's own part."""
    return f"{_process(os.getpid())}.{secrets.token_hex(8)}"


@cache
def _process(pid: int) -> str:
    return f"{_namespace()}.{pid}.{start_time(pid) or 0}"


def has_owner(value: str) -> bool:
    """Whether the process that set this mark lives. What cannot be told from here (another container's) counts as alive."""
    namespace, pid, started = [*value.split("."), "", ""][:3]
    if namespace != _namespace() or not pid.isdecimal() or not started.isdecimal():
        return True
    return start_time(int(pid)) == int(started)


def start_time(pid: int) -> int | None:
    """When the process started, in the system's ticks: with it an id is unique. None: there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


@cache
def _namespace() -> str:
    """Process ids mean nothing outside it. Empty where the system has none."""
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return ""


class RunFolder:
    """A private folder, locked as long as it is in use, so that whoever cleans up sees that it is."""

    def __init__(self, path: str) -> None:
        self.path = path
        # Under its own name it is locked from its first moment on.
        unlocked = os.path.join(os.path.dirname(path), UNLOCKED_PREFIX + secrets.token_hex(8))
        os.mkdir(unlocked, 0o700)
        try:
            self._lock = os.open(unlocked, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            os.rmdir(unlocked)
            raise
        with contextlib.suppress(OSError):  # a file system without locks: then nobody else takes it for left behind either
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(unlocked, path)

    def remove(self) -> None:
        """May be called twice."""
        if self._lock < 0:
            return
        try:
            os.rmdir(self.path)  # most runs leave nothing in it
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1


def new_path() -> str:
    """Where the next run's folder will be."""
    return os.path.join(tempfile.gettempdir(), FOLDER_PREFIX + secrets.token_hex(8))
