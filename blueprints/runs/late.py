"""Starts a run whose stream is already open: keep-alives cover the wait for a slot, and a refusal is an event of the stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from contextvars import copy_context

import gevent
from flask import Response

from blueprints import sse
from blueprints.runs.plan import Beginning, RunPlan
from blueprints.streaming import stream_response
from services.cancellation import CLIENT_GONE
from services.errors import ClinvkError
from services.runs.live import LiveRun
from services.runs.record import first_number
from services.runs.work import Work

SILENCE_S = 10.0


def respond_late(plan: RunPlan, run: LiveRun, content_type: str, closing: ExitStack) -> Response:
    """The stream of a plan with ``to_refusal``. ``closing`` has what the live run needs closed."""
    start = gevent.spawn(copy_context().run, _started, plan, run)
    closing.callback(_end, start, run)
    return stream_response(_frames(plan, start), content_type, {}, closing.pop_all())


def _started(plan: RunPlan, run: LiveRun) -> Work | ClinvkError:
    try:
        work = plan.start(Beginning(run_id=run.id, cancellation=run.cancellation, first=first_number(plan.kind)))
    except ClinvkError as error:
        return error
    run.begin(work)
    return work


def _frames(plan: RunPlan, start: gevent.Greenlet) -> Iterator[bytes]:
    assert plan.to_refusal
    while not start.ready():
        start.join(SILENCE_S)
        if not start.ready():
            yield sse.KEEP_ALIVE
    started: Work | ClinvkError = start.get()
    if isinstance(started, ClinvkError):
        yield plan.to_refusal(started)
    else:
        yield from started.frames()


def _end(start: gevent.Greenlet, run: LiveRun) -> None:
    if not start.ready():
        run.cancellation.cancel(CLIENT_GONE)
        start.join()
    if run.work:
        run.work.close()
