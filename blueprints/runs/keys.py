"""The header ``Idempotency-Key``: a repeated request gets the run of the first one, or its answer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import flask
import orjson
from flask import Response, request

from blueprints.current_request import current_request
from blueprints.response_headers import REPLAYED, RUN_ID, fallback_header
from blueprints.runs.follow import follow_run
from services.errors import Conflict, EventsExpired, InvalidRequest, RunEnded
from services.runs.record import ENDED, IdempotencyKey, Run
from services.runs.service import Runs

HEADER = "Idempotency-Key"
VALID = re.compile(r"[ -~]{1,255}")
COUNTED_HEADERS = ("Prefer", "X-Clinvk-Session", "X-Clinvk-Workdir")
"""Headers that change the run, so that a request with others is another one."""
RETRY_AFTER_S = 2.0


def idempotency_key() -> IdempotencyKey | None:
    """The key of the current request, which must be a run's. Raises InvalidRequest."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not VALID.fullmatch(key):
        raise InvalidRequest(f"{HEADER}: expected 1 to 255 printable ASCII characters", field=HEADER, issue="not a valid key")
    digest = hashlib.sha256()
    for part in _counted():
        digest.update(part)
        digest.update(b"\0")
    return IdempotencyKey(key=key, body_hash=digest.hexdigest())


def _counted() -> Iterator[bytes]:
    yield request.method.encode()
    yield request.path.encode()
    for name in COUNTED_HEADERS:
        yield request.headers.get(name, "").encode()
    yield orjson.dumps(flask.g.sent, option=orjson.OPT_SORT_KEYS)


def events_expired(run: Run) -> EventsExpired:
    return EventsExpired(
        f"the events of run {run.id} were deleted (runs.events_retention_hours); `GET /api/v1/runs/{run.id}` has its result"
    )


def replay(runs: Runs, run: Run) -> Response:
    """The answer of a foreground run whose key was sent again. Raises Conflict while it goes on, RunEnded if it was lost."""
    if run.status not in ENDED:
        raise Conflict(
            f"the first request with this {HEADER} is still running; repeat the request to get its answer",
            field=HEADER,
            issue="still running",
            retry_after_s=RETRY_AFTER_S,
        )
    current = current_request()
    current.request_id = run.request_id
    current.answer_headers |= {RUN_ID: run.id, REPLAYED: "true", **fallback_header(run.passed_over)}
    if run.answer is None:
        assert run.error is not None
        raise RunEnded(run.error.code, run.error.message, run.ended_at)
    headers = dict(run.answer.headers)
    if not run.answer.body and run.are_events_expired:
        raise events_expired(run)
    if run.answer.body:
        return Response(run.answer.body, run.answer.status, headers)
    content_type = headers.pop("Content-Type")
    return follow_run(runs, run, None, content_type, headers)
