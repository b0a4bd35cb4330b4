"""A CLI that reads its whole stdin before it asks its model anything, started early and held there. Pure: bytes in, events and bytes out.

What it is told then is all that it is ever told: program, flags, answers, sessions and exit codes are those of a run of its own.

Gemini CLI reads its stdin once all is set up, and takes it for empty when nothing has come within 0.5 s; after a first character
it waits for the end however long (0.61.0: `readStdin`, measured). So that character is written at the start. It is the slash of a
command, where the prompt travels as one (`services.clis.gemini.spec.as_command`), else a newline before the prompt.

Its ``--acp`` would be faster still (0.03 of a bare start, against 0.07 here, side by side on a busy machine), but is another agent: it
tells the model that it is interactive and must ask before it acts, offers tools that the plain run withholds, and tells neither a
tool's name and input, nor cached tokens, nor that an answer broke off.
"""

from __future__ import annotations

from services.clis.spec import Invocation
from services.decoding.decoder import Exit
from services.events import Batch


def gate(invocation: Invocation) -> bytes:
    """The first character, by which the process is held; it cannot be taken back."""
    return b"/" if invocation.stdin.startswith(b"/") else b"\n"


class Gate:
    """A `services.execution.protocols.Greeting` without an answer: the process is ready when it has read this and stays silent."""

    is_silent = True

    def __init__(self, character: bytes) -> None:
        self.is_answered = False
        self.refusal = ""
        self._outgoing = character

    def take_outgoing(self) -> bytes:
        outgoing, self._outgoing = self._outgoing, b""
        return outgoing

    def feed(self, chunk: bytes) -> None:
        self.is_answered = True
        self.refusal = "it spoke before it was asked"


class HeldTurn:
    """The run in such a process; a `services.execution.driver.Conversation` that `SpeaksOnce`."""

    speaks_once = True

    def __init__(self, invocation: Invocation) -> None:
        self._decoder = invocation.spec.decoder()
        self._outgoing = invocation.stdin.removeprefix(gate(invocation)) or b"\n"
        self._has_spoken = False

    @property
    def is_complete(self) -> bool:
        return self._decoder.is_complete

    @property
    def has_broken(self) -> bool:
        return not self._has_spoken

    def take_outgoing(self) -> bytes:
        outgoing, self._outgoing = self._outgoing, b""
        return outgoing

    def feed(self, chunk: bytes) -> Batch:
        batch = self._decoder.feed(chunk)
        self._has_spoken = self._has_spoken or bool(batch)
        return batch

    def finish(self, exit: Exit) -> Batch:
        return self._decoder.finish(exit)
