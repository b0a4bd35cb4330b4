"""How it is found out that a process which was started early is ready."""

from __future__ import annotations

from time import monotonic

from services.clis.conversation import Handshake
from services.execution.line_limit import LineLimit, LineTooLong
from services.execution.worker import Problem
from services.processes.child import Child

START_S = 30.0
"""Within this a process must be ready."""
LOOK_S = 0.05
"""How often to look whether a process that does not answer has read everything."""
QUIET_S = 1.0
"""How long it must then be silent: Gemini CLI writes after 0.5 s if it does not wait for more input."""
LINE_LIMIT_BYTES = 64 << 20
"""Of what a process writes before it is ready."""


def perform(handshake: Handshake, child: Child) -> Problem | None:
    """Wait until the process is ready; why it cannot be used, if so."""
    deadline = monotonic() + START_S
    line_limit = LineLimit(LINE_LIMIT_BYTES)
    while True:
        if data := handshake.outgoing():
            child.send(data)
        if handshake.is_complete:
            return Problem(handshake.refusal, is_permanent=True) if handshake.refusal else None
        is_silent = not handshake.expects_answer
        has_read_all = is_silent and child.has_read_all
        left = max(0.0, deadline - monotonic())
        output = child.read(QUIET_S if has_read_all else min(left, LOOK_S) if is_silent else left)
        if output == b"":
            exit = child.wait_exit(1.0)
            return Problem(f"it ended during the handshake: {exit.stderr_tail.strip()[-500:] if exit else ''}")
        if output:
            try:
                line_limit.check(output)
            except LineTooLong as error:
                return Problem(str(error))
            handshake.receive(output)
        elif has_read_all:
            return None
        elif monotonic() >= deadline:
            return Problem(f"it did not answer within {START_S:g} s")
