"""Workers that serve one run at a time: an idle one has served none, a session-bound one waits for the next turn of its session.

What one caller's run has seen never reaches another's: an idle worker becomes its first run's, and then its session's.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Hashable, Mapping
from hashlib import sha256
from time import monotonic
from uuid import uuid4

import gevent

from services.cancellation import Cancellation
from services.clis.command import invoke
from services.clis.conversation import Conversation, Handshake
from services.clis.spec import BackendSpec, Invocation
from services.clis.warmth import Parameters
from services.errors import InvalidRequest
from services.execution import handshake as handshakes
from services.execution.driver import Limits
from services.execution.resumable_run import Keep as KeepProcess
from services.execution.resumable_run import ResumableRun
from services.execution.run import ProcessRun
from services.execution.transcript import Transcript, transcript_of
from services.execution.worker import BaseWorker, Keep, Need, Problem
from services.processes.child import Child
from services.processes.marks import RunFolder, new_path
from services.processes.spawner import Spawner

log = logging.getLogger("clinvk.warm")

KILLED_S = 2.0
"""How long a process may take to be gone after SIGKILL."""
LEAVE_S = 1.0
"""How long one may take to exit at the end of its stdin."""
SESSION_ID = "{session_id}"


def key_of(invocation: Invocation) -> Hashable:
    """What of a run is fixed once its process has been started, whatever the run's folder is called and whichever session it resumes."""

    def fixed(text: str) -> str:
        return text.replace(invocation.run_dir, "{run_dir}")

    files = {path: content for path, content in invocation.files.items() if path not in invocation.prompt_files}
    return (
        tuple(fixed(part) for part in invocation.argv if part not in invocation.resume_argv),
        frozenset((name, fixed(value)) for name, value in invocation.env.items()),
        invocation.cwd,
        frozenset((fixed(path), sha256(fixed(content).encode()).digest()) for path, content in files.items()),
        frozenset((fixed(path), target) for path, target in invocation.links.items()),
        invocation.folders,
    )


class _ProcessWorker(BaseWorker):
    is_multiplexed = False
    session_id = ""

    def __init__(self, need: Need, child: Child, folder: RunFolder, *, started_at: float, uses: int) -> None:
        super().__init__(need, started_at=started_at, uses=uses)
        self._child = child
        self._folder = folder

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_idle(self) -> bool:
        return True


class IdleWorker(_ProcessWorker):
    """A process that waits for its first run."""

    def __init__(
        self, need: Need, child: Child, folder: RunFolder, handshake: Handshake, parameters: Parameters | None, forget: Callable[[], None]
    ) -> None:
        """``parameters``: what it is initialized with; None: not yet. ``forget`` removes what it has left elsewhere, if it never runs."""
        super().__init__(need, child, folder, started_at=monotonic(), uses=0)
        self._handshake = handshake
        self._parameters = parameters
        self._forget = forget

    def wait_ready(self) -> Problem | None:
        problem = handshakes.perform(self._handshake, self._child)
        self._started_at = self.idle_since = monotonic()
        return problem

    @property
    def problem(self) -> Problem | None:
        if self._has_written:
            return Problem("it wrote output before it had a prompt", is_permanent=True)
        return Problem("it ended while it was idle") if self._child.exit else None

    @property
    def is_sound(self) -> bool:
        return self.problem is None

    @property
    def _has_written(self) -> bool:
        return not self._handshake.expects_answer and not self._child.is_silent

    def can_serve(self, need: Need) -> bool:
        fits = need.key == self.need.key and not need.session_id and need.state == self.need.state
        return fits and self._parameters in (None, need.parameters) and self.is_sound

    @property
    def is_initialized(self) -> bool:
        return self._parameters is not None

    def run(self, need: Need, limits: Limits, cancellation: Cancellation, keep: Keep | None) -> ProcessRun:
        invocation = need.invocation
        invocation.prepare_prompt(self._folder.path)
        conversation = self._handshake.next(invocation)
        if keep and can_keep(invocation):
            offer = _offer(need, keep, started_at=self._started_at, uses=1)
            run: ProcessRun = ResumableRun(invocation, limits, cancellation, conversation, offer, None)
        else:
            run = ProcessRun(invocation, limits, cancellation, conversation)
        run.attach(self._child, self._folder)
        return run

    def close(self, *, wait_for_runs: bool = True) -> None:
        # Where it does not answer, the end of its stdin would be the end of a prompt: Gemini CLI then asks its model (0.61.0, measured).
        if not self._handshake.expects_answer:
            self._child.stop(signal.SIGKILL, 0.0)
            self._child.wait_exit(KILLED_S)
        self._child.close()
        try:
            gevent.get_hub().threadpool.apply(self._forget)  # looks through folders of any size
        finally:
            self._folder.remove()


class SessionWorker(_ProcessWorker):
    """A process between two turns of its session."""

    is_initialized = True
    problem: Problem | None = None

    def __init__(
        self,
        need: Need,
        child: Child,
        folder: RunFolder,
        conversation: Conversation,
        transcript: Transcript,
        *,
        started_at: float,
        uses: int,
    ) -> None:
        """``conversation``: its latest turn."""
        super().__init__(need, child, folder, started_at=started_at, uses=uses)
        self.session_id = conversation.session_id
        self._conversation = conversation
        self._transcript = transcript

    def wait_ready(self) -> Problem | None:
        return None

    @property
    def is_sound(self) -> bool:
        """It has written nothing since its turn ended, and nobody else has continued its session."""
        return self._child.exit is None and self._child.is_silent and self._transcript.is_untouched

    def can_serve(self, need: Need) -> bool:
        fits = need.key == self.need.key and need.session_id == self.session_id and need.state == self.need.state
        return fits and need.parameters == self.need.parameters and self.is_sound

    def run(self, need: Need, limits: Limits, cancellation: Cancellation, keep: Keep | None) -> ProcessRun:
        assert keep
        log.debug("%s: process %d goes on with its session", need.invocation.spec.name, self.pid)
        conversation = self._conversation.next(need.invocation)
        offer = _offer(need, keep, started_at=self._started_at, uses=self._uses + 1)
        run = ResumableRun(need.invocation, limits, cancellation, conversation, offer, self._transcript)
        run.attach(self._child, self._folder)
        return run

    def close(self, *, wait_for_runs: bool = True) -> None:
        """It exits by itself, which cleans up after it and adds a line to its session's file; but not to a file that somebody else
        has written to, or that has been deleted and would be created again (seen at SIGTERM and at the end of its stdin)."""
        try:
            if self.is_sound:
                self._child.end_input()
            else:
                self._child.stop(signal.SIGKILL, 0.0)
            self._child.wait_exit(LEAVE_S)
        finally:
            self._child.close()
            self._folder.remove()


def can_keep(invocation: Invocation) -> bool:
    """Whether the process of this run may serve the next turn. Only where /proc shows what the turn's tools have left running."""
    spec = invocation.spec
    is_kept = spec.warmth is not None and spec.warmth.keeps_sessions and spec.session_files is not None
    return is_kept and not invocation.request.ephemeral and os.path.isdir("/proc/self")


def _offer(need: Need, keep: Keep, *, started_at: float, uses: int) -> KeepProcess:
    def offer(child: Child, folder: RunFolder, conversation: Conversation, transcript: Transcript) -> None:
        keep(SessionWorker(need, child, folder, conversation, transcript, started_at=started_at, uses=uses))

    return offer


class ProcessWorkers:
    """A `WorkerFactory`."""

    is_multiplexed = False

    def __init__(self, spec: BackendSpec, spawner: Spawner, environ: Mapping[str, str]) -> None:
        assert spec.warmth
        assert spec.warmth.handshake
        self._spec = spec
        self._warmth = spec.warmth
        self._handshake = spec.warmth.handshake
        self._spawner = spawner
        self._environ = environ

    def need(self, invocation: Invocation) -> Need | None:
        session_id = invocation.request.resume or ""
        if session_id and not can_keep(invocation):
            return None
        key = (key_of(invocation), self._warmth.kind(invocation))
        state = self._warmth.state(invocation.home, invocation.cwd)
        return Need(key, self._warmth.parameters(invocation), state, session_id, invocation)

    def state(self, need: Need) -> object:
        return self._warmth.state(need.invocation.home, need.invocation.cwd)

    def renewed(self, need: Need) -> Need | None:
        old = need.invocation
        try:
            return self.need(invoke(old.spec, old.request, cwd=old.cwd, environ=self._environ, run_dir=new_path()))
        except InvalidRequest:
            return None

    def start(self, need: Need, parameters: Parameters | None) -> IdleWorker:
        invocation = need.invocation
        session_id = str(uuid4())
        argv = (*invocation.argv, *(part.replace(SESSION_ID, session_id) for part in self._warmth.idle_args))
        folder = RunFolder(invocation.run_dir)
        try:
            invocation.prepare_process()
            handshake = self._handshake(invocation, parameters)
            child = self._spawner.start(argv, env=invocation.env, cwd=invocation.cwd, stdin=None, is_held=not handshake.expects_answer)
        except BaseException:
            folder.remove()
            raise

        def forget() -> None:
            if self._warmth.idle_args and self._spec.session_files:
                self._spec.session_files.delete(session_id, invocation.env)

        return IdleWorker(need, child, folder, handshake, parameters, forget)

    def start_reusable(self, need: Need, limits: Limits, cancellation: Cancellation, keep: Keep) -> ProcessRun | None:
        invocation = need.invocation
        if not can_keep(invocation):
            return None
        transcript: Transcript | None = None
        if need.session_id:
            # In a thread: folders of many sessions would stop the event loop.
            search = (self._spec.session_files, need.session_id, invocation.env)
            transcript = gevent.get_hub().threadpool.apply(transcript_of, search)
        offer = _offer(need, keep, started_at=monotonic(), uses=1)
        run = ResumableRun(invocation, limits, cancellation, self._spec.conversation(invocation), offer, transcript)
        run.start(self._spawner)
        return run
