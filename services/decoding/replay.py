"""A model API's stream breaks in the middle of a message, and the CLI asks again: the message is told from its start."""

from __future__ import annotations


class StreamReplay:
    """Gives of a message told again only what had not been said, so that no text is doubled.

    What was said cannot be taken back: when the second telling differs, `differs` is True, nothing more is given, and the
    run is no answer (the decoder ends it as Failed).
    """

    def __init__(self) -> None:
        self.differs = False
        self._said: list[str] = []
        self._known = ""  # said before and not yet said again

    def open(self) -> None:
        """Another message begins."""
        self._said, self._known = [], ""

    def restart(self) -> None:
        """The same message begins again."""
        self._known, self._said = "".join(self._said) + self._known, []

    def new(self, text: str) -> str:
        """The part of ``text`` that was not said before; "" while it repeats."""
        if self.differs:
            return ""
        self._said.append(text)
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
        """What of the message's ``whole`` text has not been said; "" where it has, or where it says it differently."""
        said = "".join(self._said)
        if not whole.startswith(said):
            return ""
        return whole[len(said) :]

    def close(self) -> None:
        """The message is whole. A second telling that ends before the first did differs from it."""
        if self._known:
            self.differs = True
        self.open()

    @property
    def has_said(self) -> bool:
        return bool(self._said)


DIFFERS = "the model's stream broke in the middle of a message and was told again in other words; its text is not one answer"
