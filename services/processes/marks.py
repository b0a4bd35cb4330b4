"""Ownership of processes and folders, detectable after the owner has died.

A CLI is started with an environment variable that identifies its server process. Its descendants inherit it, whatever
their session or parent. A run's folder is locked by the process that created it while that process lives.
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

from services.processes.descriptors import close_fd

MARK = "RUN_OF_CLINVK"
"""Not ``CLINVK_*``: those configure the server and are not passed to CLIs."""
FOLDER_PREFIX = "clinvk-"
FOLDER = re.compile(FOLDER_PREFIX + "[0-9a-f]{16}")
UNLOCKED_PREFIX = ".clinvk-new-"


def new_mark() -> str:
    """The value of `MARK` for one run: PID namespace, PID and start time of this process, then a random part."""
    return f"{_process(os.getpid())}.{secrets.token_hex(8)}"


@cache
def _process(pid: int) -> str:
    return f"{_namespace()}.{pid}.{start_time(pid) or 0}"


def has_owner(value: str) -> bool:
    """Whether the process that set this mark is alive. Unknown ones (in another container) count as alive."""
    namespace, pid, started = [*value.split("."), "", ""][:3]
    if namespace != _namespace() or not pid.isdecimal() or not started.isdecimal():
        return True
    return start_time(int(pid)) == int(started)


def start_time(pid: int) -> int | None:
    """Start time of the process in clock ticks, which makes a PID unique. None: no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


@cache
def _namespace() -> str:
    """This process's PID namespace. Empty on systems without namespaces."""
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return ""


class RunFolder:
    """A private folder, locked while it is in use, so that cleanup skips it."""

    def __init__(self, path: str) -> None:
        self.path = path
        # Locked before it is renamed to its final name.
        parent, name = os.path.split(path)
        unlocked = os.path.join(parent, UNLOCKED_PREFIX + name)
        os.mkdir(unlocked, 0o700)
        try:
            self._lock = os.open(unlocked, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            os.rmdir(unlocked)
            raise
        with contextlib.suppress(OSError):  # a file system without locks: then cleanup cannot lock it either
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(unlocked, path)

    def remove(self) -> None:
        """Idempotent."""
        if self._lock < 0:
            return
        try:
            os.rmdir(self.path)  # usually empty
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
        close_fd(self._lock)
        self._lock = -1


def new_path() -> str:
    """A new path for a run's folder."""
    return os.path.join(tempfile.gettempdir(), FOLDER_PREFIX + secrets.token_hex(8))
