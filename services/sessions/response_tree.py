"""Responses that are continued: each is a node of a tree, from which any number of others may go on.

A CLI's session is one line. The first response that continues another goes on in that one's own session; where the session ended then is
written down. Any other goes on in a copy of the session as it was there, and so does one that must keep nothing: its copy is deleted.
What is written down is a small file for each response that was continued, so workers and restarts agree; it goes with the session.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from time import monotonic, time
from typing import TypeVar

from services.cancellation import Cancellation
from services.clis.session_files import Extent
from services.clis.spec import BackendSpec
from services.errors import Conflict, InvalidRequest, NotFound, OptionNotSupported
from services.requests import RunRequest
from services.runner import Runner, RunStream
from services.sessions.cli_sessions import BETWEEN, CliSessions
from services.sessions.kept_session import KeptSession, Outcome

FIELD = "previous_response_id"
OURS = "clinvk"
"""In the place of a backend, for a session of ours."""
SWEEP_S = 3_600.0
UNKNOWN_S = 90 * 86_400.0
"""How long a note is kept of a session that cannot be looked for."""

T = TypeVar("T")


class ResponseTree:
    """One per process. That a response is still being made is known to the worker that makes it alone."""

    def __init__(self, folder: str, runner: Runner, sessions: CliSessions) -> None:
        self._folder = folder
        self._runner = runner
        self._sessions = sessions
        self._running: set[str] = set()
        self._swept_at = 0.0

    def stream(self, request: RunRequest, node: str | None, cancellation: Cancellation | None = None) -> RunStream:
        """Run ``request``; where it resumes a CLI's session, from the response ``node`` that left it.

        Raises NotFound where the CLI has no such session, Conflict while that response is being made, InvalidRequest for a branch of
        a session that cannot be copied; and what the runner does.
        """
        spec = self._runner.backend(request.backend)
        if request.resume is None or node is None:
            return self._kept(lambda: self._runner.stream(request, cancellation))
        note = os.path.join(self._folder, BETWEEN.join((spec.name, request.resume, node)))
        extent = self._extent(spec, request)
        if request.ephemeral and spec.session_files:
            return self._in_passing(spec, request, self._read(note) or extent, cancellation)
        if request.ephemeral:
            return self._runner.stream(request, cancellation)
        if request.resume in self._running and self._read(note) is None:
            raise Conflict(f"the response to continue, of session {request.resume}, is still being made", field=FIELD, issue="in progress")
        if self._write(note, extent):
            return self._kept(lambda: self._runner.stream(request, cancellation), undo=lambda: os.unlink(note))
        copy = self._copy(spec, request.resume, self._read(note) or extent)
        branch = replace(request, resume=copy)
        return self._kept(lambda: self._runner.stream(branch, cancellation), undo=lambda: self._sessions.forget(spec.name, copy))

    def one_turn(self, session_id: str, node: str, start: Callable[[], T]) -> T:
        """What ``start`` gives: the one turn of a session of ours that may go on from the response ``node``."""
        note = os.path.join(self._folder, BETWEEN.join((OURS, session_id, node)))
        if not self._write(note, {}):
            told = "name the session in X-Clinvk-Session to go on at its end, or fork it"
            raise InvalidRequest(f"session {session_id} has gone on from this response already; {told}", field=FIELD, issue="not the last")
        try:
            return start()
        except BaseException:
            os.unlink(note)
            raise

    def tidy(self) -> None:
        """Forget, now and then, what was written down of sessions that the CLIs have no more."""
        if monotonic() - self._swept_at < SWEEP_S and self._swept_at:
            return
        self._swept_at = monotonic()
        with suppress(FileNotFoundError):
            for name in os.listdir(self._folder):
                if self._is_void(name):
                    os.unlink(os.path.join(self._folder, name))

    def _is_void(self, name: str) -> bool:
        backend, _, rest = name.partition(BETWEEN)
        spec = self._runner.backends.get(backend)
        if spec and spec.session_files:
            return not self._sessions.has(spec, rest.partition(BETWEEN)[0])
        return time() - os.stat(os.path.join(self._folder, name)).st_mtime > UNKNOWN_S

    def _extent(self, spec: BackendSpec, request: RunRequest) -> Extent:
        """How far the session goes now; nothing is known of one whose files are not known."""
        assert request.resume
        if not spec.session_files:
            if request.ephemeral and not spec.can_be_ephemeral:
                raise OptionNotSupported(spec.name, "store", "it keeps every turn of a session; leave store out")
            return {}
        extent = self._sessions.extent(spec, request.resume)
        if extent is None:
            raise NotFound(f"Previous response not found: {spec.name} has no session {request.resume} any more", field=FIELD)
        return extent

    def _kept(self, start: Callable[[], RunStream], undo: Callable[[], object] = lambda: None) -> RunStream:
        """The run, known to be running as long as it does. ``undo``: where it does not begin."""
        try:
            stream = start()
        except BaseException:
            undo()
            raise

        def end(outcome: Outcome) -> None:
            self._running.discard(outcome.session_id or "")

        return stream.attach(KeptSession(note=self._running.add, end=end))

    def _in_passing(self, spec: BackendSpec, request: RunRequest, extent: Extent, cancellation: Cancellation | None) -> RunStream:
        """The run in a copy that goes with it."""
        assert request.resume
        copy = self._copy(spec, request.resume, extent, is_passing=True)

        def forget(_: object = None) -> None:
            self._sessions.forget(spec.name, copy)

        try:
            stream = self._runner.stream(replace(request, resume=copy, ephemeral=spec.branches_off), cancellation)
        except BaseException:
            forget()
            raise
        return stream.attach(KeptSession(note=lambda _: None, end=forget))

    def _copy(self, spec: BackendSpec, id: str, extent: Extent, *, is_passing: bool = False) -> str:
        """The id of a new session that is what the other was at ``extent``."""
        copy = str(uuid.uuid4())
        if is_passing:
            self._sessions.note(spec.name, copy)
        if not spec.session_files or not self._sessions.copy(spec, id, copy, extent):
            why = "its session was changed since" if spec.session_files else f"{spec.name} cannot copy a session"
            raise InvalidRequest(f"this response was continued already, and {why}", field=FIELD, issue="cannot be continued twice")
        return copy

    def _read(self, note: str) -> Extent | None:
        """Where the session ended at the response; None where that was not continued yet."""
        try:
            with open(note, encoding="utf-8") as file:
                return {name: (size, sum_) for name, (size, sum_) in json.load(file).items()}
        except FileNotFoundError:
            return None

    def _write(self, note: str, extent: Extent) -> bool:
        """False where somebody has done so before."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        new = os.path.join(self._folder, f".{uuid.uuid4().hex}")
        with open(new, "w", encoding="utf-8") as file:
            json.dump(extent, file)
        try:
            os.link(new, note)  # all of it at once, or not
        except FileExistsError:
            return False
        finally:
            os.unlink(new)
        return True
