"""How one run talks to its CLI. Sans-IO: bytes in, events and bytes out, the same whether the process was started for the run or before it."""

from __future__ import annotations

from typing import Any

from services.decoding.decoder import Decoder, Exit
from services.events import Batch

Invocation = Any
"""`services.clis.spec.Invocation`, which names its conversation and so cannot be imported here."""


class Conversation:
    """One run. What a CLI cannot do is answered here, by the default."""

    needs_pipe = True
    """Its stdin is a pipe that stays open. Else the prompt is a file there: a prompt of any size never waits for its reader."""
    closes_stdin = False
    """Everything is written at the start; the CLI then reads the end of its stdin."""
    session_id = ""
    """The CLI's own; empty until it is known."""

    @property
    def is_complete(self) -> bool:
        """The CLI has written its last message."""
        return False

    @property
    def is_retryable(self) -> bool:
        """It failed because the process ended or does not speak the protocol, and nothing can have happened yet: the same run may
        work in another process."""
        return False

    @property
    def checkpoint(self) -> str:
        """What the session's file contains once the whole turn is in it. Empty where the process must not be kept: the turn has failed,
        or something that it started may still be running."""
        return ""

    def outgoing(self) -> bytes:
        """What is to be written to the CLI now; called at the start and after every `receive`."""
        return b""

    def receive(self, data: bytes) -> Batch:
        """Events of the next bytes of stdout, cut anywhere."""
        raise NotImplementedError

    def interrupt(self) -> bytes:
        """What makes the CLI stop its work and stay; empty where only a signal does."""
        return b""

    def finish(self, exit: Exit) -> Batch:
        """As a decoder's: exactly one terminal event, as the last."""
        raise NotImplementedError

    def next(self, invocation: Invocation) -> Conversation:
        """The next turn of the session, in the same process."""
        raise NotImplementedError


class OneShot(Conversation):
    """A CLI that is only listened to: its prompt is a file, or an argument."""

    needs_pipe = False

    def __init__(self, invocation: Invocation) -> None:
        self._decoder: Decoder = invocation.spec.decoder()

    @property
    def is_complete(self) -> bool:
        return self._decoder.is_complete

    def receive(self, data: bytes) -> Batch:
        return self._decoder.feed(data)

    def finish(self, exit: Exit) -> Batch:
        return self._decoder.finish(exit)


class Handshake:
    """What is exchanged with a process that is started before its run, until it is ready. Sans-IO."""

    expects_answer = True
    """The CLI answers it. Else the process is ready when it has read everything, and must be silent until its run comes."""
    is_complete = False
    refusal = ""
    """Why the process cannot be used: it speaks another protocol."""

    def outgoing(self) -> bytes:
        """What is to be written to the process now; called at the start and after every `receive`."""
        return b""

    def receive(self, data: bytes) -> None:
        raise NotImplementedError

    def next(self, invocation: Invocation) -> Conversation:
        """The run in the process."""
        raise NotImplementedError
