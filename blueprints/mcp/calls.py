"""What each tool does: the same plans as the native routes, answered in the protocol's form."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from time import monotonic
from typing import Any

import flask
from flask import Response, current_app, jsonify

from blueprints import sse
from blueprints.context import services
from blueprints.current_request import owner, rights, scope
from blueprints.mcp.progress import SILENCE_S, message
from blueprints.mcp.protocol import SESSION_HEADER, Request
from blueprints.mcp.results import ToolResult, refusal_result, run_result, stored_result, tool_result
from blueprints.mcp.works import ComposedCall, run_work
from blueprints.native.compose import compose_compare, compose_parallel, to_plan
from blueprints.native.compose_schemas import CompareSchema, ParallelSchema
from blueprints.native.composed_work import Composed
from blueprints.native.plans import SingleRun, ToWork, plan_prompt, plan_turn
from blueprints.native.schemas import PromptSchema
from blueprints.native.session_schemas import ResumeSchema
from blueprints.native.sessions import find
from blueprints.runs.plan import Origin, RunPlan, current_origin
from blueprints.runs.respond import respond
from blueprints.runs.submit import Submission, submit
from blueprints.streaming import EVENT_STREAM, stream_response
from services.access.policy import may_use_model
from services.access.rights import Rights
from services.clis.probe import Availability
from services.clis.spec import BackendSpec, Invocation
from services.errors import ClinvkError
from services.runs.record import ENDED, Run
from services.runs.service import Runs

Arguments = Mapping[str, Any]
"""As sent, and valid by the tool's schema."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool."""

    request: Request
    server: Mapping[str, str]

    def to_answer(self, result: ToolResult) -> dict[str, Any]:
        return self.request.answer(result, self.server)

    def respond(self, result: ToolResult) -> Response:
        return jsonify(self.to_answer(result))

    def _refusal(self, error: ClinvkError) -> bytes:
        return message(self.to_answer(refusal_result(error)))

    def execute(self, plan: RunPlan) -> Response:
        """The plan's run, for as long as the client stays."""
        plan = replace(plan, alias=alias_of(self.request.id), is_repeatable=False, to_refusal=self._refusal)
        return respond(plan, EVENT_STREAM if self.request.streams else None)


def alias_of(request_id: int | str) -> str:
    """Of the run of a request: what the request and its cancellation have in common. Clients without a session are distinguished by their
    address, so two behind one address that share a key may cancel each other's requests of equal ids."""
    sent = flask.request
    client = sent.headers.get(SESSION_HEADER) or f"{sent.remote_addr} {sent.user_agent}"
    return sha256(f"{client}\0{request_id!r}".encode()).hexdigest()


def prompt(arguments: Arguments, call: Call) -> Response:
    run, _ = _planned(arguments, current_origin(), run_work(call.request, call.to_answer))
    if services().dry_run:
        return _dry_run(call, [services().runner.prepare(run.prepared())])
    return call.execute(run.plan)


def compare(arguments: Arguments, call: Call) -> Response:
    return _compose(compose_compare, CompareSchema().load(dict(arguments)), call)


def parallel(arguments: Arguments, call: Call) -> Response:
    return _compose(compose_parallel, ParallelSchema().load(dict(arguments)), call)


def submit_run(arguments: Arguments, call: Call) -> Response:
    origin = current_origin()
    run, target = _planned(arguments, origin)
    if services().dry_run:
        return _dry_run(call, [services().runner.prepare(run.prepared())])
    flask.g.sent = _body(arguments)  # what a worker makes the plan from
    submission = Submission(plan=run.plan, origin=origin, check=run.check, target=target, timeout_s=arguments.get("timeout_secs"))
    return submit(submission, None, lambda run: call.respond(_status(run)))


def wait(arguments: Arguments, call: Call) -> Response:
    runs, timeout_s = services().runs, arguments["timeout_secs"]
    run = runs.lookup.get(arguments["run_id"], scope())
    if not call.request.streams:
        return call.respond(stored_result(runs.wait(run, timeout_s)))
    return stream_response(_waiting(runs, run, timeout_s, call), EVENT_STREAM, {}, ExitStack())


def _waiting(runs: Runs, run: Run, timeout_s: float, call: Call) -> Iterator[bytes]:
    deadline = monotonic() + timeout_s
    try:
        while True:
            left_s = deadline - monotonic()
            run = runs.wait(run, max(0.0, min(SILENCE_S, left_s)))
            if run.status in (*ENDED, "waiting") or left_s <= SILENCE_S or runs.will_not_end(run.id):
                break
            yield sse.KEEP_ALIVE
        result = stored_result(run)
    except ClinvkError as error:  # it was deleted, or ended and was not kept
        result = refusal_result(error)
    yield message(call.to_answer(result))


def cancel(arguments: Arguments, call: Call) -> Response:
    return call.respond(_status(services().runs.lookup.cancel(arguments["run_id"], scope())))


def list_backends(arguments: Arguments, call: Call) -> Response:
    svc, own = services(), rights()
    default = svc.models_of(owner()).default_backend
    listed = [_backend_line(spec, svc.prober.availability(spec), own, is_default=spec.name == default) for spec in svc.runner.usable(own)]
    return call.respond(tool_result("\n".join(listed) or "no backend is configured"))


def _backend_line(spec: BackendSpec, availability: Availability, own: Rights, *, is_default: bool) -> str:
    models = [model for model in spec.models if may_use_model(own, spec, model)]
    facts = [
        "the default" if is_default else "",
        "available" if availability.available else f"not available: {availability.reason}",
        f"models: {', '.join(models)}" if models else "",
        "a demo that calls no model" if spec.is_demo else "",
    ]
    return f"- {spec.name}: {'; '.join(fact for fact in facts if fact)}"


def _body(arguments: Arguments) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name != "session_id"}


def _planned(arguments: Arguments, origin: Origin, *to_work: ToWork) -> tuple[SingleRun, dict[str, str]]:
    """The first turn of a new session, or the next of one; and what else the plan is made from. Raises NotFound."""
    if session_id := arguments.get("session_id"):
        session = find(session_id)
        return plan_turn(ResumeSchema().load(_body(arguments)), origin, session, *to_work), {"session_id": session.id}
    return plan_prompt(PromptSchema().load(_body(arguments)), origin, *to_work), {}


def _compose(compose: Callable[[Arguments, Origin], Composed], body: Arguments, call: Call) -> Response:
    origin = current_origin()
    composed = compose(body, origin)
    if services().dry_run:
        return _dry_run(call, composed.plan.invocations)
    to_work = partial(ComposedCall, request=call.request, to_answer=call.to_answer)
    return call.execute(to_plan(composed, origin, to_work))


def _dry_run(call: Call, invocations: Iterable[Invocation]) -> Response:
    """The command lines that would run (unified_flags.dry_run)."""
    lines = [shlex.join(invocation.shown_argv) for invocation in invocations]
    return call.respond(run_result({"output": "\n".join(lines)}))


def _status(run: Run) -> ToolResult:
    return tool_result(f"{run.id}: {run.status}", {"run_id": run.id, "status": run.status})


def server_info() -> dict[str, str]:
    return {"name": "clinvk", "title": "clinvk: coding agents", "version": str(current_app.config["API_VERSION"])}
