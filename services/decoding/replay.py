"""Deduplicate a message that the CLI requests again, from its start, after the model API's stream broke."""

from __future__ import annotations


class StreamReplay:
    """Returns only the text of a repeated message that was not emitted before.

    Emitted text cannot be taken back: if the repetition differs, `differs` becomes True, no more text is returned, and the
    decoder ends the run as Failed.
    """

    def __init__(self) -> None:
        self.differs = False
        self._emitted: list[str] = []
        self._known = ""  # emitted before the restart and not repeated yet

    def open(self) -> None:
        """A new message starts."""
        self._emitted, self._known = [], ""

    def restart(self) -> None:
        """The same message starts again."""
        self._known, self._emitted = "".join(self._emitted) + self._known, []

    def new(self, text: str) -> str:
        """The part of ``text`` that was not emitted before; "" while it repeats."""
        if self.differs:
            return ""
        self._emitted.append(text)
        if not self._known:
            return text
        if self._known.startswith(text):
            self._known = self._known[len(text) :]
            return ""
        if text.startswith(self._known):
            text, self._known = text[len(self._known) :], ""
            return text
        self.differs = True
        return ""

    def rest(self, whole: str) -> str:
        """The part of the complete message ``whole`` that was not emitted yet; "" if there is none or it differs."""
        emitted = "".join(self._emitted)
        if not whole.startswith(emitted):
            return ""
        return whole[len(emitted) :]

    def close(self) -> None:
        """The message is complete. A repetition shorter than the first version differs from it."""
        if self._known:
            self.differs = True
        self.open()

    @property
    def has_said(self) -> bool:
        return bool(self._emitted)


DIFFERS = "the model's stream broke in the middle of a message and the retry returned different text; the output is not one answer"
