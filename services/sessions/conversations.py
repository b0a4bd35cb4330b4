"""Sessions: start one with a prompt, run another turn in the CLI's own session, fork, delete.

A session has its own id, known before the CLI starts. The CLI's session id is stored with it and never exposed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import time_ns
from typing import TypeVar

import gevent

from services.access.scope import Scope
from services.cancellation import Cancellation
from services.clis.environment import cli_environment
from services.clis.session_files import SessionFiles
from services.clis.spec import BackendSpec
from services.errors import Conflict, InvalidRequest, NotFound, StoreUnavailable
from services.event_loop import yield_to_others
from services.history import said
from services.requests import RunRequest
from services.run_stream import RunStream
from services.runner import Runner
from services.session_hook import WithoutSession
from services.sessions.turn_recorder import TurnRecorder
from services.store.records import NewTurn, Session, Turn, TurnEnd
from services.store.sessions import SessionStore, new_id
from services.usage import Usage

log = logging.getLogger("clinvk.sessions")

T = TypeVar("T")

REBUILD_HINT = "send `rebuild: true` to continue in a new one from the stored turns"
REBUILD_TURNS = 1_000
"""How many of the latest turns a rebuilt session gets."""
UNSAVED_LIMIT = 1_000
METADATA_KEYS_LIMIT, METADATA_NAME_CHARS, METADATA_VALUE_CHARS = 64, 64, 1_024
"""Per session, over all of its turns."""
EXPIRY_BATCH = 50
TITLE_CHARS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Session metadata in a request."""

    title: str | None = None
    tags: Sequence[str] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


NOTHING = About()


class Conversations:
    """One per process. All checks are made before a CLI starts; a refused request leaves the store unchanged."""

    def __init__(self, runner: Runner, store: SessionStore, *, environ: Mapping[str, str], default_tags: Sequence[str] = ()) -> None:
        self.store = store
        self._runner = runner
        self._environ = environ
        self._default_tags = tuple(default_tags)
        self._unsaved: deque[tuple[Turn, TurnEnd]] = deque(maxlen=UNSAVED_LIMIT)

    def begin(self, request: RunRequest, about: About = NOTHING, cancellation: Cancellation | None = None) -> RunStream:
        """Run ``request`` as the first turn of a new session, or without one if it is ephemeral. Raises as `Runner.stream`."""
        if request.ephemeral:
            return self._runner.stream(request, cancellation).attach(WithoutSession())
        self.store.open()
        stream = self._runner.stream(request, cancellation)
        try:
            # Of the backend that answers, which may be another one than was asked.
            session = self._new_session(stream.invocation.request, stream.invocation.cwd, about)
            turn = self.store.begin(session, NewTurn(prompt=request.prompt, model=stream.invocation.model, request_id=request.request_id))
        except BaseException:
            stream.close()
            raise
        return stream.attach(TurnRecorder(turn, self._record, stream=stream, gone_hint=REBUILD_HINT))

    def create(self, request: RunRequest, about: About = NOTHING) -> Session:
        """Create a session without a turn; ``request`` has the backend, workdir and options for its turns."""
        invocation = self._runner.prepare(replace(request, prompt="x"))
        new = self._new_session(request, invocation.cwd, about)
        yield_to_others()  # a system prompt may have 10 MB
        session = self.store.add(new)
        yield_to_others()
        return session

    def resume(
        self,
        session: Session,
        request: RunRequest,
        about: About = NOTHING,
        *,
        rebuild: bool = False,
        cancellation: Cancellation | None = None,
    ) -> RunStream:
        """Run ``request`` as the next turn of ``session``, in the CLI's own session if it has one.

        ``rebuild``: if the CLI's session no longer exists, start a new one with the turns so far. Raises Conflict while another
        turn runs, NotFound if the CLI's session no longer exists.
        """
        request = self._turn(session, request, about)
        new = NewTurn(prompt=request.prompt, model=request.options.get("model"), request_id=request.request_id)
        turn = self.store.start_turn(session, new, run_id=request.run_id or None)
        try:
            continuing = self._continuing(session, request, rebuild=rebuild)
            counts_all = continuing.resume and self._runner.backend(session.backend, request.owner).resumed_usage_is_total
            usage_before = self.store.usage_of_turns(session) if counts_all else None
            stream = self._runner.stream(continuing, cancellation)
        except BaseException:
            self.store.drop_turn(turn)
            raise

        def record(turn: Turn, end: TurnEnd) -> None:
            self._record(turn, replace(end, title=about.title, tags=tuple(about.tags), metadata=about.metadata))

        return stream.attach(TurnRecorder(turn, record, stream=stream, gone_hint=REBUILD_HINT), usage_before=usage_before)

    def stream(self, request: RunRequest, session_id: str | None, scope: Scope, cancellation: Cancellation | None = None) -> RunStream:
        """For stateless API surfaces: run ``request`` as the next turn of ``session_id``, or without a session for None."""
        if session_id is None:
            return self._runner.stream(request, cancellation)
        session = self.store.get(session_id, scope)
        return self.resume(session, replace(request, resume=None, ephemeral=False), cancellation=cancellation)

    def knows_turns(self, session_id: str, scope: Scope) -> bool:
        """Whether the session has earlier turns. One that was created empty, or never answered, has none."""
        session = self.store.get(session_id, scope)
        return bool(session.cli_session_id or self._answered_turns(session))

    def prepare_resume(self, session: Session, request: RunRequest, about: About = NOTHING, *, rebuild: bool = False) -> RunRequest:
        """The request that `resume` would run. Starts nothing. Raises what `resume` does, but for Conflict."""
        return self._continuing(session, self._turn(session, request, about), rebuild=rebuild)

    def fork(self, parent: Session, owner: str, about: About = NOTHING) -> Session:
        """A new session of ``owner`` that starts from the current state of ``parent``. Raises Conflict while ``parent`` runs a turn.

        If the CLI's session cannot be copied, the fork's first turn starts a new one with the turns so far (``needs_rebuild``).
        """
        if parent.status == "running":
            raise Conflict(
                f"session {parent.id} is running a turn; fork it when the turn has ended", field="session_id", issue="session is running"
            )
        _check_metadata(parent.metadata, about.metadata)
        spec = self._runner.backend(parent.backend, owner)
        cli_id, copy_id = parent.cli_session_id, new_id()
        has_copy = bool(cli_id and spec.session_files) and self._with_files(spec, lambda files, env: files.copy(str(cli_id), copy_id, env))
        fork = replace(
            parent,
            id=new_id(),
            owner=owner,
            parent_id=parent.id,
            status="idle",
            title=about.title or parent.title,
            tags=_united(parent.tags, about.tags),
            metadata={**parent.metadata, **about.metadata},
            cli_session_id=copy_id if has_copy else None,
            needs_rebuild=not has_copy and parent.turn_count > 0,
            usage=Usage(),
            cost_usd=None,
        )
        try:
            return self.store.add_fork(fork, parent)
        except BaseException:
            if has_copy:
                self._with_files(spec, lambda files, env: files.delete(copy_id, env))
            raise

    def delete(self, session: Session) -> None:
        """Delete the session and the CLI's own files of it. Raises Conflict while a turn runs."""
        self.store.delete(session)
        self._delete_files(session)

    def expire(self, retention_days: int) -> int:
        """Delete the sessions unused for ``retention_days``, in small batches. Returns their number."""
        before = time_ns() // 1000 - retention_days * 86_400_000_000
        count = 0
        while old := self.store.expired(before, EXPIRY_BATCH):
            for session in old:
                try:
                    self.delete(session)
                    count += 1
                except (Conflict, NotFound):  # used again or deleted in the meantime
                    continue
                yield_to_others()
            if len(old) < EXPIRY_BATCH:
                break
        return count

    def save_again(self) -> None:
        """Retry recording the turns whose end could not be stored."""
        while self._unsaved:
            self.store.end_turn(*self._unsaved[0])
            self._unsaved.popleft()

    def _record(self, turn: Turn, end: TurnEnd) -> None:
        """Record the end of a turn. A store failure does not affect the response; `save_again` retries."""
        try:
            self.store.end_turn(turn, end)
        except StoreUnavailable:
            log.exception("turn %d of session %s could not be recorded yet", turn.number, turn.session_id)
            self._unsaved.append((turn, end))

    def _new_session(self, request: RunRequest, cwd: str, about: About) -> Session:
        return Session(
            id=new_id(),
            owner=request.owner,
            backend=request.backend,
            model=request.options.get("model"),
            workdir=cwd,
            title=about.title or _title_of(request.prompt),
            tags=_united(self._default_tags, about.tags),
            metadata=about.metadata,
            options={name: value for name, value in request.options.items() if value is not None},
        )

    def _turn(self, session: Session, request: RunRequest, about: About) -> RunRequest:
        """``request`` as a turn of ``session``. Raises InvalidRequest."""
        turn = self._in_session(session, request)
        if not turn.history and not turn.prompt.strip():
            raise InvalidRequest("prompt is empty", field="prompt", issue="must not be empty")
        _check_metadata(session.metadata, about.metadata)
        return turn

    def _in_session(self, session: Session, request: RunRequest) -> RunRequest:
        """``request`` with the session's workdir and options. Raises InvalidRequest if it contradicts the session."""
        if request.backend != session.backend:
            raise InvalidRequest(
                f"session {session.id} belongs to backend {session.backend!r}", field="backend", issue="not the session's backend"
            )
        if request.workdir and self._runner.workdir(request) != session.workdir:
            raise InvalidRequest(f"session {session.id} works in {session.workdir}", field="workdir", issue="not the session's workdir")
        if request.ephemeral:
            raise InvalidRequest("a turn of a session is not ephemeral", field="ephemeral", issue="not with a session")
        asked = {name: value for name, value in request.options.items() if value is not None}
        inherited = frozenset(session.options.keys() - asked.keys())
        options = {**session.options, **asked}
        return replace(request, workdir=session.workdir, options=options, inherited=inherited, may_fall_back=False)

    def _continuing(self, session: Session, request: RunRequest, *, rebuild: bool) -> RunRequest:
        """``request`` so that the CLI resumes its own session, or else starts a new one with the turns so far, if any."""
        spec, cli_id = self._runner.backend(session.backend, request.owner), session.cli_session_id
        if cli_id and spec.can_resume and not session.needs_rebuild:
            knows = spec.session_files is None or self._with_files(spec, lambda files, env: files.has(cli_id, env))
            if knows and not (rebuild and spec.session_files is None):
                return replace(request, resume=cli_id)
        turns = self._answered_turns(session)
        if not turns:
            return request
        if not rebuild and not session.needs_rebuild:
            why = f"its {spec.name} session no longer exists" if spec.can_resume else f"{spec.name} cannot continue a session"
            raise NotFound(
                f"session {session.id} cannot be resumed: {why}; {REBUILD_HINT}", field="session_id", issue="CLI session is gone"
            )
        earlier = [message for turn in turns for message in (said("user", turn.prompt), said("assistant", turn.output)) if message.text]
        return replace(request, history=(*earlier, *request.messages))

    def _answered_turns(self, session: Session) -> list[Turn]:
        """The latest turns that have an answer."""
        turns = self.store.turns(session, after=max(0, session.turn_count - REBUILD_TURNS), limit=REBUILD_TURNS + 1)
        return [turn for turn in turns if turn.status == "finished" or turn.output]

    def _delete_files(self, session: Session) -> None:
        spec = self._runner.backends.get(session.backend)
        cli_id = session.cli_session_id
        if spec and spec.session_files and cli_id:
            self._runner.evict_session(spec.name, cli_id)
            try:
                self._with_files(spec, lambda files, env: files.delete(cli_id, env))
            except OSError:
                log.exception("files of session %s could not be deleted", session.id)

    def _with_files(self, spec: BackendSpec, work: Callable[[SessionFiles, Mapping[str, str]], T]) -> T:
        """Call ``work`` in a thread: folders with many sessions would block the event loop."""
        assert spec.session_files is not None, "not known"
        env = cli_environment(spec, self._environ) | dict(spec.env)
        done: T = gevent.get_hub().threadpool.apply(work, (spec.session_files, env))
        return done


def _check_metadata(kept: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Raises InvalidRequest if both together have too many keys."""
    if new and (count := len({*kept, *new})) > METADATA_KEYS_LIMIT:
        issue = f"{count} keys, including those of the session; at most {METADATA_KEYS_LIMIT} are allowed"
        raise InvalidRequest(f"metadata: {issue}", field="metadata", issue=issue)


def _united(some: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*some, *more)))


def _title_of(prompt: str) -> str | None:
    """The beginning of a session's first prompt, for a session without a title."""
    line = next(iter(prompt.strip()[: TITLE_CHARS + 1].splitlines()), "").rstrip()
    return (line if len(line) <= TITLE_CHARS else f"{line[: TITLE_CHARS - 1].rstrip()}…") or None
