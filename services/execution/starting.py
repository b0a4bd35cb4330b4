"""A process that is started before its run has come: how it is started, and until when it is not ready."""

from __future__ import annotations

from time import monotonic
from uuid import uuid4

from services.clis.spec import Invocation
from services.execution.demand import Idle
from services.execution.line_limit import LineLimit, LineTooLong
from services.execution.protocols import Parameters, WarmProtocol
from services.processes.marks import RunFolder
from services.processes.spawner import Spawner

START_S = 30.0
"""Within this a process must be ready."""
LOOK_S = 0.05
"""How often it is looked whether a process that gives no answer has read what it was told."""
QUIET_S = 1.0
"""So long it must then be silent: Gemini CLI would have spoken after 0.5 s if it had not waited for more."""
LINE_LIMIT_BYTES = 64 << 20
"""Of what a process writes before it is ready."""
SESSION_ID = "{session_id}"
"""In the backend's own arguments of a process that is to be told the id of its session: by it, what an unused one has kept is found
again. In any other argument it is a caller's text."""


def start_idle(spawner: Spawner, protocol: WarmProtocol, warm: Invocation, parameters: Parameters | None, state: object) -> Idle:
    """Start a process for runs like ``warm``, in a folder of its own. Raises BackendUnavailable, OSError; then nothing is left."""
    templates = {part for part in warm.spec.args if SESSION_ID in part}
    session_id = str(uuid4()) if templates else ""
    argv = tuple(part.replace(SESSION_ID, session_id) if part in templates else part for part in warm.argv)
    folder = RunFolder(warm.run_dir)
    try:
        warm.prepare_process()
        greeting = protocol.greet(warm, parameters)
        child = spawner.start(argv, env=warm.env, cwd=warm.cwd, stdin=None, is_held=greeting.is_silent)
    except BaseException:
        folder.remove()
        raise

    def forget() -> None:
        if session_id and warm.spec.session_files:
            warm.spec.session_files.delete(session_id, warm.env)

    return Idle(child, folder, greeting, parameters, state, forget)


def greet(one: Idle) -> str:
    """Wait until the process is ready. What is wrong with it; empty where nothing is."""
    child, greeting = one.child, one.greeting
    deadline = monotonic() + START_S
    line_limit = LineLimit(LINE_LIMIT_BYTES)
    while True:
        if data := greeting.take_outgoing():
            try:
                child.send(data)
            except BrokenPipeError:
                return "it ended at once"
        if greeting.is_answered:
            return greeting.refusal
        has_read_all = greeting.is_silent and child.has_read_all
        left = max(0.0, deadline - monotonic())
        chunk = child.read(QUIET_S if has_read_all else min(left, LOOK_S) if greeting.is_silent else left)
        if chunk == b"":
            exit = child.wait_exit(1.0)
            return f"it ended while it was set up: {exit.stderr_tail.strip()[-500:] if exit else ''}"
        if chunk:
            try:
                line_limit.check(chunk)
            except LineTooLong as error:
                return str(error)
            greeting.feed(chunk)
        elif has_read_all:
            return ""
        elif monotonic() >= deadline:
            return f"it did not answer within {START_S:g} s"
