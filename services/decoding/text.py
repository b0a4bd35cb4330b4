"""A CLI whose stdout is the answer as plain text, streamed as it arrives."""

from __future__ import annotations

import codecs

from services.decoding.decoder import Exit
from services.decoding.exit_messages import ended_without_result, finished
from services.events import Batch, Failed, Text

TAIL_LIMIT = 2000


class PlainDecoder:
    """Buffers only an incomplete UTF-8 sequence, and the tail of the output for error messages."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._has_text = False
        self._tail = ""

    @property
    def is_complete(self) -> bool:
        return False

    def feed(self, chunk: bytes) -> Batch:
        return self._say(self._utf8.decode(chunk))

    def finish(self, exit: Exit) -> Batch:
        batch = self._say(self._utf8.decode(b"", final=True))
        if not exit.is_success:
            batch.append(ended_without_result(exit, self._tail))
        elif not self._has_text:
            batch.append(Failed("backend", "the CLI ended without an answer", exit.code))
        else:
            batch.append(finished(exit))
        return batch

    def _say(self, text: str) -> Batch:
        if not text:
            return []
        self._has_text = self._has_text or not text.isspace()
        self._tail = (self._tail + text)[-TAIL_LIMIT:]
        return [Text(text)]
