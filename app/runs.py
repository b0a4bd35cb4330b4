"""Assembles the run services, and makes the plan of a queued run anew when a worker starts it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flask

from app.config.schema import RunSettings, Settings
from blueprints.anthropic.stream import to_terminal as to_message_terminal
from blueprints.context import Services, services
from blueprints.native.compose import compose_chain, compose_compare, compose_parallel, to_plan
from blueprints.native.compose_schemas import ChainSchema, CompareSchema, ParallelSchema
from blueprints.native.plans import plan_prompt, plan_turn
from blueprints.native.run_events import to_error_event, to_restarted_event
from blueprints.native.run_translate import from_run
from blueprints.native.schemas import PromptSchema
from blueprints.native.session_schemas import ResumeSchema
from blueprints.openai.chat.answer import to_terminal as to_chat_terminal
from blueprints.openai.responses.plan import plan_response
from blueprints.openai.responses.schemas import CreateResponseSchema
from blueprints.openai.responses.stored import to_current
from blueprints.openai.responses.stored import to_terminal as to_response_terminal
from blueprints.runs.plan import Beginning, Origin, RunPlan, scope_of
from blueprints.runs.submit import stored_request
from services.access.scope import EVERYONE, Scope
from services.cancellation import Cancellation
from services.errors import NotFound
from services.processes.leftovers import end_leftover_processes
from services.runner import Runner
from services.runs.burial import WORKER_LOST
from services.runs.limits import RunLimits
from services.runs.live import LiveRuns
from services.runs.log import EventLog
from services.runs.lookup import RunLookup
from services.runs.peers import Peers
from services.runs.performer import Performer, ToTerminal
from services.runs.record import Run, RunKind, Webhook
from services.runs.service import Runs
from services.runs.store import RunStore
from services.runs.tally import Tally
from services.runs.webhooks.deliverer import Deliverer
from services.runs.webhooks.delivery import Delivery
from services.runs.webhooks.outbox import Outbox
from services.runs.webhooks.payloads import response_payload, run_payload
from services.runs.webhooks.sender import Sender
from services.runs.work import Work
from services.runs.worker import RunWorker, Start
from services.server_secret import ServerSecret
from services.store.sessions import SessionStore

Body = Mapping[str, Any]
Target = Mapping[str, str]


def _composed(schema: Any, compose: Callable[[Body, Origin], Any]) -> Callable[[Body, Origin, Target], RunPlan]:
    return lambda body, origin, target: to_plan(compose(schema.load(body), origin), origin)


PLANS: Mapping[RunKind, Callable[[Body, Origin, Target], RunPlan]] = {
    "prompt": lambda body, origin, target: plan_prompt(PromptSchema().load(body), origin).plan,
    "resume": lambda body, origin, target: (
        plan_turn(ResumeSchema().load(body), origin, services().conversations.store.get(target["session_id"], scope_of(origin))).plan
    ),
    "parallel": _composed(ParallelSchema(), compose_parallel),
    "chain": _composed(ChainSchema(), compose_chain),
    "compare": _composed(CompareSchema(), compose_compare),
    "response": lambda body, origin, target: (
        plan_response(CreateResponseSchema().load(body), origin, created_at=int(target["created_at"])).plan
    ),
}
"""The kinds of run that can be queued, each with how its stored request becomes a plan."""


def build_runs(settings: Settings, runner: Runner, sessions: SessionStore, secret: ServerSecret) -> Runs:
    """Starts nothing. ``secret`` signs the ids of responses."""
    store = RunStore(sessions.database, sessions.us)
    events = EventLog(sessions.database, sessions.us)
    live, tally = LiveRuns(), Tally()
    to_terminal = _to_terminal(secret)
    performer = Performer(store, events, to_terminal, tally)
    worker = RunWorker(
        store,
        events,
        performer,
        live,
        runner.admission,
        tally,
        backends=lambda: [name for name, spec in runner.backends.items() if spec.enabled],
        to_lost=lambda run, number: to_terminal(run, number, WORKER_LOST),
        to_restarted=to_restarted_event,
        end_leftovers=end_leftover_processes,
    )
    handlers: dict[str, Callable[..., Any]] = {"wake": worker.wake}
    peers = Peers(f"{settings.home}/workers", handlers)
    lookup = RunLookup(store, events, live, peers, to_terminal)
    handlers |= lookup.handlers()
    deliverer = Deliverer(
        Outbox(sessions.database),
        Sender(),  # `start_runs` sets the allowed hosts
        find_run=partial(_find, store),
        to_payload=partial(to_payload, secret),
        tally=tally,
    )
    performer.on_end = deliverer.wake
    return Runs(
        store=store,
        events=events,
        live=live,
        performer=performer,
        worker=worker,
        lookup=lookup,
        peers=peers,
        deliverer=deliverer,
        tally=tally,
        limits=to_limits(settings.runs),
    )


def to_limits(settings: RunSettings) -> RunLimits:
    return RunLimits(
        timeout_s=settings.timeout_secs,
        retention_s=settings.retention_days * 86_400,
        events_retention_s=settings.events_retention_hours * 3_600,
        max_waiting=settings.max_waiting,
        max_waiting_per_owner=settings.max_waiting_per_key,
        webhook_secret=settings.webhook_secret,
        webhook_allowed_hosts=tuple(settings.webhook_allowed_hosts),
        webhooks=tuple(
            Webhook(url=webhook.url, secret=webhook.secret or settings.webhook_secret, events=tuple(webhook.events))
            for webhook in settings.webhooks
        ),
    )


def to_start(app: flask.Flask) -> Start:
    """How the worker of ``app`` starts a claimed run."""

    def start(run: Run, cancellation: Cancellation, first: int) -> Work:
        body, origin, target = stored_request(run)
        with app.app_context():
            plan = PLANS[run.kind](body, origin, target)
            return plan.start(Beginning(run_id=run.id, cancellation=cancellation, first=first))

    return start


def to_payload(secret: ServerSecret, run: Run, delivery: Delivery) -> bytes:
    if run.kind == "response":
        return response_payload(to_current(run, None, secret.value())["id"], delivery)
    return run_payload(from_run(run, Scope(run.owner)), delivery)


def _to_terminal(secret: ServerSecret) -> ToTerminal:
    kinds: Mapping[RunKind, ToTerminal] = {
        "chat": to_chat_terminal,
        "message": to_message_terminal,
        "response": lambda run, number, error: to_response_terminal(run, number, error, secret.value()),
    }
    return lambda run, number, error: kinds.get(run.kind, to_error_event)(run, number, error)


def _find(store: RunStore, id: str) -> Run | None:
    try:
        return store.get(id, EVERYONE)
    except NotFound:
        return None


def start_runs(app: flask.Flask) -> None:
    """Execute queued runs and send webhooks in this process. Called again, with the configuration of the new ``app``."""
    held: Services = app.extensions["clinvk"]
    held.runs.peers.start()
    held.runs.deliverer.sender.allowed_hosts = held.runs.limits.webhook_allowed_hosts
    held.runs.deliverer.start()
    held.runs.worker.start(to_start(app), held.runs.limits)
