"""The file that a session is continued from: whether a turn is in it, and whether anybody has written to it since."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from services.clis.session_files import SessionFiles
from services.processes.procfs import descendants, parent_of

TAIL_BYTES = 1 << 20
"""A checkpoint is in the last line of a message; what follows it is small."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A session's file as it was at one time."""

    path: str
    stamp: tuple[int, ...] | None

    @property
    def is_untouched(self) -> bool:
        return self.stamp is not None and stamp_of(self.path) == self.stamp


def stamp_of(path: str) -> tuple[int, ...] | None:
    """Compares equal as long as nobody has written to the file or replaced it. None: it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def transcript_of(files: SessionFiles, session_id: str, env: Mapping[str, str]) -> Transcript | None:
    """None where there is not exactly one."""
    paths = files.transcripts_of(session_id, env)
    return Transcript(paths[0], stamp_of(paths[0])) if len(paths) == 1 else None


def contains(path: str, checkpoint: str) -> bool:
    """Whether ``checkpoint`` is near the file's end."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return checkpoint.encode() in file.read()
    except OSError:
        return False


def is_alone(pid: int) -> bool:
    """Whether the CLI is the only process below its supervisor: whatever a turn's tools have started would be there as well."""
    supervisor = parent_of(pid)
    return supervisor is not None and descendants(supervisor) == [pid]
