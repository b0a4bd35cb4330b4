"""Runs requests: resolve → check → admit → drive. Always streams; a non-streaming result is a fold over the same events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from time import monotonic

import gevent

from services.access import policy
from services.access.access import Access
from services.access.rights import LOCAL, Rights
from services.admission import AdmissionControl
from services.cancellation import Cancellation
from services.clis.command import invoke
from services.clis.environment import cli_environment
from services.clis.probe import Availability, Prober
from services.clis.spec import BackendSpec, Invocation
from services.errors import BackendUnavailable, InvalidRequest, TooDeep
from services.events import Failed, Finished
from services.execution.driver import Driver, Limits
from services.fallback import HELD_KEEPALIVES, Chain, requests_of
from services.fold import collect
from services.plans.windows import PlanWindows
from services.processes.marks import new_path
from services.quotas.unaccounted import Accounts, Unaccounted
from services.requests import RunRequest, RunResult
from services.run_stream import RunStream
from services.suggestion import suggestion
from services.telemetry import NULL_OBSERVER, Observer, RunTelemetry
from services.workdir import WorkdirRules


class Runner:
    """Runs requests on backends. The state of a run is in its `RunStream`."""

    def __init__(
        self,
        backends: Mapping[str, BackendSpec],
        *,
        access: Access | None = None,
        plans: PlanWindows | None = None,
        driver: Driver,
        admission: AdmissionControl,
        accounts: Accounts | None = None,
        prober: Prober,
        workdirs: WorkdirRules,
        limits: Limits,
        background_limits: Limits | None = None,
        environ: Mapping[str, str],
    ) -> None:
        """``access``: the keys in force; None: there are none. ``plans``: what is known of the CLIs' subscriptions. ``accounts``: None:
        nothing is counted. ``background_limits``: of background runs, whose time limit is another one; None: the same."""
        self.backends = backends
        self.access = access or Access()
        self.plans = plans or PlanWindows()
        self.admission = admission
        self._accounts = accounts or Unaccounted(admission)
        self.prober = prober
        self._driver = driver
        self._workdirs = workdirs
        self._limits = limits
        self._background_limits = background_limits or limits
        self._environ = environ
        self._streams: set[RunStream] = set()
        self.observer: Observer = NULL_OBSERVER

    def reconfigure(
        self, backends: Mapping[str, BackendSpec], *, workdirs: WorkdirRules, limits: Limits, background_limits: Limits | None = None
    ) -> None:
        """Apply a new configuration to later runs. Runs in progress are not affected."""
        self.backends = backends
        self._workdirs = workdirs
        self._limits = limits
        self._background_limits = background_limits or limits
        self._driver.reconfigure(backends)
        self.prestart()

    def prestart(self) -> None:
        """Prewarm processes of the default invocation, ephemeral and not, of backends with ``warm.min``. Only in serving processes."""
        for spec in self.backends.values():
            if not spec.enabled or not spec.warm or not spec.warm.min:
                continue
            if self.prober.availability(spec).available:
                for ephemeral in (False, True):
                    request = RunRequest(prompt="-", backend=spec.name, ephemeral=ephemeral)
                    self._driver.prestart(self.prepare(request), spec.warm.min)

    def ready_counts(self) -> Mapping[str, int]:
        """Prewarmed CLI processes ready, by backend."""
        return self._driver.ready_counts()

    def drain(self) -> None:
        """Stop keeping processes ready. Runs in progress and new runs are not affected."""
        self._driver.drain()

    def evict_session(self, backend: str, cli_session_id: str) -> None:
        """End any process that has the session open, so that its files can be deleted. Waits until it has ended."""
        self._driver.evict_session(backend, cli_session_id)

    def close(self) -> None:
        """End idle processes. `cancel_all` ends the runs."""
        self._driver.close()

    def backend(self, name: str, owner: str = LOCAL) -> BackendSpec:
        """The enabled backend ``name``. Raises RightMissing if ``owner`` may not use it, InvalidRequest for any other name."""
        rights = self.access.rights_of(owner)
        policy.check_backend(rights, name)
        spec = self.backends.get(name)
        if spec is None or not spec.enabled:
            usable = [spec.name for spec in self.usable(rights)]
            known = ", ".join(sorted(usable))
            hint = suggestion(name, usable)
            message = f"unknown backend {name!r}; {f'{hint} ' if hint else ''}configured: {known}"
            raise InvalidRequest(message, field="backend", issue="unknown backend")
        return spec

    def usable(self, rights: Rights) -> Iterator[BackendSpec]:
        """The enabled backends that the rights allow."""
        return (spec for spec in self.backends.values() if spec.enabled and policy.may_use(rights, spec.name))

    def workdir(self, request: RunRequest) -> str:
        """The folder that ``request`` runs in. Raises InvalidRequest, RightMissing."""
        return self._workdirs.check(request.workdir, self.access.rights_of(request.owner).workdirs)

    def prepare(self, request: RunRequest) -> Invocation:
        """The invocation for ``request``; starts nothing. Raises InvalidRequest if the request is not allowed, RightMissing if it is
        not allowed to its owner."""
        spec = self.backend(request.backend, request.owner)
        if not request.history and not request.prompt.strip():
            raise InvalidRequest("prompt is empty", field="prompt", issue="must not be empty")
        if request.depth >= self._limits.max_depth:
            raise TooDeep(self._limits.max_depth)
        permitted = policy.permit(request, self.access.rights_of(request.owner), spec)
        limited = replace(request, options={**request.options, **permitted.lowered}) if permitted.lowered else request
        cwd, confinement = self.workdir(request), permitted.confinement
        invocation = invoke(spec, limited, cwd=cwd, environ=self._environ, run_dir=new_path(), confinement=confinement)
        self._accounts.check(invocation)
        if permitted.lowered:
            # The request stays as it came: it may be stored, and prepared again.
            ignored = tuple(dict.fromkeys((*invocation.ignored, *permitted.lowered)))
            return replace(invocation, request=request, ignored=ignored)
        return invocation

    def check(self, request: RunRequest) -> None:
        """Make all checks of `stream`, but for the slot and the plans. Raises InvalidRequest, BackendUnavailable."""
        if why := self.why_unavailable(self.prepare(request)):
            raise BackendUnavailable(why, backend=request.backend)

    def why_unavailable(self, invocation: Invocation) -> str | None:
        """How the backend was selected, why it is unavailable and which backends are available; None if it is available, or another
        one of its chain."""
        availability = self.prober.availability(invocation.spec)
        if availability.available or any(self._is_available(name) for name in self._others(invocation.request)):
            return None
        return self._why_unavailable(invocation, availability)

    def _why_unavailable(self, invocation: Invocation, availability: Availability) -> str:
        spec, reason = invocation.spec, invocation.request.backend_reason
        usable = self.usable(self.access.rights_of(invocation.request.owner))
        available = [spec.name for spec in usable if self.prober.availability(spec).available]
        lead = f"{reason}{'' if reason.endswith('?') else '.'} The default backend, {spec.name!r}," if reason else f"backend {spec.name!r}"
        return f"{lead} is not available: {availability.reason}. Available: {', '.join(available) or 'none'}"

    def stream(self, request: RunRequest, cancellation: Cancellation | None = None) -> RunStream:
        """Start ``request`` and return its event stream. All checks are made before this returns. Where the backend has a chain, waits for
        the first output, and another backend may answer: `RunStream.invocation` says which.

        Raises InvalidRequest, RightMissing, KeyRevoked, BudgetExceeded, RateLimited, BackendUnavailable (or QueueFull); RunFailed when
        cancelled in the queue, or if all backends of the chain are known to be rate limited.
        """
        cancellation = cancellation or Cancellation()
        others = self._others(request)
        return self._chain(request, others, cancellation).stream() if others else self._attempt(request, cancellation)

    def _attempt(self, request: RunRequest, cancellation: Cancellation, *, since: float | None = None) -> RunStream:
        """``since``: when the run's time limit began, if there was an attempt before this one."""
        telemetry = RunTelemetry(self.prepare(request))
        observer = self.observer
        observer.begin(telemetry)
        try:
            stream = self._started(telemetry, observer, cancellation, since)
        except BaseException as error:
            telemetry.refusal, telemetry.ended_at = error, monotonic()
            observer.finish(telemetry)
            raise
        self._streams.add(stream)
        return stream

    def _started(self, telemetry: RunTelemetry, observer: Observer, cancellation: Cancellation, since: float | None) -> RunStream:
        spec, request = telemetry.invocation.spec, telemetry.invocation.request
        availability = self.prober.availability(spec)
        if not availability.available:
            raise BackendUnavailable(self._why_unavailable(telemetry.invocation, availability), backend=request.backend)
        invocation = replace(telemetry.invocation, own_env=telemetry.env, cli_version=availability.version)
        slot, key_slot = self._accounts.admit(request, cancellation)
        telemetry.admitted_at = monotonic()
        try:
            limits = self._limits_of(request)
            running = self._driver.start(invocation, limits, cancellation)
        except BaseException:
            slot.release()
            self._accounts.give_back(request, key_slot)
            raise
        telemetry.spawned_at = now = monotonic()
        time_left_s = limits.request_timeout_s - (now - since if since else 0.0)

        def settle(end: Finished | Failed) -> Finished | Failed:
            return self._accounts.settle(telemetry, end, key_slot)

        return RunStream(
            telemetry,
            running,
            slot,
            settle,
            limits,
            cancellation,
            self._streams.discard,
            observer,
            plans=self.plans,
            time_left_s=time_left_s,
        )

    def _others(self, request: RunRequest) -> list[str]:
        """The backends that may answer ``request`` in the place of its own, in order."""
        spec = self.backends.get(request.backend)
        if not spec or not spec.fallback or not request.may_fall_back or request.resume:
            return []
        rights = self.access.rights_of(request.owner)
        return [name for name in spec.fallback if self.backends[name].enabled and policy.may_use(rights, name)]

    def _chain(self, request: RunRequest, others: Sequence[str], cancellation: Cancellation) -> Chain:
        began: list[float] = []

        def start(request: RunRequest) -> RunStream:
            stream = self._attempt(request, cancellation, since=began[0] if began else None)
            began.append(stream.started_at)
            return stream

        return Chain(
            requests=list(requests_of(request, [self.backends[name] for name in others])),
            start=start,
            prepare=self.prepare,
            is_available=self._is_available,
            give_up=self._give_up,
            held_s=HELD_KEEPALIVES * self._limits_of(request).keepalive_s,
            plans=self.plans,
        )

    def _is_available(self, backend: str) -> bool:
        spec = self.backends.get(backend)  # a new configuration may have come while a run was held
        return spec is not None and self.prober.availability(spec).available

    def _give_up(self, stream: RunStream, failure: Failed) -> None:
        """End an attempt that another backend's follows, and delete the CLI's session of it, which nobody will continue."""
        stream.give_up(failure)
        invocation, session_id = stream.invocation, stream.fold.session_id
        files = invocation.spec.session_files
        if files and session_id and not invocation.request.ephemeral:
            self.evict_session(invocation.spec.name, session_id)
            env = cli_environment(invocation.spec, self._environ) | dict(invocation.spec.env)
            gevent.get_hub().threadpool.spawn(files.delete, session_id, env)

    def cancel_all(self, failure: Failed) -> None:
        """Cancel every run, at server shutdown. Each stream ends with ``failure``."""
        for stream in tuple(self._streams):
            stream.cancel(failure)

    def run(self, request: RunRequest, cancellation: Cancellation | None = None) -> RunResult:
        """Run to completion. A failed CLI is returned as a result with ``failure`` set."""
        with self.stream(request, cancellation) as stream:
            return collect(stream)

    def _limits_of(self, request: RunRequest) -> Limits:
        """The server's limits; a request may shorten the time limit but not extend it."""
        limits = self._background_limits if request.is_background else self._limits
        if not request.timeout_s or request.timeout_s >= limits.request_timeout_s:
            return limits
        return replace(limits, request_timeout_s=request.timeout_s, request_timeout_name="the request's timeout_secs")
