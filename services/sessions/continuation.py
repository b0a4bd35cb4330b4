"""Continue the CLI session of a conversation whose client sends the full history with every message.

With this on, the CLI keeps the session of an answer for a while. A request whose earlier messages are exactly those of that session,
including our answer, runs as its next turn: the CLI gets only the latest message. Any other request (another key, different text, the
same point a second time) runs with the full history, as without continuation.

The state is in memory, per process. A miss costs only the full text.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from time import monotonic

from services.cancellation import Cancellation
from services.clis.session_files import UUID
from services.clis.spec import BackendSpec
from services.requests import RunRequest
from services.run_stream import RunStream
from services.runner import Runner
from services.sessions.cli_sessions import CliSessions
from services.sessions.conversation_digest import Point, point_of
from services.sessions.kept_session import AnswerOf, KeptSession, Outcome, ResumedStream
from services.usage import Usage

log = logging.getLogger("clinvk.sessions")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuationLimits:
    """``max_sessions`` 0 disables continuation."""

    max_sessions: int = 0
    idle_s: float = 3_600.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A CLI session that waits for its next turn. ``used``: the usage that the CLI has reported for it, if any."""

    backend: str
    id: str
    since: float
    used: Usage | None = None


class Continuation:
    """One per process."""

    def __init__(self, runner: Runner, sessions: CliSessions, limits: ContinuationLimits) -> None:
        self._runner = runner
        self._sessions = sessions
        self._limits = limits
        self._kept: dict[bytes, Kept] = {}
        """Digest of the conversation so far → session, oldest first."""

    def stream(self, request: RunRequest, answer_of: AnswerOf, cancellation: Cancellation | None = None) -> RunStream | ResumedStream:
        """Run ``request``. ``answer_of`` returns the text of the answer as the client gets it.

        Raises the same errors as `Runner.stream`, before anything is started.
        """
        cancellation, limits = cancellation or Cancellation(), self._limits
        spec = self._runner.backend(request.backend, request.owner)
        point = point_of(request, self._runner.workdir(request)) if self._may_keep(spec) else None
        if point is None:
            return self._runner.stream(request, cancellation)
        whole = replace(request, ephemeral=False)
        kept = self._kept.pop(point.before, None) if point.before else None

        def start(request: RunRequest, kept: Kept | None = None) -> RunStream:
            stream = self._runner.stream(request, cancellation)
            backend = stream.invocation.spec.name
            # The next request asks for its own backend again, which knows nothing of the session of one that answered in its place.
            after = point if backend == request.backend else None
            session = KeptSession(
                note=lambda id: self._note(backend, id),
                end=lambda outcome: self._end(backend, after, kept, outcome, limits),
                answer_of=answer_of,
            )
            usage_before = kept.used if kept and spec.resumed_usage_is_total else None
            return stream.attach(session, usage_before=usage_before)

        if kept is None or point.before is None:
            return start(whole)
        again = replace(whole, is_fallback=True, may_fall_back=False)  # the same run, of a conversation that is this backend's
        try:
            return ResumedStream(start(self._resumed(whole, kept, point), kept), lambda: start(again))
        except BaseException:  # nothing was started
            self._keep(point.before, kept, limits)
            raise

    def reconfigure(self, limits: ContinuationLimits) -> None:
        """Replace the limits and forget all sessions: the name of an API key may now belong to another caller."""
        self._limits = limits
        self._forget_all()

    def tidy(self) -> None:
        """Delete the sessions that have expired, and those of dead processes."""
        now = monotonic()
        late = [point for point, kept in self._kept.items() if now - kept.since > self._limits.idle_s]
        for kept in map(self._kept.pop, late):
            self._sessions.forget(kept.backend, kept.id)
        if count := self._sessions.sweep():
            log.info("deleted %d CLI sessions that a killed server had kept for continuation", count)

    def close(self) -> None:
        """Delete all kept sessions and wait for it."""
        self._forget_all()
        self._sessions.close()

    def _may_keep(self, spec: BackendSpec) -> bool:
        """Keep only sessions that can be resumed and deleted."""
        return bool(self._limits.max_sessions and spec.can_resume and spec.session_files)

    def _resumed(self, whole: RunRequest, kept: Kept, point: Point) -> RunRequest:
        return replace(whole, resume=kept.id, history=point.latest)

    def _note(self, backend: str, id: str) -> None:
        try:
            self._sessions.note(backend, id)
        except OSError:
            log.exception("a CLI session cannot be noted; it would not be cleaned up if the server were killed")

    def _end(self, backend: str, point: Point | None, kept: Kept | None, outcome: Outcome, limits: ContinuationLimits) -> None:
        """Keep the session for requests after ``point`` if the answer is complete; otherwise its state is unknown and it is deleted."""
        ids = {id for id in (kept.id if kept else None, outcome.session_id) if id}
        if point and outcome.answer and outcome.session_id and UUID.fullmatch(outcome.session_id):
            self._keep(point.after(outcome.answer), Kept(backend, outcome.session_id, monotonic(), outcome.reported_usage), limits)
            ids.discard(outcome.session_id)
        for id in ids:
            self._sessions.forget(backend, id)

    def _keep(self, after: bytes, kept: Kept, limits: ContinuationLimits) -> None:
        """Not after `reconfigure`, with other ``limits``: its API key may have been removed."""
        if limits is not self._limits:
            self._sessions.forget(kept.backend, kept.id)
            return
        surplus = [self._kept.pop(after)] if after in self._kept else []
        self._kept[after] = kept
        while len(self._kept) > limits.max_sessions:
            surplus.append(self._kept.pop(next(iter(self._kept))))
        for one in surplus:
            self._sessions.forget(one.backend, one.id)

    def _forget_all(self) -> None:
        kept, self._kept = self._kept, {}
        for one in kept.values():
            self._sessions.forget(one.backend, one.id)
