"""An answer on standard output: as it is, or rendered as Markdown block by block where that is a terminal."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from typing import Protocol

from app.cli.client.screen import UNSAFE, has_colours, is_dumb, say, show

FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)
PADDING = re.compile(r" +$", re.MULTILINE)


class AnswerWriter(Protocol):
    def write(self, text: str) -> None: ...

    def flush(self) -> None:
        """Show what has been written so far."""

    def close(self) -> None:
        """Show the rest and end the last line. More may follow."""


def answer_writer(before_output: Callable[[], None]) -> AnswerWriter:
    """``before_output`` is called before the first output."""
    return MarkdownWriter(before_output) if sys.stdout.isatty() and not is_dumb() else PlainWriter(before_output)


class PlainWriter:
    def __init__(self, before_output: Callable[[], None]) -> None:
        self._before_output = before_output
        self._last = ""

    def write(self, text: str) -> None:
        if not self._last:
            self._before_output()
        say(text)
        self._last = text

    def flush(self) -> None:
        """Everything has been shown."""

    def close(self) -> None:
        if self._last and not self._last.endswith("\n"):
            self.write("\n")


class MarkdownWriter:
    """Holds text back until its block (paragraph, list, code) is complete."""

    def __init__(self, before_output: Callable[[], None]) -> None:
        self._before_output: Callable[[], None] | None = before_output
        self._pending = ""
        self._has_output = False

    def write(self, text: str) -> None:
        self._pending += text
        if "\n" in text:
            blocks, self._pending = split_blocks(self._pending)
            self._show(blocks)

    def flush(self) -> None:
        blocks, self._pending = self._pending, ""
        self._show(blocks)

    def close(self) -> None:
        self.flush()

    def _show(self, blocks: str) -> None:
        if not blocks.strip():
            return
        if self._before_output:
            self._before_output()
            self._before_output = None
        show(("\n" if self._has_output else "") + render(blocks.translate(UNSAFE)))
        self._has_output = True


def split_blocks(text: str) -> tuple[str, str]:
    """The complete blocks, and the rest: what follows the last blank line that is not inside a code fence."""
    fences = [found.start() for found in FENCE.finditer(text)]
    end = fences[-1] if len(fences) % 2 else len(text)
    cut = text.rfind("\n\n", 0, end)
    return (text[: cut + 2], text[cut + 2 :]) if cut >= 0 else ("", text)


def render(markdown: str) -> str:
    """``markdown`` with escape sequences for this terminal, ending with a newline. Rich is slow to import."""
    from rich.console import Console
    from rich.markdown import Markdown

    # Without hyperlinks: they are escape sequences that hold text of the model.
    console = Console(file=io.StringIO(), force_terminal=True, width=Console(file=sys.stdout).width, no_color=not has_colours())
    with console.capture() as captured:
        console.print(Markdown(markdown, hyperlinks=False))
    return PADDING.sub("", captured.get()).strip("\n") + "\n"
