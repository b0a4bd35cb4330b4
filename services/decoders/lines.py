"""Bytes → lines and JSON objects, bounded. UTF-8 is never cut: only whole lines are decoded."""

from __future__ import annotations

from typing import Any

import orjson


class LineTooLong(Exception):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the CLI wrote a line of more than {limit_bytes} bytes (line_limit_bytes)")


DEFAULT_LINE_LIMIT_BYTES = 64 * 1024 * 1024


class LineSplitter:
    """Splits at ``\\n`` alone: JSON may carry raw U+2028, at which ``str.splitlines`` would cut."""

    def __init__(self, limit_bytes: int = DEFAULT_LINE_LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Whole lines without their newline. Raises LineTooLong past the limit, whether or not the line has ended."""
        *lines, rest = chunk.split(b"\n")
        if lines:
            if self._parts:
                self._parts.append(lines[0])
                lines[0] = b"".join(self._parts)
                self._parts, self._held = [], 0
            if len(max(lines, key=len)) > self._limit:
                raise LineTooLong(self._limit)
        if rest:
            self._parts.append(rest)
            self._held += len(rest)
            if self._held > self._limit:
                raise LineTooLong(self._limit)
        return lines

    def flush(self) -> bytes:
        """The last line where no newline ended it."""
        rest, self._parts, self._held = b"".join(self._parts), [], 0
        return rest


def to_object(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line, or None: CLIs print warnings and banners between their JSON lines."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
