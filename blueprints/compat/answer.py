"""How the compatible surfaces run a request and respond to it. Each surface supplies its `Dialect`."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from time import monotonic
from typing import Any, cast

from flask import Response, current_app, request

from blueprints.compat.context import fields_as_sent
from blueprints.compat.estimate import estimate_usage
from blueprints.compat.starts import Start
from blueprints.compat.structured import is_json, only_json
from blueprints.context import services
from blueprints.current_request import current_request, request_id
from blueprints.response_headers import BACKEND, ESTIMATED, denied_header, hint_header, ignored_header
from blueprints.runs.plan import Beginning, RunPlan
from blueprints.runs.respond import respond
from blueprints.runs.work import Encode, StreamWork
from services.cancellation import Cancellation
from services.clis.spec import Invocation
from services.decoding.text import PlainDecoder
from services.errors import RunFailed
from services.events import Batch, Failed, Finished, Started, Text
from services.fold import EventStream, Fold
from services.requests import RunRequest, RunResult
from services.runs.record import RunKind
from services.runs.work import Answer, RunFacts
from services.usage import Usage

RUN_ERRORS = ("not_found", "conflict", "backend_error", "backend_unavailable", "backend_overloaded", "timeout")
"""Error codes of a route that runs a CLI. A failed run is an error here; the native API returns it as a result."""

SSE = "text/event-stream; charset=utf-8"

ToError = Callable[[Failed], dict[str, Any]]


class Dialect(ABC):
    """Encodes the outcome of one request in its client's format. Pure."""

    waits_for_output = False
    """See `RunPlan`."""

    @abstractmethod
    def prompt_tokens(self) -> int:
        """Estimated number of input tokens."""

    @abstractmethod
    def ignored(self, options: tuple[str, ...]) -> Iterable[str]:
        """Request fields without effect, by the client's names. ``options``: our options that the backend does not support."""

    @abstractmethod
    def to_answer(self, result: RunResult, usage: Usage) -> dict[str, Any]:
        """The body of a non-streamed response. ``usage`` is an estimate where the CLI reports none."""

    @abstractmethod
    def to_encoder(self, to_error: ToError) -> Encode:
        """Encoder for an event stream. ``to_error`` builds the body of an error event."""


@fields_as_sent
def answer(run_request: RunRequest, dialect: Dialect, start: Start, *, kind: RunKind, stream: bool) -> Response:
    """Run the request; respond with one JSON object, or with server-sent events if ``stream``.

    Raises the errors of ``start``, and RunFailed if the run fails before a stream has begun.
    """
    begin = _dry_run if services().dry_run else start
    to_error = _to_error()

    def begun(beginning: Beginning) -> StreamWork:
        run = begin(replace(run_request, run_id=beginning.run_id), beginning.cancellation)
        batches = only_json(run) if is_json(run_request) else run

        def to_answer(result: RunResult) -> Answer:
            if result.failure:
                raise RunFailed(result.failure, result)
            estimated = {} if result.usage else {ESTIMATED: "usage"}
            body = dialect.to_answer(result, result.usage or estimate_usage(dialect.prompt_tokens(), result.output))
            return Answer(body=body, headers={**estimated, **denied_header(result.denied_tools)})

        # Only plain-text CLIs are known in advance to report no usage.
        headers = _headers(run.invocation, dialect, is_estimated=stream and run.invocation.spec.decoder is PlainDecoder)
        return StreamWork(run, batches, to_encoder=lambda _: dialect.to_encoder(to_error), to_answer=to_answer, headers=headers)

    expected = RunFacts(backend=run_request.backend, model=run_request.options.get("model"))
    plan = RunPlan(kind=kind, start=begun, expected=expected, waits_for_output=dialect.waits_for_output)
    return respond(plan, SSE if stream else None)


def _headers(invocation: Invocation, dialect: Dialect, *, is_estimated: bool) -> dict[str, str]:
    estimated = {ESTIMATED: "usage"} if is_estimated else {}
    typos = current_request().misspelled
    ignored = ignored_header([*dialect.ignored(invocation.ignored), *typos])
    return {BACKEND: invocation.spec.name, **ignored, **hint_header(typos), **estimated}


def _to_error() -> ToError:
    """Error formatter of this request's surface, usable after the request context has ended and the stream continues."""
    error_body = current_app.extensions["clinvk.error_body"]
    path, id = request.path, request_id()
    return lambda failure: cast(dict[str, Any], error_body(RunFailed(failure), path, id))


def _dry_run(run_request: RunRequest, _: Cancellation) -> EventStream:
    return _DryRun(services().runner.prepare(run_request))


class _DryRun(Iterator[Batch]):
    """Stands in for a run with unified_flags.dry_run: outputs the command line, starts nothing."""

    session_id = None

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.started_at = monotonic()
        self.fold = Fold()
        self._batches: Iterator[Batch] = iter([[Started(model=invocation.model), Text(shlex.join(invocation.shown_argv)), Finished()]])

    def __next__(self) -> Batch:
        return next(self._batches)

    def close(self) -> None:
        """No process to stop."""
