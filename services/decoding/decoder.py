"""What every decoder is: bytes in, events out, and exactly one terminal event when the process has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.events import Batch


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. ``code`` is the shell's: 128 + N for signal N. None means unknown: the supervisor was killed, or the
    process closed its output and did not exit. No decoder takes that for success."""

    code: int | None
    stderr_tail: str = ""
    was_stopped: bool = False
    """The driver stopped a process whose output was complete and that did not exit by itself: success with no code."""

    @property
    def is_success(self) -> bool:
        return self.code == 0 or self.was_stopped


class Decoder(Protocol):
    """One run's output. `feed` never gives a terminal event, `finish` gives exactly one, as its last."""

    @property
    def is_complete(self) -> bool:
        """The CLI has said its last word and has only to exit."""

    def feed(self, chunk: bytes) -> Batch:
        """Events of the next bytes of stdout, cut anywhere."""

    def finish(self, exit: Exit) -> Batch:
        """What was still held back, then Finished or Failed. Output that is empty or garbled is Failed, whatever the code,
        and so is any output after which the code is unknown."""
