"""How the compatible surfaces run a request and respond to it. Each surface supplies its `Dialect`."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from time import monotonic
from typing import Any, ClassVar, cast

from flask import Response, current_app

from blueprints.compat.context import FieldsAsSent
from blueprints.compat.estimate import estimate_usage
from blueprints.compat.starts import Start
from blueprints.compat.structured import is_json, only_json
from blueprints.context import services
from blueprints.current_request import current_request
from blueprints.response_headers import BACKEND, ESTIMATED, denied_header, hint_header, ignored_header
from blueprints.runs.plan import Beginning, Origin, RunPlan
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

    path: ClassVar[str]
    """Of the route. The surface decides the form of errors."""

    waits_for_output = False
    """See `RunPlan`."""

    backend = ""
    """The backend that answers; known when the run has started."""

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
    def to_encoder(self, to_error: ToError, first: int) -> Encode:
        """Encoder for an event stream. ``to_error`` builds the body of an error event; ``first`` is the number of the first event."""

    def webhook_event(self, body: Mapping[str, Any]) -> str | None:
        """What webhooks call the end of the run with this answer; None: its status."""
        return None


def answer(run_request: RunRequest, dialect: Dialect, start: Start, origin: Origin, *, kind: RunKind, stream: bool) -> Response:
    """Run the request; respond with one JSON object, or with server-sent events if ``stream``.

    Raises the errors of ``start``, and RunFailed if the run fails before a stream has begun.
    """
    typos = current_request().misspelled
    plan = to_plan(run_request, dialect, start, origin, kind=kind, stream=stream, typos=typos)
    with FieldsAsSent(origin):
        return respond(plan, SSE if stream else None)


def to_plan(
    run_request: RunRequest,
    dialect: Dialect,
    start: Start,
    origin: Origin,
    *,
    kind: RunKind,
    stream: bool,
    typos: Mapping[str, str],
    **more: Any,
) -> RunPlan:
    """``typos``: the misspelled fields, each with the known field's name. ``more``: other fields of the plan."""
    begin = _dry_run if services().dry_run else start
    to_error = _to_error(dialect, origin)

    def begun(beginning: Beginning) -> StreamWork:
        run = begin(replace(run_request, run_id=beginning.run_id), beginning.cancellation)
        dialect.backend = run.invocation.spec.name
        batches = only_json(run) if is_json(run_request) else run

        def to_answer(result: RunResult) -> Answer:
            if result.failure:
                raise RunFailed(result.failure, result)
            estimated = {} if result.usage else {ESTIMATED: "usage"}
            body = dialect.to_answer(result, result.usage or estimate_usage(dialect.prompt_tokens(), result.output))
            headers = {**estimated, **denied_header(result.denied_tools)}
            return Answer(body=body, headers=headers, webhook_event=dialect.webhook_event(body))

        return StreamWork(
            run,
            batches,
            to_encoder=lambda _: dialect.to_encoder(to_error, beginning.first),
            to_answer=to_answer,
            headers=to_headers(run.invocation, dialect, typos, stream=stream),
            keeps_session=not run_request.ephemeral,
        )

    expected = RunFacts(backend=run_request.backend, model=run_request.options.get("model"))
    return RunPlan(**{"kind": kind, "start": begun, "expected": expected, "waits_for_output": dialect.waits_for_output, **more})


def to_headers(invocation: Invocation, dialect: Dialect, typos: Mapping[str, str], *, stream: bool) -> dict[str, str]:
    """The headers that are known when a run starts."""
    # Only plain-text CLIs are known in advance to report no usage.
    estimated = {ESTIMATED: "usage"} if stream and invocation.spec.decoder is PlainDecoder else {}
    ignored = ignored_header([*dialect.ignored(invocation.ignored), *typos])
    return {BACKEND: invocation.spec.name, **ignored, **hint_header(typos), **estimated}


def _to_error(dialect: Dialect, origin: Origin) -> ToError:
    """Error formatter of the dialect's surface, usable when the application's context has ended and the stream continues."""
    error_body = current_app.extensions["clinvk.error_body"]
    return lambda failure: cast(dict[str, Any], error_body(RunFailed(failure), dialect.path, origin.request_id))


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
