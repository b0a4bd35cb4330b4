"""Detects that the SQLite file in use was deleted, replaced or overwritten. SQLite would continue with the file it opened or with
its cache, and all later writes would be lost."""

from __future__ import annotations

import os

from services.errors import StoreUnavailable

HEADER = b"SQLite format 3\x00"
"""https://www.sqlite.org/fileformat.html, section 1.3."""


class DatabaseFile:
    """The identity of the file when it was opened.

    Its descriptor stays open until `close`, which comes after SQLite's own: closing any descriptor of a file releases the
    locks that SQLite holds on it (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._identity = _identity(os.fstat(self._descriptor))

    def check(self) -> None:
        """Raises StoreUnavailable if the path no longer names the same file, or the file is no longer a database."""
        try:
            is_same = _identity(os.stat(self._path)) == self._identity
        except OSError as error:
            raise self._lost(f"cannot be found ({error.strerror})") from None
        if not is_same:
            raise self._lost("was replaced by another file")
        if os.pread(self._descriptor, len(HEADER), 0) != HEADER:
            raise self._lost("was overwritten")

    def close(self) -> None:
        os.close(self._descriptor)

    def _lost(self, what: str) -> StoreUnavailable:
        return StoreUnavailable(f"the session store {self._path} {what} while the server was running; restore it, then restart the server")


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
