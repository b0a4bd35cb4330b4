"""How the compatible surfaces run a request and respond to it. Each surface supplies its `Dialect`."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from time import monotonic
from typing import Any, cast

from flask import Response, current_app, jsonify, request

from blueprints.compat.context import fields_as_sent
from blueprints.compat.estimate import estimate_usage
from blueprints.compat.starts import Start
from blueprints.compat.structured import is_json, only_json
from blueprints.context import services
from blueprints.current_request import current_request, request_id
from blueprints.response_headers import BACKEND, ESTIMATED, denied_header, hint_header, ignored_header
from blueprints.streaming import open_run, stream_response
from services.cancellation import Cancellation
from services.clis.spec import Invocation
from services.decoding.text import PlainDecoder
from services.errors import RunFailed
from services.events import Batch, Failed, Finished, Started, Text, UsageUpdate
from services.fold import EventStream, collect
from services.requests import RunRequest, RunResult
from services.usage import Usage

RUN_ERRORS = ("not_found", "conflict", "backend_error", "backend_unavailable", "backend_overloaded", "timeout")
"""Error codes of a route that runs a CLI. A failed run is an error here; the native API returns it as a result."""

SSE = "text/event-stream; charset=utf-8"

Encode = Callable[[Batch], bytes]
ToError = Callable[[Failed], dict[str, Any]]


class Dialect(ABC):
    """Encodes the outcome of one request in its client's format. Pure."""

    waits_for_output = False
    """Whether a stream holds back its status until the CLI produces output, fails, or is silent for the keep-alive interval. A run
    that fails at once (not logged in, rate limited) then gets its own status and ``x-should-retry``, as from the vendors' APIs."""

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


@fields_as_sent()
def answer(run_request: RunRequest, dialect: Dialect, start: Start, *, stream: bool) -> Response:
    """Run the request; respond with one JSON object, or with server-sent events if ``stream``.

    Raises the errors of ``start``, and RunFailed if the run fails before a stream has begun.
    """
    run, closing = open_run(_dry_run(run_request) if services().dry_run else partial(start, run_request))
    with closing:
        batches: Iterator[Batch] = _from_first_output(run) if dialect.waits_for_output else iter(run)
        if is_json(run_request):
            batches = only_json(batches)
        if stream:
            # Only plain-text CLIs are known in advance to report no usage.
            headers = _headers(run.invocation, dialect, is_estimated=run.invocation.spec.decoder is PlainDecoder)
            return stream_response(batches, dialect.to_encoder(_to_error()), SSE, headers, closing.pop_all())
        result = collect(run, batches)
    if result.failure:
        raise RunFailed(result.failure, result)
    usage = result.usage or estimate_usage(dialect.prompt_tokens(), result.output)
    response = jsonify(dialect.to_answer(result, usage))
    response.headers.extend(_headers(run.invocation, dialect, is_estimated=result.usage is None))
    response.headers.extend(denied_header(result.denied_tools))  # a stream's headers are sent before its run is over
    return response


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


def _from_first_output(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Wait for the first output or the first keep-alive, then yield all batches. Raises RunFailed for a failure before that."""
    batches = iter(batches)
    taken: list[Batch] = []
    for batch in batches:
        taken.append(batch)
        output = [event for event in batch if not isinstance(event, Started | UsageUpdate)]
        if output and isinstance(output[0], Failed):
            raise RunFailed(output[0])
        if output or not batch:
            break
    return chain(taken, batches)


def _dry_run(run_request: RunRequest) -> Callable[[Cancellation], EventStream]:
    return lambda _: _DryRun(services().runner.prepare(run_request))


class _DryRun(Iterator[Batch]):
    """Stands in for a run with unified_flags.dry_run: outputs the command line, starts nothing."""

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.started_at = monotonic()
        self._batches: Iterator[Batch] = iter([[Started(model=invocation.model), Text(shlex.join(invocation.shown_argv)), Finished()]])

    def __next__(self) -> Batch:
        return next(self._batches)

    def close(self) -> None:
        """No process to stop."""
