"""Executes a run that belongs to its client's connection and whose events and answer are stored: it can be asked for again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from contextvars import copy_context
from typing import Any

import flask
import gevent
import orjson
from flask import Response, current_app, request

from blueprints.context import services
from blueprints.current_request import current_request
from blueprints.response_headers import RUN_ID, fallback_header
from blueprints.runs.follow import follow_run
from blueprints.runs.keys import idempotency_key, replay
from blueprints.runs.plan import Beginning, RunPlan
from services.cancellation import CLIENT_GONE
from services.errors import RunEnded, RunFailed
from services.runs.live import CANCELLED, LiveRun
from services.runs.record import NewRun, RunEnd, RunError, StoredAnswer, first_number
from services.runs.work import Work, to_error

JSON = "application/json"


def respond_kept(plan: RunPlan, live: LiveRun, content_type: str | None, closing: ExitStack) -> Response:
    """As `respond` does. ``closing`` has what the live run needs closed."""
    runs = services().runs
    new = _to_new_run(plan, live)
    run, is_new = runs.store.begin(new)
    if not is_new:
        return replay(runs, run)
    live.is_stored = True
    try:
        work = plan.start(Beginning(run_id=run.id, cancellation=live.cancellation, first=first_number(run.kind)))
    except RunFailed as error:  # it waited for its slot
        if error.failure is CANCELLED:
            runs.performer.refuse(run, first_number(run.kind), to_error(error.failure))
        else:
            runs.store.discard(run.id)
        raise
    except BaseException:
        runs.store.discard(run.id)
        raise
    live.begin(work)
    current_request().answer_headers |= {RUN_ID: run.id, **fallback_header(live.facts.passed_over)}
    held = closing.pop_all()
    to_stored = _storing(content_type)

    def perform() -> RunEnd | None:
        with held:
            return runs.performer.perform(run, live, work, first_number(run.kind), to_stored if new.idempotency else None)

    performance = gevent.spawn(copy_context().run, perform)
    if content_type:
        leaving = ExitStack()
        leaving.callback(live.cancellation.cancel, CLIENT_GONE)
        return follow_run(runs, run, None, content_type, work.headers, leaving)
    end: RunEnd | None = performance.get()
    if end is None:
        raise RunEnded("worker_lost", "this run was ended by another process")
    answer = end.answer or to_stored(work, None if work.failure else end.error)  # a failure says more than its code and message
    return Response(answer.body, answer.status, dict(answer.headers))


def _storing(content_type: str | None) -> Callable[[Work, RunError | None], StoredAnswer]:
    """Makes the HTTP answer of the run when it is over; of a stream only the head, as its events are stored."""
    error_answer = current_app.extensions["clinvk.error_answer"]
    path, request_id = request.path, current_request().request_id

    def to_stored(work: Work, error: RunError | None) -> StoredAnswer:
        if content_type:
            return StoredAnswer(status=200, headers=_pairs({**work.headers, "Content-Type": content_type}), body=b"")
        try:
            if error:
                raise RunEnded(error.code, error.message)
            answer = work.answer()
        except (RunEnded, RunFailed) as failure:
            return _of_error(error_answer(failure, path, request_id))
        body = orjson.dumps(answer.body, option=orjson.OPT_NON_STR_KEYS) + b"\n"
        return StoredAnswer(status=200, headers=_pairs({**work.headers, **answer.headers, "Content-Type": JSON}), body=body)

    return to_stored


def _to_new_run(plan: RunPlan, live: LiveRun) -> NewRun:
    return NewRun(
        id=live.id,
        kind=live.kind,
        owner=live.owner,
        is_background=False,
        request_id=live.request_id,
        request=orjson.dumps({"body": flask.g.sent}) if plan.is_stored else b"{}",
        title=live.title,
        tags=live.tags,
        metadata=live.metadata,
        session_id=live.expected.session_id,
        backend=live.expected.backend,
        model=live.expected.model,
        priority=0,
        idempotency=idempotency_key(),
    )


def _of_error(answer: Any) -> StoredAnswer:
    """``answer``: an `app.api.surfaces.ErrorAnswer`."""
    return StoredAnswer(status=answer.status, headers=_pairs(answer.headers), body=answer.body)


def _pairs(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(headers.items())
