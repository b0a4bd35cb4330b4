"""Continued responses: each response is a node of a tree, and any number of responses may continue it.

A CLI's session is linear. The first response that continues another one uses its session; the extent of the session at that point is
saved. Every further one uses a copy of the session up to that extent, and so does one that must not be stored: its copy is deleted.
The extent is a small file per continued response, so workers and restarts agree. It is deleted with the session. So is the file that
says that a response was deleted: its id carries the session, so nothing else would keep it from being continued.
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
from services.errors import Conflict, InvalidRequest, OptionNotSupported, ResponseNotFound
from services.requests import RunRequest
from services.run_stream import RunStream
from services.runner import Runner
from services.sessions.cli_sessions import BETWEEN, CliSessions
from services.sessions.kept_session import KeptSession, Outcome

FIELD = "previous_response_id"
OURS = "clinvk"
"""In place of a backend name, for our own sessions."""
DELETED = "deleted"
SWEEP_S = 3_600.0
UNKNOWN_S = 90 * 86_400.0
"""How long the note of a session is kept if its existence cannot be checked."""

T = TypeVar("T")


class ResponseTree:
    """One per process. Only the worker that generates a response knows that it is in progress."""

    def __init__(self, folder: str, runner: Runner, sessions: CliSessions) -> None:
        self._folder = folder
        self._runner = runner
        self._sessions = sessions
        self._running: set[str] = set()
        self._swept_at = 0.0

    def stream(self, request: RunRequest, node: str | None, cancellation: Cancellation | None = None) -> RunStream:
        """Run ``request``; if it resumes a CLI's session, from the response ``node``.

        Raises ResponseNotFound if the CLI has no such session, Conflict while that response is in progress, InvalidRequest for a branch of
        a session that cannot be copied, and the errors of `Runner.stream`.
        """
        spec = self._runner.backend(request.backend, request.owner)
        if request.resume is None or node is None:
            return self._kept(lambda: self._runner.stream(request, cancellation))
        self._check_deleted(spec.name, request.resume, node)
        note = self._note(spec.name, request.resume, node)
        extent = self._extent(spec, request)
        if request.ephemeral and spec.session_files:
            return self._ephemeral_branch(spec, request, self._read(note) or extent, cancellation)
        if request.ephemeral:
            return self._runner.stream(request, cancellation)
        self._check_running(request.resume, note)
        if self._write(note, extent):
            return self._kept(lambda: self._runner.stream(request, cancellation), undo=lambda: os.unlink(note))
        copy = self._copy(spec, request.resume, self._read(note) or extent)
        branch = replace(request, resume=copy)
        return self._kept(lambda: self._runner.stream(branch, cancellation), undo=lambda: self._sessions.forget(spec.name, copy))

    def check(self, request: RunRequest, node: str | None) -> None:
        """Raise what `stream` would raise now because of the session. For a request that is not ephemeral."""
        spec = self._runner.backend(request.backend, request.owner)
        if request.resume is None or node is None:
            return
        self._check_deleted(spec.name, request.resume, node)
        self._extent(spec, request)
        note = self._note(spec.name, request.resume, node)
        self._check_running(request.resume, note)
        if not spec.session_files and self._read(note) is not None:
            raise _not_twice(spec)

    def one_turn(self, session_id: str, node: str, start: Callable[[], T]) -> T:
        """Call ``start`` for the only turn of our session that may continue the response ``node``, and return its result."""
        self._check_deleted(OURS, session_id, node)
        note = self._note(OURS, session_id, node)
        if not self._write(note, {}):
            raise _not_the_last(session_id)
        try:
            return start()
        except BaseException:
            os.unlink(note)
            raise

    def check_turn(self, session_id: str, node: str) -> None:
        """Raise what `one_turn` would raise now."""
        self._check_deleted(OURS, session_id, node)
        if self._read(self._note(OURS, session_id, node)) is not None:
            raise _not_the_last(session_id)

    def delete(self, backend: str, session_id: str, node: str) -> None:
        """No request continues the response any more; those that have done so are not affected. ``backend``: or `OURS`. Idempotent."""
        self._write(self._note(backend, session_id, node, DELETED), {})

    def tidy(self) -> None:
        """Periodically delete the notes of sessions that no longer exist."""
        if monotonic() - self._swept_at < SWEEP_S and self._swept_at:
            return
        self._swept_at = monotonic()
        with suppress(FileNotFoundError):
            for name in os.listdir(self._folder):
                if self._is_stale(name):
                    os.unlink(os.path.join(self._folder, name))

    def _note(self, *parts: str) -> str:
        return os.path.join(self._folder, BETWEEN.join(parts))

    def _check_deleted(self, backend: str, session_id: str, node: str) -> None:
        if os.path.exists(self._note(backend, session_id, node, DELETED)):
            raise ResponseNotFound("Previous response not found: it was deleted")

    def _check_running(self, session_id: str, note: str) -> None:
        if session_id in self._running and self._read(note) is None:
            raise Conflict(f"the response to continue, of session {session_id}, is still in progress", field=FIELD, issue="in progress")

    def _is_stale(self, name: str) -> bool:
        backend, _, rest = name.partition(BETWEEN)
        spec = self._runner.backends.get(backend)
        if spec and spec.session_files:
            return not self._sessions.has(spec, rest.partition(BETWEEN)[0])
        return time() - os.stat(os.path.join(self._folder, name)).st_mtime > UNKNOWN_S

    def _extent(self, spec: BackendSpec, request: RunRequest) -> Extent:
        """The current extent of the session; empty if the backend's session files are not known."""
        assert request.resume
        if not spec.session_files:
            if request.ephemeral and not spec.can_be_ephemeral:
                raise OptionNotSupported(spec.name, "store", "it stores every turn of a session; omit store")
            return {}
        extent = self._sessions.extent(spec, request.resume)
        if extent is None:
            raise ResponseNotFound(f"Previous response not found: {spec.name} no longer has session {request.resume}")
        return extent

    def _kept(self, start: Callable[[], RunStream], undo: Callable[[], object] = lambda: None) -> RunStream:
        """Start the run and mark its session as running until it ends. Calls ``undo`` if it does not start."""
        try:
            stream = start()
        except BaseException:
            undo()
            raise

        def end(outcome: Outcome) -> None:
            self._running.discard(outcome.session_id or "")

        return stream.attach(KeptSession(note=self._running.add, end=end))

    def _ephemeral_branch(self, spec: BackendSpec, request: RunRequest, extent: Extent, cancellation: Cancellation | None) -> RunStream:
        """Run in a copy of the session, deleted when the run ends."""
        assert request.resume
        copy = self._copy(spec, request.resume, extent, is_temporary=True)

        def forget(_: object = None) -> None:
            self._sessions.forget(spec.name, copy)

        try:
            stream = self._runner.stream(replace(request, resume=copy, ephemeral=spec.branches_off), cancellation)
        except BaseException:
            forget()
            raise
        return stream.attach(KeptSession(note=lambda _: None, end=forget))

    def _copy(self, spec: BackendSpec, id: str, extent: Extent, *, is_temporary: bool = False) -> str:
        """Copy the session up to ``extent``. Returns the id of the copy."""
        copy = str(uuid.uuid4())
        if is_temporary:
            self._sessions.note(spec.name, copy)
        if not spec.session_files or not self._sessions.copy(spec, id, copy, extent):
            raise _not_twice(spec)
        return copy

    def _read(self, note: str) -> Extent | None:
        """The extent of the session at the response; None if the response has not been continued yet."""
        try:
            with open(note, encoding="utf-8") as file:
                return {name: (size, sum_) for name, (size, sum_) in json.load(file).items()}
        except FileNotFoundError:
            return None

    def _write(self, note: str, extent: Extent) -> bool:
        """Create ``note`` atomically. False if it exists."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        new = os.path.join(self._folder, f".{uuid.uuid4().hex}")
        with open(new, "w", encoding="utf-8") as file:
            json.dump(extent, file)
        try:
            os.link(new, note)
        except FileExistsError:
            return False
        finally:
            os.unlink(new)
        return True


def _not_twice(spec: BackendSpec) -> InvalidRequest:
    why = "its session has changed since" if spec.session_files else f"{spec.name} cannot copy a session"
    return InvalidRequest(f"this response has already been continued, and {why}", field=FIELD, issue="cannot be continued twice")


def _not_the_last(session_id: str) -> InvalidRequest:
    hint = "name the session in X-Clinvk-Session to continue after its last turn, or fork it"
    return InvalidRequest(f"session {session_id} already continues this response; {hint}", field=FIELD, issue="not the last")
