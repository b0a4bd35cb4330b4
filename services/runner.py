"""Runs requests: resolve → check → admit → drive. Always streams; a non-streaming result is a fold over the same events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from time import monotonic

from services.access.access import Access
from services.admission import AdmissionControl
from services.cancellation import Cancellation
from services.clis.command import invoke
from services.clis.probe import Availability, Prober
from services.clis.spec import BackendSpec, Invocation
from services.errors import BackendUnavailable, InvalidRequest
from services.events import Failed
from services.execution.driver import Driver, Limits
from services.fold import collect
from services.processes.marks import new_path
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
        driver: Driver,
        admission: AdmissionControl,
        prober: Prober,
        workdirs: WorkdirRules,
        limits: Limits,
        background_limits: Limits | None = None,
        environ: Mapping[str, str],
    ) -> None:
        """``access``: the keys in force; None: there are none. ``background_limits``: of background runs, whose time limit is another one; None: the same."""
        self.backends = backends
        self.access = access or Access()
        self.admission = admission
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

    def backend(self, name: str) -> BackendSpec:
        """The enabled backend ``name``. Raises InvalidRequest for any other name."""
        spec = self.backends.get(name)
        if spec is None or not spec.enabled:
            known = ", ".join(sorted(name for name, spec in self.backends.items() if spec.enabled))
            hint = suggestion(name, self.backends)
            message = f"unknown backend {name!r}; {f'{hint} ' if hint else ''}configured: {known}"
            raise InvalidRequest(message, field="backend", issue="unknown backend")
        return spec

    def workdir(self, request: RunRequest) -> str:
        """The folder that ``request`` runs in. Raises InvalidRequest."""
        return self._workdirs.check(request.workdir)

    def prepare(self, request: RunRequest) -> Invocation:
        """The invocation for ``request``; starts nothing. Raises InvalidRequest if the request is not allowed."""
        spec = self.backend(request.backend)
        if not request.history and not request.prompt.strip():
            raise InvalidRequest("prompt is empty", field="prompt", issue="must not be empty")
        return invoke(spec, request, cwd=self.workdir(request), environ=self._environ, run_dir=new_path())

    def check(self, request: RunRequest) -> None:
        """Make all checks of `stream`, but for the slot. Raises InvalidRequest, BackendUnavailable."""
        if why := self.why_unavailable(self.prepare(request)):
            raise BackendUnavailable(why, backend=request.backend)

    def why_unavailable(self, invocation: Invocation) -> str | None:
        """How the backend was selected, why it is unavailable and which backends are available; None if it is available."""
        availability = self.prober.availability(invocation.spec)
        return None if availability.available else self._why_unavailable(invocation, availability)

    def _why_unavailable(self, invocation: Invocation, availability: Availability) -> str:
        spec, reason = invocation.spec, invocation.request.backend_reason
        available = [name for name, spec in self.backends.items() if spec.enabled and self.prober.availability(spec).available]
        lead = f"{reason}{'' if reason.endswith('?') else '.'} The default backend, {spec.name!r}," if reason else f"backend {spec.name!r}"
        return f"{lead} is not available: {availability.reason}. Available: {', '.join(available) or 'none'}"

    def stream(self, request: RunRequest, cancellation: Cancellation | None = None) -> RunStream:
        """Start ``request`` and return its event stream. All checks are made before this returns.

        Raises InvalidRequest, BackendUnavailable (or QueueFull); RunFailed when cancelled in the queue.
        """
        cancellation = cancellation or Cancellation()
        telemetry = RunTelemetry(self.prepare(request))
        observer = self.observer
        observer.begin(telemetry)
        try:
            stream = self._started(telemetry, observer, cancellation)
        except BaseException as error:
            telemetry.refusal, telemetry.ended_at = error, monotonic()
            observer.finish(telemetry)
            raise
        self._streams.add(stream)
        return stream

    def _started(self, telemetry: RunTelemetry, observer: Observer, cancellation: Cancellation) -> RunStream:
        spec, request = telemetry.invocation.spec, telemetry.invocation.request
        availability = self.prober.availability(spec)
        if not availability.available:
            raise BackendUnavailable(self._why_unavailable(telemetry.invocation, availability), backend=request.backend)
        invocation = replace(telemetry.invocation, own_env=telemetry.env, cli_version=availability.version)
        slot = self.admission.acquire(request.backend, request.caller, cancellation, is_background=request.is_background)
        telemetry.admitted_at = monotonic()
        try:
            limits = self._limits_of(request)
            running = self._driver.start(invocation, limits, cancellation)
        except BaseException:
            slot.release()
            raise
        telemetry.spawned_at = monotonic()
        return RunStream(telemetry, running, slot, limits, cancellation, self._streams.discard, observer)

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
