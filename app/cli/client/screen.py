"""What a command shows: answers on stdout, everything about them on stderr, and progress only where that is a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import gevent

TICK_S = 0.5
CLEAR_LINE = "\r\x1b[K"
UNSAFE = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])
"""Control characters except tab and newline: a model's output must not control the reader's terminal."""


def say(text: str) -> None:
    """Write part of an answer and flush."""
    show(text.translate(UNSAFE) if sys.stdout.isatty() else text)


def show(text: str) -> None:
    """Write text that is safe for a terminal, with its escape sequences, and flush."""
    sys.stdout.write(text)
    sys.stdout.flush()


def say_line(text: str) -> None:
    say(text if text.endswith("\n") else text + "\n")


def say_json(value: Any, *, is_line: bool = False) -> None:
    say(json.dumps(value, ensure_ascii=False, indent=None if is_line else 2) + "\n")


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def interject(text: str) -> None:
    """A note while a progress line may be shown."""
    note(CLEAR_LINE + text if sys.stderr.isatty() else text)


def complain(text: str) -> None:
    note(f"clinvk: {text}")


def dimmed(text: str) -> str:
    """``text`` in a faint colour, where standard error is a terminal that shows colours."""
    return f"\x1b[2m{text}\x1b[0m" if sys.stderr.isatty() and has_colours() else text


def has_colours() -> bool:
    """See https://no-color.org."""
    return not os.environ.get("NO_COLOR") and not is_dumb()


def is_dumb() -> bool:
    """Whether the terminal understands no escape sequences."""
    return os.environ.get("TERM", "dumb") == "dumb"


def printable(text: str) -> str:
    """``text`` on one line, without control characters."""
    return "".join(char if char.isprintable() else " " for char in text)


def seconds(duration_ms: float) -> str:
    return f"{duration_ms / 1000:.1f} s"


def duration(seconds: float) -> str:
    """Whole seconds, in the two largest units: `45s`, `2m31s`, `4h00m`."""
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes_left:02}m"
    return f"{minutes}m{rest_s:02}s" if minutes else f"{rest_s}s"


def costs(part: dict[str, Any]) -> str:
    """Time, tokens and cost of one run, as far as they are known."""
    parts = [seconds(part["duration_ms"])] if part.get("duration_ms") else []
    if usage := part.get("token_usage"):
        parts.append(f"{usage['input_tokens']} in, {usage['output_tokens']} out")
    if part.get("cost_usd") is not None:
        parts.append(f"${part['cost_usd']:.4f}")
    return ", ".join(parts)


class Progress:
    """A status line with the elapsed time, on a terminal. Silent elsewhere."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._since = time.monotonic()
        self._text = ""
        self._ticker = gevent.spawn(self._tick) if self._is_shown else None

    def show(self, text: str) -> None:
        if printable(text) != self._text:
            self._text = printable(text)
            self._draw()

    def note(self, text: str) -> None:
        """A line that stays, above the progress."""
        if self._is_shown:
            sys.stderr.write(CLEAR_LINE)
        note(text)
        self._draw()

    def close(self) -> None:
        if self._is_shown:
            self._text = ""
            if self._ticker:
                self._ticker.kill()
            sys.stderr.write(CLEAR_LINE)
            sys.stderr.flush()
            self._is_shown = False

    def _draw(self) -> None:
        if self._is_shown and self._text:
            sys.stderr.write(f"{CLEAR_LINE}{self._text}  {seconds((time.monotonic() - self._since) * 1000)}")
            sys.stderr.flush()

    def _tick(self) -> None:
        while True:
            gevent.sleep(TICK_S)
            self._draw()
