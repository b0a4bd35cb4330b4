"""How a process that was started beforehand, for one run, is spoken to: what it is told at once, and what when its run has come."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from services.clis.claude import conversation as claude_stream
from services.clis.gemini import deferred_stdin as held_stdin
from services.clis.spec import Invocation
from services.execution.driver import Conversation

Parameters = Mapping[str, Any]


class Greeting(Protocol):
    """What is said to a process when it has been started, until it is ready. Pure: bytes in, bytes out."""

    is_silent: bool
    """It has no answer: the process is ready when it has read what it was told, and says nothing until its run has come."""
    is_answered: bool
    """It has nothing more to say."""
    refusal: str
    """Why the process will not do: it speaks another protocol. Empty where it is ready."""

    def take_outgoing(self) -> bytes:
        """What is to be written to the process now; called at the start and after every `feed`."""

    def feed(self, chunk: bytes) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmProtocol:
    parameters: Callable[[Invocation], Parameters]
    """What a process of the right kind can still be told for this run, and be told beforehand."""
    greet: Callable[[Invocation, Parameters | None], Greeting]
    """(run that it is started by, what it is told beforehand: None for nothing)"""
    turn: Callable[[Invocation, Any], Conversation]
    """The run in a process, by what greeted it."""
    kind: Callable[[Invocation], Hashable] = lambda _: None
    """What of the run, besides its environment, the process must have been started for."""
    begin: Callable[[Invocation], Conversation] | None = None
    """The run in a process that is started for it, and that is to stay afterwards; None where the plain CLI is faster at that."""


PROTOCOLS: Mapping[str, WarmProtocol] = {
    "claude-stream": WarmProtocol(
        parameters=claude_stream.parameters_of,
        greet=lambda _, parameters: claude_stream.Greeting(parameters),
        turn=lambda invocation, greeting: claude_stream.ClaudeStream(invocation, is_initialized=greeting.is_initialize),
        begin=claude_stream.begin,
    ),
    "held-stdin": WarmProtocol(
        parameters=lambda _: {},
        greet=lambda invocation, _: held_stdin.Gate(held_stdin.gate(invocation)),
        turn=lambda invocation, _: held_stdin.HeldTurn(invocation),
        kind=held_stdin.gate,
    ),
}
"""By `Warmth.driver`."""
