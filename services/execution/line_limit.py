"""How long a line of a CLI's output may be. Drivers check it before they decode, so decoders have no limit of their own."""

from __future__ import annotations


class LineTooLong(Exception):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the CLI wrote a line of more than {limit_bytes} bytes")


class LineLimit:
    """Counts the bytes of each line as the output comes in."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._unfinished_bytes = 0

    def check(self, chunk: bytes) -> None:
        """Count the next bytes. Raises LineTooLong as soon as a line passes the limit, whether or not it has ended."""
        if self._unfinished_bytes + len(chunk) > self.limit_bytes:
            first, *others = map(len, chunk.split(b"\n"))
            if max(self._unfinished_bytes + first, *others, 0) > self.limit_bytes:
                raise LineTooLong(self.limit_bytes)
        newline = chunk.rfind(b"\n")
        self._unfinished_bytes = self._unfinished_bytes + len(chunk) if newline < 0 else len(chunk) - newline - 1
