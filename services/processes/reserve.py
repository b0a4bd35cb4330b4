"""Which supervisors stay after their run: as many as there are places, of which each has one. Standard library only.

A place is a lock on one byte of a file that all supervisors inherit. The system frees it when its holder ends, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import tempfile

PLACES = 16
"""Beside those that the spawner forks early. As many as a worker starts at a time: `services.processes.spawner.STARTS_AT_A_TIME`."""


class Reserve:
    """Created by the spawner, before its forks."""

    def __init__(self, places: int = PLACES) -> None:
        self._places = places
        self._mine: int | None = None
        if hasattr(os, "memfd_create"):
            self._file = os.memfd_create("clinvk")
        else:
            with tempfile.TemporaryFile() as file:
                self._file = os.dup(file.fileno())

    def enter(self) -> bool:
        """Take a place. Returns False if none is free."""
        for place in range(self._places):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except OSError:
                continue
            self._mine = place
            return True
        return False

    def leave(self) -> None:
        """Idempotent."""
        if self._mine is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self._mine)
            self._mine = None
