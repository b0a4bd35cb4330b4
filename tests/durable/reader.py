"""Reads the events of one run over any number of connections, and checks that each event comes once, in order, without a gap."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any

from tests.parts.client import Stream

READ_BYTES = 1 << 16
FRAME_END = b"\n\n"
LOST = (OSError, http.client.HTTPException)
"""What a client sees of a server that is killed."""


class Reader:
    """``frames`` are the events' bytes. ``name`` is that of the run, for messages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.frames: list[bytes] = []
        self.terminal: dict[str, Any] | None = None
        self.connections = 0

    @property
    def last(self) -> int:
        return len(self.frames)

    def read(self, stream: Stream, leaves_after: int | None = None) -> None:
        """Read to the terminal event and the end of the stream, or leave after so many events. Raises one of LOST if the connection
        breaks, AssertionError for an event that must not be."""
        buffer, taken = b"", 0
        while part := stream.response.read1(READ_BYTES):
            *frames, buffer = (buffer + part).split(FRAME_END)
            for frame in frames:
                if not frame.startswith(b":"):
                    self._take(frame)
                    taken += 1
                    if taken == leaves_after:
                        return
        assert not buffer, f"{self._name}: the stream ends within an event: {buffer!r}"
        assert self.terminal, f"{self._name}: the stream ended after event {self.last} without a terminal event"

    def follow(self, connect: Callable[[int], Stream], leave: Callable[[], int | None], lost: Callable[[], None]) -> None:
        """``connect(last)`` opens a stream of the events after that number; ``leave()`` says after how many events of a connection the
        client leaves, if it does; ``lost()`` is called when a connection broke."""
        while not self.terminal:
            try:
                with connect(self.last) as stream:
                    self.connections += 1
                    assert stream.status == 200, f"{self._name}: status {stream.status} after event {self.last}: {stream.response.read()!r}"
                    self.read(stream, leave())
            except LOST:
                lost()

    def _take(self, frame: bytes) -> None:
        assert self.terminal is None, f"{self._name}: an event after the terminal one: {frame!r}"
        fields = dict(line.split(b": ", 1) for line in frame.split(b"\n"))
        assert int(fields[b"id"]) == self.last + 1, f"{self._name}: event {fields[b'id'].decode()} after event {self.last}"
        event = json.loads(fields[b"data"])
        assert event["sequence"] == self.last + 1, f"{self._name}: {frame!r}"
        self.frames.append(frame + FRAME_END)
        if is_terminal(event):
            self.terminal = event


def is_terminal(event: dict[str, Any]) -> bool:
    """Whether it ends a run; in a composed one, `done` and `error` of a part do not."""
    return "task" not in event and "step" not in event and event["type"] in ("done", "error", "result")
