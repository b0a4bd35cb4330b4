"""The plans of `/prompt` and of a session's next turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flask import Response, jsonify

from blueprints.context import services
from blueprints.current_request import request_id
from blueprints.native.answers import to_work
from blueprints.native.session_translate import to_about
from blueprints.native.translate import to_dry_run, to_run_request
from blueprints.runs.plan import Beginning, Origin, RunPlan
from services.cancellation import Cancellation
from services.models import Resolution
from services.requests import RunRequest
from services.run_stream import RunStream
from services.runs.record import RunKind
from services.runs.work import RunFacts, Work
from services.sessions.conversations import About
from services.store.records import Session

Begin = Callable[[RunRequest, Cancellation], RunStream]
ToWork = Callable[[RunStream, Beginning, Origin], Work]
"""How a started run is encoded for its client."""


def to_request(body: Mapping[str, Any], origin: Origin, session: Session | None = None) -> RunRequest:
    """The run of ``body``, on the session's backend if there is one."""
    models = services().models_of(origin.owner)
    default = Resolution(session.backend, None) if session else models.resolve(None)
    return to_run_request(body, models=models, default=default, origin=origin)


@dataclass(frozen=True, slots=True)
class SingleRun:
    """One prompt, or one turn of a session. ``prepared``: the request with all that its session adds. Raises what a start would."""

    plan: RunPlan
    prepared: Callable[[], RunRequest]

    def check(self) -> None:
        services().runner.check(self.prepared())


def plan_prompt(body: Mapping[str, Any], origin: Origin, to_work: ToWork = to_work) -> SingleRun:
    conversations = services().conversations
    request, about = to_request(body, origin), to_about(body)

    def begin(request: RunRequest, cancellation: Cancellation) -> RunStream:
        return conversations.begin(request, about, cancellation)

    return SingleRun(_plan("prompt", request, about, origin, begin, to_work), lambda: request)


def plan_turn(body: Mapping[str, Any], origin: Origin, session: Session, to_work: ToWork = to_work) -> SingleRun:
    conversations = services().conversations
    request, about, rebuild = to_request(body, origin, session), to_about(body), body["rebuild"]

    def begin(request: RunRequest, cancellation: Cancellation) -> RunStream:
        return conversations.resume(session, request, about, rebuild=rebuild, cancellation=cancellation)

    def prepared() -> RunRequest:
        return conversations.prepare_resume(session, request, about, rebuild=rebuild)

    plan = _plan("resume", request, about, origin, begin, to_work, session.id)
    return SingleRun(plan, prepared)


def _plan(
    kind: RunKind, request: RunRequest, about: About, origin: Origin, begin: Begin, to_work: ToWork, session_id: str | None = None
) -> RunPlan:
    def start(beginning: Beginning) -> Any:
        stream = begin(replace(request, run_id=beginning.run_id), beginning.cancellation)
        return to_work(stream, beginning, origin)

    return RunPlan(
        kind=kind,
        start=start,
        expected=RunFacts(backend=request.backend, model=request.options.get("model"), session_id=session_id),
        title=about.title,
        tags=tuple(about.tags),
        metadata=about.metadata,
    )


def dry_run(run: SingleRun) -> Response:
    """The command line that would run."""
    return jsonify(to_dry_run(services().runner.prepare(run.prepared()), request_id()))
