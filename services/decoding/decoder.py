"""The decoder protocol: bytes in, events out, and exactly one terminal event when the process has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.events import Batch


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. ``code`` follows the shell: 128 + N for signal N. None means unknown (the supervisor was killed, or the
    process closed its output and did not exit), which decoders never treat as success."""

    code: int | None
    stderr_tail: str = ""
    was_stopped: bool = False
    """The driver stopped a process whose output was complete but that did not exit: success without a code."""

    @property
    def is_success(self) -> bool:
        return self.code == 0 or self.was_stopped


class Decoder(Protocol):
    """Decodes the output of one run. `feed` never returns a terminal event; `finish` returns exactly one, as its last."""

    @property
    def is_complete(self) -> bool:
        """Whether the output is complete and the CLI only has to exit."""

    def feed(self, chunk: bytes) -> Batch:
        """The events of the next bytes of stdout, which may be split anywhere."""

    def finish(self, exit: Exit) -> Batch:
        """The remaining events, then Finished or Failed. Empty or malformed output is Failed whatever the exit code, and so is
        any output with an unknown exit code."""
