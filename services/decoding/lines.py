"""Bytes → lines and JSON objects. UTF-8 is never cut: only whole lines are decoded."""

from __future__ import annotations

import json
from typing import Any

import orjson


class LineSplitter:
    """Splits at ``\\n`` alone: JSON may carry raw U+2028, at which ``str.splitlines`` would cut."""

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
        """The last line where no newline ended it."""
        rest, self._parts = b"".join(self._parts), []
        return rest


class JsonLines:
    """Bytes → the JSON objects among a CLI's lines. What is not JSON is kept, bounded, for the message of a failure."""

    def __init__(self) -> None:
        self._splitter = LineSplitter()
        self._noise = b""

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        return self._objects(self._splitter.feed(chunk))

    def flush(self) -> list[dict[str, Any]]:
        """The object of a last line that no newline ended."""
        return self._objects([self._splitter.flush()])

    def split(self, chunk: bytes) -> list[bytes]:
        """The lines alone, for a decoder that has a faster way to read most of them; `to_object` reads the others."""
        return self._splitter.feed(chunk)

    def to_object(self, line: bytes) -> dict[str, Any] | None:
        """The line's object; None, and the line is kept as noise, where it is none."""
        value = to_object(line)
        if value is None and line:
            self._keep(line)
        return value

    @property
    def noise(self) -> str:
        """The end of what was not JSON."""
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
    """JSON with half of a surrogate pair (``"\\ud83d"``), which orjson refuses and Node writes where it cut an emoji in two."""
    if b"\\ud" not in line.lower():
        return None
    try:
        text = json.dumps(json.loads(line), ensure_ascii=False)
        return orjson.loads(text.encode(errors="replace"))
    except (ValueError, RecursionError):
        return None
