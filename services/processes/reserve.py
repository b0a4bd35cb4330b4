"""Which supervisors wait for a job: a page of memory that all of them share, a byte for each. Standard library only.

Each byte is written by its own supervisor, which alone knows, and cleared by the spawner when it has reaped that supervisor. So a run
costs the spawner nothing as long as others wait.
"""

from __future__ import annotations

import mmap

MOST = 4096
"""Supervisors at a time."""
AHEAD = 2
"""Supervisors that the spawner forks before there is a job for them."""
PLACES = 16
"""Supervisors that stay after their run, beside those forked early. As many as a worker starts at a time:
`services.processes.spawner.STARTS_AT_A_TIME`."""


class Reserve:
    """Created by the spawner, before its forks."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, MOST)
        self._used = bytearray(MOST)
        """Of the spawner: the bytes that belong to a supervisor."""

    # -- for the spawner --

    def add(self) -> int:
        """The byte of a supervisor that is about to be forked, which waits from then on. Raises OSError if there are `MOST`."""
        index = self._used.find(0)
        if index < 0:
            raise OSError(f"more than {MOST} supervisors")
        self._used[index] = 1
        self.wait(index)
        return index

    def remove(self, index: int) -> None:
        """The supervisor has ended."""
        self.leave(index)
        self._used[index] = 0

    @property
    def is_short(self) -> bool:
        """Whether another supervisor is to be forked."""
        return self._waiting() < AHEAD

    # -- for the supervisor --

    def wait(self, index: int) -> None:
        self._page[index] = 1

    def leave(self, index: int) -> None:
        self._page[index] = 0

    @property
    def is_full(self) -> bool:
        """Whether enough others wait."""
        return self._waiting() >= AHEAD + PLACES

    def _waiting(self) -> int:
        return self._page[:].count(1)
