"""The private folder of a run. It is locked by the process that created it while that process lives, so that cleanup skips it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile

from services.processes.stdin import close_fd

PREFIX = "clinvk-"
UNLOCKED_PREFIX = ".clinvk-new-"
"""Of a new one until it is locked: cleanup must not know this name."""
HOME_PREFIX = ".clinvk-"
"""Of the folder of `Spares`."""
FOLDER = re.compile(r"\.?clinvk-[0-9a-f]{16}")
MODE = 0o700


def new_path() -> str:
    """A new path for a run's folder."""
    return os.path.join(tempfile.gettempdir(), PREFIX + secrets.token_hex(8))


class RunFolder:
    def __init__(self, path: str, spares: Spares | None = None) -> None:
        """``spares``: where it may come from, and go to. Raises OSError."""
        self.path = path
        self._spares = spares
        lock = spares.take(path) if spares else None
        self._lock = _create(path) if lock is None else lock

    def remove(self) -> None:
        """Idempotent."""
        lock, self._lock = self._lock, -1
        if lock < 0:
            return
        if not (self._spares and self._spares.keep(self.path, lock)):
            _remove(self.path)
        close_fd(lock)


class Spares:
    """Empty folders that earlier runs have left, for later ones, in a folder of their own.

    To make and to remove a folder takes a journaling file system up to milliseconds (ext4 beside other writers: 0.3 ms on average, 3 ms
    at times), in which the event loop stands still; to rename one takes microseconds.
    """

    MOST = 16

    def __init__(self) -> None:
        self._home: RunFolder | None = None
        self._paths: list[str] = []
        self._is_closed = False

    def take(self, path: str) -> int | None:
        """Move one to ``path``; the descriptor with its lock. None if there is none."""
        while self._paths:
            spare = self._paths.pop()
            try:
                lock = _locked(spare)
            except OSError:
                continue
            if _move(spare, lock, path):
                return lock
            close_fd(lock)
            _remove(spare)
        return None

    def keep(self, path: str, lock: int) -> bool:
        """Whether the folder stays for another run."""
        if self._is_closed or len(self._paths) >= self.MOST:
            return False
        if self._home is None:
            self._home = RunFolder(os.path.join(os.path.dirname(path), HOME_PREFIX + secrets.token_hex(8)))
        spare = os.path.join(self._home.path, secrets.token_hex(8))
        if not _move(path, lock, spare):
            return False
        self._paths.append(spare)
        return True

    def close(self) -> None:
        """Remove them, and keep no more."""
        self._is_closed = True
        self._paths.clear()
        if self._home:
            self._home.remove()


def _create(path: str) -> int:
    unlocked = os.path.join(os.path.dirname(path), UNLOCKED_PREFIX + secrets.token_hex(8))
    os.mkdir(unlocked, MODE)
    try:
        lock = _locked(unlocked)
    except OSError:
        os.rmdir(unlocked)
        raise
    os.rename(unlocked, path)
    return lock


def _locked(path: str) -> int:
    """A descriptor of the folder that holds its lock."""
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    with contextlib.suppress(OSError):  # a file system without locks: then cleanup cannot lock it either
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _move(path: str, lock: int, new: str) -> bool:
    """Rename the folder if it is still there, private and empty. Whether that was so."""
    try:
        there, ours = os.lstat(path), os.fstat(lock)
        is_as_new = os.path.samestat(there, ours) and stat.S_IMODE(ours.st_mode) == MODE and not os.listdir(lock)
        if is_as_new:
            os.rename(path, new)
    except OSError:
        return False
    return is_as_new


def _remove(path: str) -> None:
    try:
        os.rmdir(path)  # usually empty
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
