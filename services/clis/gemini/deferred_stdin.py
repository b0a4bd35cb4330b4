"""A CLI that reads its whole stdin before it asks its model anything, started early with its stdin left open. Sans-IO.

The prompt is all that it gets later: program, flags, answers, sessions and exit codes are those of a cold run.

Gemini CLI reads its stdin once all is set up, and takes it for empty when nothing has come within 0.5 s; after a first character
it waits for the end however long (0.61.0: `readStdin`, measured). So that character is written at the start. It is the slash of a
command, where the prompt travels as one (`services.clis.gemini.spec.as_command`), else a newline before the prompt.

Its ``--acp`` would be faster still (0.03 of a bare start, against 0.07 here, side by side on a busy machine), but is another agent: it
tells the model that it is interactive and must ask before it acts, offers tools that the plain run withholds, and tells neither a
tool's name and input, nor cached tokens, nor that an answer broke off.
"""

from __future__ import annotations

from services.clis.conversation import Conversation, Handshake
from services.clis.spec import Invocation
from services.decoding.decoder import Exit
from services.events import Batch


def first_character(invocation: Invocation) -> bytes:
    """What makes the process wait for the rest of its stdin; it cannot be taken back."""
    return b"/" if invocation.stdin.startswith(b"/") else b"\n"


class DeferredStdin(Handshake):
    """The process does not answer: it is ready when it has read the first character and stays silent."""

    expects_answer = False

    def __init__(self, first: bytes) -> None:
        self._outgoing = first

    def outgoing(self) -> bytes:
        outgoing, self._outgoing = self._outgoing, b""
        return outgoing

    def receive(self, data: bytes) -> None:
        self.is_complete = True
        self.refusal = "it wrote output before it had a prompt"

    def next(self, invocation: Invocation) -> DeferredConversation:
        return DeferredConversation(invocation)


class DeferredConversation(Conversation):
    """The run in such a process."""

    closes_stdin = True

    def __init__(self, invocation: Invocation) -> None:
        self._decoder = invocation.spec.decoder()
        self._outgoing = invocation.stdin.removeprefix(first_character(invocation)) or b"\n"
        self._has_events = False

    @property
    def is_complete(self) -> bool:
        return self._decoder.is_complete

    @property
    def is_retryable(self) -> bool:
        return not self._has_events

    def outgoing(self) -> bytes:
        outgoing, self._outgoing = self._outgoing, b""
        return outgoing

    def receive(self, data: bytes) -> Batch:
        batch = self._decoder.feed(data)
        self._has_events = self._has_events or bool(batch)
        return batch

    def finish(self, exit: Exit) -> Batch:
        return self._decoder.finish(exit)
