"""The plan of one response, from a request or from what was stored of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from blueprints.compat.agent_clients import is_codex, may_leave_out_tools
from blueprints.compat.answer import to_headers, to_plan
from blueprints.compat.context import continues_turns, to_context
from blueprints.compat.starts import check_from_response, own_session, start_from_response
from blueprints.context import services
from blueprints.openai.responses.answer import to_facts
from blueprints.openai.responses.dialect import ResponseDialect
from blueprints.openai.responses.ids import Session, new_node, node_of, to_run_id
from blueprints.openai.responses.request import (
    check_request,
    continue_on,
    is_stored,
    session_to_continue,
    to_options,
    to_response_conversation,
)
from blueprints.openai.run_request import to_run_request
from blueprints.runs.plan import Origin, RunPlan, scope_of
from services.access.scope import Scope
from services.clis.spec import BackendSpec
from services.errors import NotFound
from services.models import Resolution
from services.requests import RunRequest
from services.runs.record import Chunk, Run
from services.runs.work import RunFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedResponse:
    """``check``: see `Submission`. ``created_at``: Unix time. ``to_queued``: the first events, if it is put into the queue."""

    plan: RunPlan
    is_background: bool
    created_at: int
    check: Callable[[], None]
    headers: Callable[[], dict[str, str]]
    """Those that are known before the start. Raises as ``check`` does."""
    to_queued: Callable[[], Chunk]


def plan_response(
    body: Mapping[str, Any], origin: Origin, *, created_at: int | None = None, typos: Mapping[str, str] | None = None
) -> PlannedResponse:
    """``created_at``: of a response that was created before. ``typos``: see `to_plan`."""
    svc = services()
    secret, typos = svc.secret.value(), typos or {}
    left_out = check_request(body, may_leave_out_tools=may_leave_out_tools(origin.headers))
    resolution, spec, previous = _resolve(body, origin, secret)
    conversation = to_response_conversation(body, spec, continues_session=previous is not None or continues_turns(origin))
    run_request = to_run_request(
        to_options(body, spec), conversation, resolution, spec, to_context(origin, session=previous.id if previous else None)
    )
    is_background = bool(body.get("background")) and not svc.dry_run
    facts = to_facts(body, is_stored=is_stored(body) and not svc.dry_run, is_background=is_background, created_at=created_at)
    node = node_of(origin.run_id) if origin.run_id else new_node()
    dialect = ResponseDialect(facts, run_request, conversation, left_out, node=node, secret=secret, for_codex=is_codex(origin.headers))
    last = previous.node if previous else None
    plan = to_plan(
        run_request,
        dialect,
        start_from_response(last, origin),
        origin,
        kind="response",
        stream=bool(body["stream"]),
        typos=typos,
        id=to_run_id(node),
        expected=_expected(run_request, origin, is_background=is_background),
        is_stored=facts["store"],
        metadata=facts["metadata"],
    )

    return PlannedResponse(
        plan=plan,
        is_background=is_background,
        created_at=facts["created_at"],
        check=lambda: check_from_response(run_request, last, origin),
        headers=lambda: to_headers(svc.runner.prepare(replace(run_request, resume=None)), dialect, typos, stream=False),
        to_queued=dialect.queued,
    )


def _resolve(body: Mapping[str, Any], origin: Origin, secret: bytes) -> tuple[Resolution, BackendSpec, Session | None]:
    """The backend and model of the request, and the session to continue, whose backend takes precedence. Raises NotFound, Conflict,
    and InvalidRequest if the model names another backend."""
    resolution = services().models.resolve(body["model"])
    scope = scope_of(origin)
    if previous := session_to_continue(secret, scope, body, lambda run_id: find_response_run(run_id, scope)):
        resolution = continue_on(previous, resolution, body["model"])
    return resolution, services().runner.backend(resolution.backend), previous


def find_response_run(run_id: str, scope: Scope) -> Run | None:
    with suppress(NotFound):
        run = services().runs.store.get(run_id, scope)
        return run if run.kind == "response" else None
    return None


def _expected(run_request: RunRequest, origin: Origin, *, is_background: bool) -> RunFacts:
    """With the session of ours that a background run will be the next turn of: no other turn may come before it."""
    facts = RunFacts(backend=run_request.backend, model=run_request.options.get("model"))
    own = own_session(run_request.resume, origin) if is_background else None
    if own is None:
        return facts
    return RunFacts(backend=facts.backend, model=facts.model, session_id=services().conversations.store.get(own, scope_of(origin)).id)
