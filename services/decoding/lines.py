"""Bytes → lines and JSON objects. Only whole lines are decoded, so UTF-8 sequences are never split."""

from __future__ import annotations

import json
from typing import Any

import orjson


class LineSplitter:
    """Splits at ``\\n`` only: JSON may contain raw U+2028, at which ``str.splitlines`` would split."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Whole lines without their newline."""
        *lines, rest = chunk.split(b"\n")
        if lines and self._parts:
            self._parts.append(lines[0])
            lines[0] = b"".join(self._parts)
            self._parts = []
        if rest:
            self._parts.append(rest)
        return lines

    def flush(self) -> bytes:
        """The last line, if no newline ended it."""
        rest, self._parts = b"".join(self._parts), []
        return rest


class JsonLines:
    """Bytes → the JSON objects among a CLI's lines. The tail of other lines is kept as ``noise`` for error messages."""

    def __init__(self) -> None:
        self._splitter = LineSplitter()
        self._noise = b""

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        return self._objects(self._splitter.feed(chunk))

    def flush(self) -> list[dict[str, Any]]:
        """The object of the last line, if no newline ended it."""
        return self._objects([self._splitter.flush()])

    def split(self, chunk: bytes) -> list[bytes]:
        """The lines only, for decoders that parse most lines faster themselves; pass the others to `to_object`."""
        return self._splitter.feed(chunk)

    def to_object(self, line: bytes) -> dict[str, Any] | None:
        """The line's object; for any other line None, and the line is kept as noise."""
        value = to_object(line)
        if value is None and line:
            self._keep(line)
        return value

    @property
    def noise(self) -> str:
        """The tail of the lines that were not JSON."""
        return self._noise.decode(errors="replace").strip()

    def _objects(self, lines: list[bytes]) -> list[dict[str, Any]]:
        objects = []
        for line in lines:
            if (value := to_object(line)) is not None:
                objects.append(value)
            elif line:
                self._keep(line)
        return objects

    def _keep(self, line: bytes) -> None:
        self._noise = (self._noise + line[-NOISE_LIMIT_BYTES:] + b"\n")[-NOISE_LIMIT_BYTES:]


NOISE_LIMIT_BYTES = 2000


def to_object(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line, or None: CLIs print warnings and banners between their JSON lines."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        value = _to_object_leniently(line)
    return value if isinstance(value, dict) else None


def _to_object_leniently(line: bytes) -> Any:
    """Parse JSON with a lone surrogate (``"\\ud83d"``), which orjson rejects and Node writes when it splits an emoji."""
    if b"\\ud" not in line.lower():
        return None
    try:
        text = json.dumps(json.loads(line), ensure_ascii=False)
        return orjson.loads(text.encode(errors="replace"))
    except (ValueError, RecursionError):
        return None
