"""What the compatible surfaces share between their routes and a run: headers in, headers out, the run itself, whole or streamed."""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from flask import Response, current_app, request

from blueprints.client_watch import ClientWatch, watch_client
from blueprints.compat.structured import json_answer, only_json
from blueprints.context import request_id, services
from blueprints.response_headers import BACKEND, ESTIMATED, denied_header, ignored_header
from blueprints.streaming import stream_response
from services.cancellation import Cancellation
from services.clis.spec import Invocation
from services.errors import ClinvkError, Conflict, InvalidRequest, NotFound, RunFailed
from services.events import Batch, Denial, Failed, Finished, Started, Text, UsageUpdate
from services.requests import RunRequest, RunResult
from services.runner import RunStream, collect
from services.sessions.continuation_stream import KeptStream
from services.sessions.transcript import Turn
from services.sessions.turn_stream import TurnStream

SESSION_HEADER = "X-Clinvk-Session"
WORKDIR_HEADER = "X-Clinvk-Workdir"

OF_A_RUN = ("not_found", "conflict", "backend_error", "backend_unavailable", "backend_overloaded", "timeout")
"""Errors of a route that runs a CLI: a native run that failed is a result, one on a compatible surface is an error."""


def asked_session() -> str | None:
    """The session of ours whose next turn the request is; it may be named by the beginning of its id."""
    return request.headers.get(SESSION_HEADER) or None


@contextmanager
def fields_as_sent() -> Iterator[None]:
    """Errors of the services name the header or the field in which this request carries what they are about."""
    try:
        yield
    except ClinvkError as error:
        field = error.details.get("field")
        session = SESSION_HEADER if asked_session() else "previous_response_id"
        sent = {"session_id": session, "workdir": WORKDIR_HEADER, "backend": "model"}.get(str(field))
        if sent:
            error.details["field"] = sent
            error.message = f"{sent}: {error.message}"
        raise


@fields_as_sent()
def continues_turns() -> bool:
    """Whether that session knows what was said before, so that the last message is all that is new. Raises NotFound."""
    session = asked_session()
    return session is not None and services().conversations.knows_turns(session)


def asked_workdir() -> str | None:
    return request.headers.get(WORKDIR_HEADER) or None


def answer_headers(
    backend: str, ignored: Iterable[str], *, denied_tools: Iterable[Denial] = (), is_estimated: bool = False
) -> dict[str, str]:
    """Who answered, what was not honoured, which tools the agent was refused, and whether the token counts are a guess."""
    estimated = {ESTIMATED: "usage"} if is_estimated else {}
    return {BACKEND: backend, **ignored_header(ignored), **denied_header(denied_tools), **estimated}


def result_headers(result: RunResult, ignored: Iterable[str]) -> dict[str, str]:
    """The headers of a whole answer. Those of a stream are sent before its run is over, so they cannot name denied tools."""
    return answer_headers(result.backend, ignored, denied_tools=result.denied_tools, is_estimated=result.usage is None)


Stream = RunStream | TurnStream | KeptStream
Start = Callable[[RunRequest, Cancellation], Stream]
"""How a run begins: alone, as a turn of a session, or where a conversation stands."""


def start_session_turn(run_request: RunRequest, cancellation: Cancellation) -> Stream:
    """As the next turn of the session that the request names, or as it is."""
    return services().conversations.stream(run_request, _own_session(run_request.resume), cancellation)


def start_continuing_conversation(said: Sequence[Turn], *, is_json: bool) -> Start:
    """For a client that repeats all that was ``said``: where its conversation stands, if that is remembered."""

    def start(run_request: RunRequest, cancellation: Cancellation) -> Stream:
        if run_request.resume is not None:
            return start_session_turn(run_request, cancellation)
        return services().continuation.stream(run_request, said, answer_of, cancellation)

    def answer_of(end: Finished, text: str) -> str:
        return json_answer(end.structured_output, text) if is_json else text

    return start


def start_from_response(node: str | None) -> Start:
    """From the response ``node``, whose session the run resumes. A turn of a session of ours is one more turn of it, once."""

    def start(run_request: RunRequest, cancellation: Cancellation) -> Stream:
        own = _own_session(run_request.resume)
        if own is None:
            return services().responses.stream(run_request, node, cancellation)
        if node is None or own.startswith(asked_session() or " "):
            return start_session_turn(run_request, cancellation)
        if run_request.ephemeral:
            raise InvalidRequest("store: what goes on in a session is kept; leave it out", field="store", issue="must not be false")
        return services().responses.one_turn(own, node, lambda: start_session_turn(run_request, cancellation))

    return start


@fields_as_sent()
def run_whole(run_request: RunRequest, start: Start = start_session_turn) -> RunResult:
    """The whole of a run; its client's leaving stops it. Raises RunFailed."""
    svc = services()
    if svc.dry_run:
        return _dry_result(svc.runner.prepare(run_request))
    cancellation, watch = watch_client()
    try:
        with start(run_request, cancellation) as stream:
            result = collect(stream)
    finally:
        watch.close()
    if result.failure:
        raise RunFailed(result.failure, result)
    return result


@fields_as_sent()
def run_streamed(
    run_request: RunRequest,
    encode: Callable[[Batch], bytes],
    headers: Callable[[Invocation], dict[str, str]],
    start: Start = start_session_turn,
    *,
    is_json: bool = False,
    waits_for_words: bool = False,
) -> Response:
    """The same run as server-sent events. What can be refused is refused before; with ``is_json`` the text is the JSON alone.

    With ``waits_for_words`` the answer's status waits until the CLI says something, fails, or is silent for a keep-alive's time:
    a run that comes to nothing (not logged in, rate limited) is then an error with its own status and ``x-should-retry``,
    as the vendors' APIs answer it. Inside a stream it would make Claude Code repeat the request without streaming.
    """
    svc = services()
    cancellation, watch = watch_client()
    try:
        stream = _DryStream(svc.runner.prepare(run_request)) if svc.dry_run else start(run_request, cancellation)
        begun = _Begun(stream, stream)
        if waits_for_words:
            begun.wait_for_words()
    except BaseException:
        watch.close()
        raise
    return sse_response(_Begun(only_json(begun), stream) if is_json else begun, watch, encode, headers(stream.invocation))


def _own_session(resumed: str | None) -> str | None:
    """The session of ours that is continued: the header names it, or the id of a response that was a turn of one."""
    if resumed is None or resumed == asked_session():
        return resumed
    try:
        found = services().conversations.store.get(resumed)
    except (NotFound, Conflict):
        return None
    return found.id if found.id == resumed else None


def sse_response(stream: Any, watch: ClientWatch, encode: Callable[[Batch], bytes], headers: dict[str, str]) -> Response:
    return stream_response(stream, watch, encode, "text/event-stream; charset=utf-8", headers)


def error_body() -> Callable[[Failed], dict[str, Any]]:
    """How this request's surface tells a failure, for use when the request is over and its stream goes on."""
    tell = current_app.extensions["clinvk.error_body"]
    path, id_ = request.path, request_id()
    return lambda failure: cast(dict[str, Any], tell(RunFailed(failure), path, id_))


class _Begun(Iterator[Batch]):
    """``batches`` of a run, of which some may have been taken already. Closing it closes the run."""

    def __init__(self, batches: Iterator[Batch], run: Stream | _DryStream) -> None:
        self._batches = batches
        self._run = run
        self._taken: deque[Batch] = deque()

    def __next__(self) -> Batch:
        return self._taken.popleft() if self._taken else next(self._batches)

    def wait_for_words(self) -> None:
        """Take batches until one says something, or nothing. Raises RunFailed, with the run closed, for a failure before that."""
        try:
            for batch in self._batches:
                self._taken.append(batch)
                words = [event for event in batch if not isinstance(event, Started | UsageUpdate)]
                if words and isinstance(words[0], Failed):
                    raise RunFailed(words[0])
                if words or not batch:
                    return
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._run.close()


class _DryStream(Iterator[Batch]):
    """What a stream is when nothing shall be started (unified_flags.dry_run): the command line."""

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self._batches: Iterator[Batch] = iter([[Started(model=invocation.model), Text(shlex.join(invocation.shown_argv)), Finished()]])

    def __next__(self) -> Batch:
        return next(self._batches)

    def close(self) -> None:
        pass


def _dry_result(invocation: Invocation) -> RunResult:
    return RunResult(
        backend=invocation.spec.name,
        model=invocation.model,
        session_id=None,
        output=shlex.join(invocation.shown_argv),
        thinking="",
        exit_code=None,
        duration_ms=0,
        usage=None,
        cost_usd=None,
        stop_reason="end_turn",
        ignored=invocation.ignored,
    )
