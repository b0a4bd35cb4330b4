"""Processes that are started before their run: facts of the CLI (`Warmth`), and what the operator allows (`WarmLimits`)."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Any

from services.clis.conversation import Handshake, Invocation

Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmLimits:
    """The bounds of one backend's warm processes, each with the name of its setting (``backends.<name>.warm``)."""

    min: int = 0
    """So many for the plainest run, from the server's start on."""
    max: int = 4
    live_max: int = 4
    """So many sessions' processes wait for their next turn."""
    idle_s: float = 300.0
    max_uses: int = 200
    max_age_s: float = 3600.0
    max_rss_mb: int = 600
    min_free_mb: int = 1024
    """With less memory left, nothing is started early; with less than half of it, idle processes are ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmth:
    """How a CLI is used when its process was started before the run."""

    limits: WarmLimits = WarmLimits(max=0)
    """Where the operator sets none and runs the CLI itself. ``max`` 0: only if the operator asks for it."""
    is_multiplexed: bool = False
    """One process serves many runs at once (`services.execution.multiplexed`). Else it serves one run, of which the rest is:"""
    handshake: Callable[[Invocation, Parameters | None], Handshake] | None = None
    """(the run that it is started like, what it is initialized with; None: nothing yet)"""
    parameters: Callable[[Invocation], Parameters] = lambda _: {}
    """What a process is initialized with, early or by its first run, and never again."""
    kind: Callable[[Invocation], Hashable] = lambda _: None
    """What of the run, besides its command line and environment, the process must have been started for."""
    keeps_sessions: bool = False
    """After a turn the process can wait for the next one of its session."""
    idle_args: tuple[str, ...] = ()
    """Arguments of a process that is started without a run; ``{session_id}`` is a new id."""
    home_files: tuple[str, ...] = ()
    """Files of the CLI's own folder that it reads at its start."""
    project_files: tuple[str, ...] = ()
    """Files of the workdir, and of every folder above it, that it reads at its start."""
    names_read: int = 0
    """So many files and folders of the workdir, those on top first, it tells its model by name."""
    names_skipped: frozenset[str] = frozenset()
    """Folders in which it does not look for them."""

    def state(self, home: str, cwd: str) -> tuple[object, ...]:
        """Compares equal as long as a process started now would read the same: its files, its workdir, the day."""
        return (date.today(), *self._stamps(home, cwd), *self._names(cwd))

    def _stamps(self, home: str, cwd: str) -> Iterator[Stamp]:
        yield from _stamps(home, self.home_files)
        if not self.project_files:
            return
        yield _stamp(cwd)
        folder, below = cwd, ""
        while folder != below:
            yield from _stamps(folder, self.project_files)
            folder, below = os.path.dirname(folder), folder

    def _names(self, cwd: str) -> list[str]:
        names: list[str] = []
        folders = deque([cwd])
        while folders and len(names) < self.names_read:
            for entry in _entries(folders.popleft()):
                names.append(entry.path)
                if entry.is_dir(follow_symlinks=False) and entry.name not in self.names_skipped:
                    folders.append(entry.path)
        return names[: self.names_read]


ENTRIES_LIMIT = 1000
"""Of a folder; one with more is not told apart from itself by those that are left out."""


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(islice(entries, ENTRIES_LIMIT), key=lambda entry: entry.name)
    except OSError:
        return []


Stamp = tuple[int, ...] | None


def _stamps(folder: str, names: tuple[str, ...]) -> Iterator[Stamp]:
    """Of the folder's files of these names, in their order. Nothing is looked for in a subfolder that is not there: most folders
    above a workdir have none."""
    is_there: dict[str, bool] = {}
    start = os.path.join(folder, "")
    for name in names:
        top, _, below = name.partition("/")
        if top not in is_there or not below:
            stamp = _stamp(start + top)
            is_there[top] = stamp is not None
        if below:
            stamp = _stamp(start + name) if is_there[top] else None
        yield stamp


def _stamp(path: str) -> Stamp:
    if not os.access(path, os.F_OK):  # most are not there, and an exception takes three times as long
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    # A folder's times change with whatever is made in it; that it is the same folder is all that counts.
    is_folder = stat.S_ISDIR(found.st_mode)
    return (found.st_dev, found.st_ino) if is_folder else (found.st_ino, found.st_mtime_ns, found.st_size)
