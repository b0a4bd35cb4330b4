"""A process that waits for the next turn of the session that it is of, and how it is known that it may: pure of who asks for it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from services.clis.session_files import SessionFiles
from services.execution.driver import Lasting
from services.processes.child import Child
from services.processes.marks import RunFolder
from services.processes.memory import rss_mb
from services.processes.procfs import descendants, parent_of

log = logging.getLogger("clinvk.warm")

TAIL_BYTES = 1 << 20
"""The last word is in the last line of a message; what follows it is small."""
LEAVE_S = 1.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """The file that a session is continued from, as it was at one time."""

    path: str
    stamp: tuple[int, ...] | None

    @property
    def is_untouched(self) -> bool:
        return self.stamp is not None and stamp_of(self.path) == self.stamp


def stamp_of(path: str) -> tuple[int, ...] | None:
    """Compares equal as long as nobody has written to the file or put another in its place. None: it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def transcript_of(files: SessionFiles, session_id: str, env: Mapping[str, str]) -> Transcript | None:
    """None where there is not exactly one."""
    paths = files.transcripts_of(session_id, env)
    return Transcript(paths[0], stamp_of(paths[0])) if len(paths) == 1 else None


def holds(path: str, word: str) -> bool:
    """Whether ``word`` is near the file's end."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return word.encode() in file.read()
    except OSError:
        return False


def is_alone(pid: int) -> bool:
    """Whether nothing lives below the CLI's supervisor but the CLI: whatever a turn's tools have started, in whatever session, would."""
    supervisor = parent_of(pid)
    return supervisor is not None and descendants(supervisor) == [pid]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a process is from its start on, and can be told nothing else of."""

    key: Hashable
    parameters: Mapping[str, Any]
    state: object
    """Of the files that it has read (`Warmth.state`)."""


@dataclass(slots=True, eq=False)
class Living:
    """A process between two turns of its session. It serves nobody else."""

    kind: Kind
    child: Child
    folder: RunFolder
    turn: Lasting
    """Its latest."""
    transcript: Transcript
    started_at: float
    uses: int
    since: float = field(default_factory=monotonic)

    @property
    def session_id(self) -> str:
        return self.turn.session_id

    @property
    def is_sound(self) -> bool:
        """It has said nothing since its turn ended, and nobody else has gone on with its session."""
        return self.child.exit is None and self.child.is_silent and self.transcript.is_untouched

    @property
    def rss_mb(self) -> float:
        return rss_mb(self.child.pid)

    def end(self) -> None:
        """Returns when it has gone.

        It leaves by itself, which tidies up after it and adds a line to its session's file; but not to a file that is somebody
        else's by now, or that has been deleted and would come to life again (seen at SIGTERM and at the end of its stdin).
        """
        try:
            if self.is_sound:
                self.child.end_input()
            else:
                self.child.stop(signal.SIGKILL, 0.0)
            self.child.wait_exit(LEAVE_S)
        finally:
            self.child.close()
            self.folder.remove()
