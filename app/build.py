"""Builds the services from the settings. Routes find them in ``app.extensions["clinvk"]``."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.backends import build_backends, database_url
from app.config.checks import why_no_own_rate
from app.config.schema import ServerSettings, Settings
from app.runs import build_runs, to_limits
from app.server.open_files import limit_at_start
from blueprints.context import Services
from services.access.access import Access
from services.access.key_store import KeyStore
from services.access.keys_in_force import KeysInForce
from services.admission import AdmissionControl
from services.clis.probe import Prober
from services.clis.spec import BackendSpec
from services.execution.driver import Limits
from services.execution.driver_pooled import PooledDriver
from services.execution.run import ProcessDriver
from services.ledger.ledger import Ledger
from services.ledger.prices import Price, Prices
from services.models import ModelResolver
from services.plans.store import PlanStore
from services.plans.windows import PlanWindows
from services.processes.spawner import Spawner
from services.quotas.quotas import Quotas
from services.runner import Runner
from services.server_secret import ServerSecret
from services.sessions.cli_sessions import CliSessions
from services.sessions.continuation import Continuation, ContinuationLimits
from services.sessions.conversations import Conversations
from services.sessions.response_tree import ResponseTree
from services.sessions.upkeep import Upkeep
from services.store.sessions import SessionStore
from services.workdir import WorkdirRules

log = logging.getLogger("clinvk.config")


def build_services(settings: Settings, environ: Mapping[str, str] = os.environ) -> Services:
    """Starts nothing. Raises SettingsError for an unknown or invalid backend."""
    environ = dict(environ)  # `os.environ` decodes every name and value on each iteration
    backends = _backends(settings)
    prober = Prober(environ, report=logging.getLogger("clinvk.backends").warning)
    spawner = Spawner(limit_at_start())
    access, plans = Access(), PlanWindows()
    admission = AdmissionControl(**_admission(settings.server, backends))
    session = settings.session
    store = SessionStore(database_url(settings), keeps_usage=session.store_token_usage)
    ledger = Ledger(store.database, retention_days=settings.usage.retention_days)
    quotas = Quotas(store.database, store.us, access, ledger, _prices(settings), admission)
    runner = Runner(
        backends,
        access=access,
        plans=plans,
        driver=PooledDriver(ProcessDriver(spawner), spawner, environ),
        admission=admission,
        accounts=quotas,
        prober=prober,
        workdirs=_workdirs(settings.server),
        **_limits(settings),
        environ=environ,
    )
    conversations = Conversations(runner, store, environ=environ, default_tags=session.default_tags)
    sessions = CliSessions(f"{settings.home}/continued", runner, environ)
    continuation = Continuation(runner, sessions, _continuation(settings.server))
    responses = ResponseTree(f"{settings.home}/responses", runner, sessions)
    secret = ServerSecret(f"{settings.home}/server-secret")
    keys = KeysInForce(access, KeyStore(store.database))
    runs = build_runs(settings, runner, store, secret, keys, quotas)
    return Services(
        access=access,
        keys=keys,
        runner=runner,
        spawner=spawner,
        conversations=conversations,
        continuation=continuation,
        responses=responses,
        runs=runs,
        ledger=ledger,
        quotas=quotas,
        secret=secret,
        upkeep=Upkeep(
            conversations,
            retention_days=session.retention_days,
            tidy=(continuation.tidy, responses.tidy, runs.worker.expire, runs.peers.renew, quotas.tidy, ledger.expire),
            beats=(runs.worker.beat, PlanStore(store.database, plans).sync),
        ),
        prober=prober,
        **_choices(settings, backends, prober),
    )


def renew_services(running: Services, settings: Settings) -> Services:
    """The services with new settings. They take over running work and warm processes. Raises SettingsError."""
    backends = _backends(settings)
    running.runner.reconfigure(backends, workdirs=_workdirs(settings.server), **_limits(settings))
    running.continuation.reconfigure(_continuation(settings.server))
    running.quotas.prices = _prices(settings)
    running.ledger.retention_days = settings.usage.retention_days
    running.runner.admission.reconfigure(**_admission(settings.server, backends))
    return replace(running, runs=replace(running.runs, limits=to_limits(settings.runs)), **_choices(settings, backends, running.prober))


def _backends(settings: Settings) -> dict[str, BackendSpec]:
    backends = build_backends(settings)
    if settings.server.allow_prompt_directives:
        backends = {name: replace(spec, escaping=None) for name, spec in backends.items()}
    return backends


def _admission(server: ServerSettings, backends: Mapping[str, BackendSpec]) -> dict[str, Any]:
    return {
        "limit": server.max_concurrent_runs,
        "queue_limit": server.max_queued_runs,
        "queue_timeout_s": server.queue_timeout_secs,
        "backend_limits": {name: spec.max_concurrent_runs for name, spec in backends.items() if spec.max_concurrent_runs},
    }


def _continuation(server: ServerSettings) -> ContinuationLimits:
    max_sessions = server.continued_max_sessions if server.continue_conversations else 0
    return ContinuationLimits(max_sessions=max_sessions, idle_s=server.continued_idle_secs)


def _prices(settings: Settings) -> Prices:
    """A cached input token costs what others do unless a price of its own is set."""
    return Prices(
        {
            pattern: Price(input=price.input, output=price.output, cached=price.input if price.cached is None else price.cached)
            for pattern, price in settings.prices.items()
            if price.input is not None and price.output is not None
        }
    )


def _workdirs(server: ServerSettings) -> WorkdirRules:
    return WorkdirRules(server.allowed_workdir_prefixes, server.blocked_workdir_prefixes)


def _limits(settings: Settings) -> dict[str, Any]:
    return {
        "limits": _limits_within(settings, "server.request_timeout_secs", settings.server.request_timeout_secs),
        "background_limits": _limits_within(settings, "runs.timeout_secs", settings.runs.timeout_secs),
    }


def _limits_within(settings: Settings, name: str, timeout_s: float) -> Limits:
    """The limits of a run whose time limit is the setting ``name``, or that of a command if it is shorter."""
    server = settings.server
    timeouts = {name: timeout_s, "unified_flags.command_timeout_secs": settings.unified_flags.command_timeout_secs or timeout_s}
    shortest = min(timeouts, key=timeouts.__getitem__)
    return Limits(
        request_timeout_s=timeouts[shortest],
        request_timeout_name=shortest,
        idle_output_timeout_s=server.idle_output_timeout_secs,
        max_output_bytes=server.max_output_bytes,
        line_limit_bytes=server.line_limit_bytes,
        keepalive_s=server.keepalive_secs,
        max_depth=server.mcp_max_depth,
    )


def _choices(settings: Settings, backends: Mapping[str, BackendSpec], prober: Prober) -> dict[str, Any]:
    """The other values that routes need."""
    models = ModelResolver(
        backends,
        default_backend=settings.default_backend,
        strict=settings.server.strict_models,
        is_available=lambda spec: prober.availability(spec).available,
    )
    for tie in models.ties():
        log.warning("%s", tie)
    return {
        "models": models,
        "expected_backends": frozenset(settings.backends),
        "dry_run": settings.unified_flags.dry_run,
        "max_parallel": settings.parallel.max_workers,
        "fail_fast": settings.parallel.fail_fast,
        "why_no_own_rate": why_no_own_rate(settings.server),
    }
