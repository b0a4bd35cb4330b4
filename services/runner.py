"""The only way to run anything: resolve → guard → admit → drive. Always streams; an answer is a fold over the same events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from time import monotonic
from types import TracebackType

import gevent

from services.admission import AdmissionControl, Slot
from services.cancellation import CLIENT_GONE, Cancellation
from services.clis.command import invoke
from services.clis.probe import Prober
from services.clis.spec import BackendSpec, Invocation
from services.errors import BackendUnavailable, InvalidRequest
from services.events import Batch, Failed, Finished, Started, ToolCall, UsageUpdate, for_callers, separated
from services.execution.driver import Driver, KeepsProcesses, Limits, Running
from services.fold import collect
from services.processes.marks import new_path
from services.requests import RunRequest, RunResult
from services.run_clock import RunClock
from services.session_hook import SessionHook
from services.stop_sequences import cut_at_stop
from services.suggestion import suggestion
from services.telemetry import NOBODY, Observer, RunTelemetry
from services.usage import Usage
from services.workdir import WorkdirRules


class Runner:
    """Runs requests on backends. Holds no state of a run: that is the `RunStream`'s."""

    def __init__(
        self,
        backends: Mapping[str, BackendSpec],
        *,
        driver: Driver,
        admission: AdmissionControl,
        prober: Prober,
        workdirs: WorkdirRules,
        limits: Limits,
        environ: Mapping[str, str],
    ) -> None:
        self.backends = backends
        self.admission = admission
        self.prober = prober
        self._driver = driver
        self._workdirs = workdirs
        self._limits = limits
        self._environ = environ
        self._streams: set[RunStream] = set()
        self.observer: Observer = NOBODY

    def renew(self, backends: Mapping[str, BackendSpec], *, workdirs: WorkdirRules, limits: Limits) -> None:
        """Run what comes from now on by these. What runs goes on as it began."""
        self.backends = backends
        self._workdirs = workdirs
        self._limits = limits
        if isinstance(self._driver, KeepsProcesses):
            self._driver.renew(backends)
            self.prestart()

    def prestart(self) -> None:
        """Have processes ready for the plainest runs, stateless and not, where the configuration says so. For a process that serves."""
        driver = self._driver
        for spec in self.backends.values():
            if not isinstance(driver, KeepsProcesses) or not spec.enabled or not spec.warm or not spec.warm.min:
                continue
            if self.prober.availability(spec).available:
                for ephemeral in (False, True):
                    driver.prestart(self.prepare(RunRequest(prompt="-", backend=spec.name, ephemeral=ephemeral)), spec.warm.min)

    def ready_counts(self) -> Mapping[str, int]:
        """By backend, the processes that are there before anybody asks."""
        return self._driver.ready_counts() if isinstance(self._driver, KeepsProcesses) else {}

    def retire(self) -> None:
        """Keep no processes ready any more; runs go on, and may still come."""
        if isinstance(self._driver, KeepsProcesses):
            self._driver.retire()

    def release(self, backend: str, cli_session_id: str) -> None:
        """Have no process hold the session: its files may go. Returns when that is so."""
        if isinstance(self._driver, KeepsProcesses):
            self._driver.release(backend, cli_session_id)

    def close(self) -> None:
        """End the processes that wait for runs. The runs themselves are ended by `cancel_all`."""
        if isinstance(self._driver, KeepsProcesses):
            self._driver.close()

    def backend(self, name: str) -> BackendSpec:
        """The backend of that name. Raises InvalidRequest, naming those that there are."""
        spec = self.backends.get(name)
        if spec is None or not spec.enabled:
            known = ", ".join(sorted(name for name, spec in self.backends.items() if spec.enabled))
            hint = suggestion(name, self.backends)
            message = f"unknown backend {name!r}; {f'{hint} ' if hint else ''}configured: {known}"
            raise InvalidRequest(message, field="backend", issue="unknown backend")
        return spec

    def prepare(self, request: RunRequest) -> Invocation:
        """Everything that would be started for ``request``; starts nothing. Raises InvalidRequest for what is not allowed."""
        spec = self.backend(request.backend)
        if not request.prompt.strip():
            raise InvalidRequest("prompt is empty", field="prompt", issue="must not be empty")
        return invoke(spec, request, cwd=self._workdirs.check(request.workdir), environ=self._environ, run_dir=new_path())

    def why_unavailable(self, invocation: Invocation) -> str | None:
        """What is missing, how the backend was selected, and which backends can be used instead; None if it is available."""
        spec, reason = invocation.spec, invocation.request.backend_reason
        availability = self.prober.availability(spec)
        if availability.available:
            return None
        available = [name for name, spec in self.backends.items() if spec.enabled and self.prober.availability(spec).available]
        return (
            f"backend {spec.name!r} is not available: {availability.reason}"
            + (f" ({reason})" if reason else "")
            + f". Available: {', '.join(available) or 'none'}"
        )

    def stream(self, request: RunRequest, cancellation: Cancellation | None = None) -> RunStream:
        """Start ``request`` and hand out its events. Whatever can be refused is refused before this returns.

        Raises InvalidRequest, BackendUnavailable (QueueFull too); RunFailed when cancelled in the queue.
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
        invocation = telemetry.invocation
        request = invocation.request
        if telemetry.env:
            invocation = replace(invocation, own_env=telemetry.env)
        if why := self.why_unavailable(invocation):
            raise BackendUnavailable(why, backend=request.backend)
        slot = self.admission.acquire(request.backend, request.caller, cancellation)
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
        """End every run that is going: the server stops. Each stream ends with ``failure``."""
        for stream in tuple(self._streams):
            stream.cancel(failure)

    def run(self, request: RunRequest, cancellation: Cancellation | None = None) -> RunResult:
        """The whole of a run at once. A CLI that failed is a result too: see its ``failure``."""
        with self.stream(request, cancellation) as stream:
            return collect(stream)

    def _limits_of(self, request: RunRequest) -> Limits:
        """A request may shorten the server's time limit, never lengthen it."""
        limits = self._limits
        if not request.timeout_s or request.timeout_s >= limits.request_timeout_s:
            return limits
        return replace(limits, request_timeout_s=request.timeout_s, request_timeout_name="the request's timeout_secs")


BUG = Failed("backend", "an error inside the server ended this run; its log has the details")


class RunStream(Iterator[Batch]):
    """One run's batches of events. `close` must be called (it is a context manager), and leaves nothing of the run;
    closing it early stops the run. The time limit holds also while nobody takes the events."""

    def __init__(
        self,
        telemetry: RunTelemetry,
        running: Running,
        slot: Slot,
        limits: Limits,
        cancellation: Cancellation,
        forget: Callable[[RunStream], None],
        observer: Observer,
    ) -> None:
        self.telemetry = telemetry
        self.fold = telemetry.fold
        self.invocation = invocation = telemetry.invocation
        self.started_at = monotonic()
        self._observer = observer
        self._running = running
        self._slot = slot
        self._forget = forget
        self._cancellation = cancellation
        self.cancel = cancellation.cancel
        self._clock = RunClock(invocation.spec.name, limits)
        self._timer = gevent.get_hub().loop.timer(limits.request_timeout_s)
        self._timer.start(lambda: cancellation.cancel(self._clock.timeout_failure()))
        batches = separated(running.batches())
        self._batches = cut_at_stop(batches, invocation.request.stop) if invocation.request.stop else batches
        self._session = SessionHook()
        self._has_begun = self._is_over = self._has_ended = False
        self._end: Finished | Failed = CLIENT_GONE

    def attach(self, session: SessionHook, *, usage_before: Usage | None = None) -> RunStream:
        """Tie the run to its session, before its first event. ``usage_before``: for a CLI that reports the session's total."""
        self._session = session
        self.fold.usage_before = usage_before
        return self

    def __next__(self) -> Batch:
        if self._is_over:
            raise StopIteration
        if self._clock.open_calls and (progress := self._clock.progress()):
            return [progress]
        try:
            batch = next(self._batches)
            if batch:
                self._take(batch)
        except StopIteration:
            raise
        except Exception:
            self.fold.end = BUG
            self.close()
            raise
        if not batch and (failure := self._clock.idle_failure(self._running.last_output_at)):
            self.cancel(failure)
        return batch

    def _take(self, batch: Batch) -> None:
        """Record the events, and turn them into what callers get."""
        if not self._has_begun:
            self._has_begun = True
            if self._session.always_starts and type(batch[0]) is not Started:
                batch.insert(0, Started())
        fold, clock = self.fold, self._clock
        concerns_clock = bool(clock.open_calls)
        for index, event in enumerate(batch):
            if type(event) is Started:
                batch[index] = self._session.on_started(event)
            elif type(event) is ToolCall:
                concerns_clock = True
        if concerns_clock:
            clock.observe(batch)
        if self.telemetry.first_token_at is None:
            self.telemetry.look_for_output(batch)
        fold.add(batch)
        if before := fold.usage_before:
            batch[:] = [UsageUpdate(event.usage - before) if type(event) is UsageUpdate else event for event in batch]
        if fold.end:
            self.close()
            batch[-1] = self._end

    @property
    def session_id(self) -> str | None:
        """The session of ours whose turn the run is."""
        return self._session.id

    def close(self) -> None:
        """End the run if it is still going; returns when nothing of it is left. May be called twice."""
        self._is_over = True
        self._timer.stop()
        self._timer.close()
        try:
            self._running.close()
        finally:
            self._slot.release()
            self._forget(self)
            self._finish()

    def _finish(self) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        telemetry, fold, spec = self.telemetry, self.fold, self.invocation.spec
        end = fold.end = fold.end or self._cancellation.failure or CLIENT_GONE
        telemetry.ended_at = monotonic()
        telemetry.start = getattr(self._running, "began_as", "cold")  # only some drivers have a choice
        self._observer.finish(telemetry)
        self._end = self._session.on_ended(for_callers(end, fold.usage, spec.name, spec.login_hint), fold)

    def __enter__(self) -> RunStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
