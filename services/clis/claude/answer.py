"""The text of Claude Code's answer as it grows: its blocks, each told once however often it comes."""

from __future__ import annotations

from services.decoding.replay import StreamReplay
from services.events import Batch, Text


class Answer:
    def __init__(self) -> None:
        self.blocks: list[list[str]] = []
        """So far, as pieces."""
        self.has_text = False
        self._is_open = False  # a message streams
        self._block = -1
        self._told_block = 0  # the last one that something was told of; no stream goes back behind it
        self._first_block = 0  # of the message that streams
        self._replay = StreamReplay()

    @property
    def differs(self) -> bool:
        """A message that came again was another one."""
        return self._replay.differs

    def open_message(self) -> None:
        if self._is_open and self._replay.has_said:
            # The stream broke off, and Claude Code fetches the message again (recordings claude/midstream-error).
            self._replay.restart()
            self._block = self._first_block - 1
            del self.blocks[self._first_block :]
        else:
            self._replay.open()
            self._first_block = self._block + 1
        self._is_open = True

    def close_message(self) -> None:
        self._is_open = False
        self._replay.close()

    def open_block(self) -> None:
        self._block += 1
        self.blocks.append([])

    def say(self, text: str, batch: Batch, *, is_partial: bool) -> None:
        if not text:
            return
        if not self.blocks:
            self.open_block()
        if new := self._replay.new(text):
            if self._block > self._told_block:
                self._told_block = self._block
            batch.append(Text(new, self._told_block, is_partial))
        self.blocks[-1].append(text)
        if not self.has_text:
            self.has_text = not text.isspace()

    def say_whole(self, text: str, batch: Batch) -> None:
        """A message of one block that comes as a whole."""
        self.open_message()
        self.open_block()
        self.say(text, batch, is_partial=False)
        self.close_message()
