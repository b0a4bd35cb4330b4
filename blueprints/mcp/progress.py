"""What a client sees of a call before its answer: the name of a tool or the last line of text, and comments while nothing happens. Pure."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import orjson

from blueprints import sse
from services.events import Batch, Text, ToolCall, ToolProgress

EVERY_S = 0.5
"""At most so often."""
SILENCE_S = 15.0
"""The client gets at least a comment after so long."""
LINE_CHARS = 200
IDLE = "working"
MESSAGE = b"message"


def message(content: object) -> bytes:
    """One JSON-RPC message as a server-sent event."""
    return sse.frame(orjson.dumps(content), event=MESSAGE)


class Progress:
    """The notifications of one call, whose runs may be several."""

    def __init__(self, token: int | str | None, clock: Callable[[], float] = monotonic) -> None:
        """``token``: None where the client wants none."""
        self._token = token
        self._clock = clock
        self._count = 0
        self._sent_at = clock()
        self._noted_at = self._sent_at - EVERY_S
        self._lines: dict[str, str] = {}
        self._said = IDLE
        self._has_news = False

    def __call__(self, batch: Batch, who: str = "") -> bytes:
        """``who``: whose events these are, where there are several. Empty where nothing is to be sent."""
        now = self._clock()
        if self._token is not None:
            self._read(batch, who)
            if (self._has_news or not batch) and now - self._noted_at >= EVERY_S:
                return self._note(now)
        if not batch or now - self._sent_at >= SILENCE_S:
            self._sent_at = now
            return sse.KEEP_ALIVE
        return b""

    def _read(self, batch: Batch, who: str) -> None:
        for event in batch:
            kind = type(event)
            if kind is Text:
                self._lines[who] = line = (self._lines.get(who, "") + event.text)[-LINE_CHARS:]  # type: ignore[union-attr]
                self._say(next((part.strip() for part in reversed(line.splitlines()) if part.strip()), ""), who)
            elif kind is ToolCall:
                self._say(event.name, who)  # type: ignore[union-attr]
            elif kind is ToolProgress:
                self._say(f"{event.name} ({event.elapsed_s:.0f} s)", who)  # type: ignore[union-attr]

    def _say(self, text: str, who: str) -> None:
        if text:
            self._said = f"{who}: {text}" if who else text
            self._has_news = True

    def _note(self, now: float) -> bytes:
        self._count += 1
        self._noted_at = self._sent_at = now
        self._has_news = False
        params = {"progressToken": self._token, "progress": self._count, "message": self._said}
        return message({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
