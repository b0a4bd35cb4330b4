"""Puts a run into the queue, to be executed whether or not its client stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import flask
import orjson
from flask import Response, request

from blueprints.context import services
from blueprints.current_request import current_request
from blueprints.response_headers import REPLAYED, RUN_ID
from blueprints.runs.follow import follow_run
from blueprints.runs.keys import events_expired, idempotency_key
from blueprints.runs.plan import Origin, RunPlan
from blueprints.times import to_time
from services.event_loop import yield_to_others
from services.runs.record import Chunk, IdempotencyKey, NewRun, Run, Webhook

RESPOND_ASYNC = "respond-async"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A plan that is executed later, and how. ``check`` raises what a start would refuse now."""

    plan: RunPlan
    origin: Origin
    check: Callable[[], None]
    target: Mapping[str, str] = field(default_factory=dict)
    """What else the plan is made from."""
    priority: int = 5
    attempts: int = 1
    timeout_s: float | None = None
    webhooks: tuple[Webhook, ...] = ()
    begun: Chunk | None = None
    """See `NewRun`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the answer, a stream's too."""


def prefers_async() -> bool:
    """RFC 7240: preferences are separated by commas, their parameters by semicolons. Names ignore case."""
    preferences = ",".join(request.headers.getlist("Prefer")).split(",")
    return any(preference.partition(";")[0].strip().lower() == RESPOND_ASYNC for preference in preferences)


def submit(submission: Submission, content_type: str | None, to_answer: Callable[[Run], Response]) -> Response:
    """Answer with ``to_answer`` of the queued run, or with its events as a stream of ``content_type``, which may be left at any time."""
    runs, key = services().runs, idempotency_key()
    earlier = runs.store.find_key(submission.origin.owner, key) if key else None
    if earlier is None:
        submission.check()
        new = _to_new_run(submission, key)
        yield_to_others()  # a request may have 10 MB
        share = services().quotas.share_of(new.owner, runs.limits.max_waiting_per_owner)
        run, is_new = runs.store.add(new, max_waiting=runs.limits.max_waiting, max_waiting_per_owner=share)
        if is_new:
            runs.wake_workers()
    else:
        run, is_new = earlier, False
    current = current_request()
    current.answer_headers[RUN_ID] = run.id
    if not is_new:
        current.answer_headers[REPLAYED] = "true"
    if content_type:
        if run.are_events_expired:
            raise events_expired(run)
        return follow_run(runs, run, None, content_type, submission.headers)
    response = to_answer(run)
    response.headers.extend(submission.headers)
    return response


def _to_new_run(submission: Submission, key: IdempotencyKey | None) -> NewRun:
    plan, origin = submission.plan, submission.origin
    asked = {"body": flask.g.sent, "origin": asdict(origin), "target": dict(submission.target)}
    return NewRun(
        id=plan.id,
        kind=plan.kind,
        owner=origin.owner,
        is_background=True,
        request_id=origin.request_id,
        request=orjson.dumps(asked),
        title=plan.title,
        tags=plan.tags,
        metadata=plan.metadata,
        session_id=plan.expected.session_id,
        backend=plan.expected.backend,
        model=plan.expected.model,
        priority=submission.priority,
        weight=services().access.rights_of(origin.owner).weight,
        attempts=submission.attempts,
        timeout_s=submission.timeout_s,
        idempotency=key,
        webhooks=submission.webhooks,
        begun=submission.begun,
    )


def stored_body(request: bytes) -> dict[str, Any]:
    """The body of a run's stored request."""
    body: dict[str, Any] = orjson.loads(request)["body"]
    return body


def stored_request(run: Run) -> tuple[dict[str, Any], Origin, dict[str, str]]:
    """(body, origin, target) of a queued run, as `submit` stored them."""
    asked = orjson.loads(run.request)
    as_stored = Origin(**asked["origin"])
    origin = replace(as_stored, is_background=True, caller=run.owner, run_id=run.id, submitted_at=to_time(run.created_at))
    return asked["body"], origin, asked["target"]
