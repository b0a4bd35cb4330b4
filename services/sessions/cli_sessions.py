"""The CLIs' own sessions on disk: looked at, copied, deleted in threads, because folders of many sessions would stop the event loop.

Those that are nobody's but this process's, kept for a while, are *noted*: each has an empty file below ``folder``, in a folder that
this process holds locked as long as it lives. So the next start finds what a killed server has left, and deletes it.
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
"""Between backend and id in a note's name: in neither."""
CLOSE_S = 10.0


def with_files(spec: BackendSpec, environ: Mapping[str, str], work: Callable[[SessionFiles, Mapping[str, str]], T]) -> T:
    """What ``work`` gives for the CLI's files and its environment."""
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
        """How far the session goes now; None where the CLI has none."""
        return with_files(spec, self._environ, lambda files, env: files.extent(id, env))

    def copy(self, spec: BackendSpec, id: str, new_id: str, extent: Extent | None = None) -> bool:
        """Give the session a second life, as it is now or was at ``extent``. False where it is not there, or is another by now."""
        return with_files(spec, self._environ, lambda files, env: files.copy(id, new_id, env, extent))

    def note(self, backend: str, id: str) -> None:
        """The session is this process's to delete."""
        with open(self._path(backend, id), "w"):
            pass

    def forget(self, backend: str, id: str) -> None:
        """Delete a session that was noted. Does not wait."""
        self._deleting.spawn(self._forget, backend, id)

    def sweep(self) -> int:
        """Delete what processes have noted that are gone; how many sessions that were."""
        with suppress(FileNotFoundError):
            found = [name for name in os.listdir(self._folder) if not name.startswith(".")]
            return sum(self._sweep(os.path.join(self._folder, name)) for name in found)
        return 0

    def close(self) -> None:
        """Wait until what was forgotten is deleted."""
        self._deleting.join(CLOSE_S)
        if self._mine:
            with suppress(OSError):  # not empty: for the next start
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
            os.rename(new, mine)  # locked before anybody can look at it
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
        except BlockingIOError:  # its process lives
            return 0
        finally:
            os.close(lock)
