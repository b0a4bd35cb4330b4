"""The CLIs' own sessions on disk. Files are read, copied and deleted in threads: folders with many sessions would block the event loop.

Temporary sessions of this process are *noted*: each has an empty file in a subfolder of ``folder`` that this process keeps locked
while it lives. The next server to start finds and deletes the sessions that a killed one has left.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

import gevent
from gevent.pool import Group

from services.clis.environment import cli_environment
from services.clis.session_files import Extent, SessionFiles
from services.clis.spec import BackendSpec
from services.runner import Runner

log = logging.getLogger("clinvk.sessions")

T = TypeVar("T")

BETWEEN = "~"
"""Separates backend and id in a note's file name; occurs in neither."""
CLOSE_S = 10.0


def with_files(spec: BackendSpec, environ: Mapping[str, str], work: Callable[[SessionFiles, Mapping[str, str]], T]) -> T:
    """Call ``work`` in a thread with the CLI's session files and environment, and return its result."""
    assert spec.session_files is not None, "not known"
    env = cli_environment(spec, environ) | dict(spec.env)
    done: T = gevent.get_hub().threadpool.apply(work, (spec.session_files, env))
    return done


class CliSessions:
    """One per process."""

    def __init__(self, folder: str, runner: Runner, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._runner = runner
        self._environ = environ
        self._mine: str | None = None
        self._lock = -1
        self._deleting = Group()

    def has(self, spec: BackendSpec, id: str) -> bool:
        return with_files(spec, self._environ, lambda files, env: files.has(id, env))

    def extent(self, spec: BackendSpec, id: str) -> Extent | None:
        """The current extent of the session; None if the CLI does not have it."""
        return with_files(spec, self._environ, lambda files, env: files.extent(id, env))

    def copy(self, spec: BackendSpec, id: str, new_id: str, extent: Extent | None = None) -> bool:
        """Copy the session, as it is now or was at ``extent``. False if it does not exist or has changed before ``extent``."""
        return with_files(spec, self._environ, lambda files, env: files.copy(id, new_id, env, extent))

    def note(self, backend: str, id: str) -> None:
        """Record the session as temporary, to be deleted by this process."""
        with open(self._path(backend, id), "w"):
            pass

    def forget(self, backend: str, id: str) -> None:
        """Delete a noted session. Does not wait."""
        self._deleting.spawn(self._forget, backend, id)

    def sweep(self) -> int:
        """Delete the sessions noted by dead processes. Returns their number."""
        with suppress(FileNotFoundError):
            found = [name for name in os.listdir(self._folder) if not name.startswith(".")]
            return sum(self._sweep(os.path.join(self._folder, name)) for name in found)
        return 0

    def close(self) -> None:
        """Wait for pending deletions."""
        self._deleting.join(CLOSE_S)
        if self._mine:
            with suppress(OSError):  # not empty: left to the next start
                os.rmdir(self._mine)
            os.close(self._lock)
            self._mine = None

    def _path(self, backend: str, id: str) -> str:
        if self._mine is None:
            name = uuid.uuid4().hex
            new, mine = os.path.join(self._folder, f".{name}"), os.path.join(self._folder, name)
            os.makedirs(new, mode=0o700)
            self._lock = os.open(new, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            os.rename(new, mine)  # locked before it becomes visible
            self._mine = mine
        return os.path.join(self._mine, f"{backend}{BETWEEN}{id}")

    def _forget(self, backend: str, id: str) -> None:
        try:
            self._delete(backend, id)
            with suppress(FileNotFoundError):
                os.unlink(self._path(backend, id))
        except OSError:
            log.exception("files of a session of %s could not be deleted", backend)

    def _delete(self, backend: str, id: str) -> None:
        spec = self._runner.backends.get(backend)
        if spec and spec.session_files:
            self._runner.evict_session(backend, id)
            with_files(spec, self._environ, lambda files, env: files.delete(id, env))

    def _sweep(self, folder: str) -> int:
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            return 0
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            notes = [name.partition(BETWEEN) for name in os.listdir(folder)]
            for backend, _, id in notes:
                self._delete(backend, id)
            shutil.rmtree(folder, ignore_errors=True)
            return len(notes)
        except BlockingIOError:  # its process is alive
            return 0
        finally:
            os.close(lock)
