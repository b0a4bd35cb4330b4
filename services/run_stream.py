"""The events of one run, as its caller reads them: with its time limit, its session, its record in telemetry, and one end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from time import monotonic
from types import TracebackType

import gevent
import msgspec

from services.admission import Slot
from services.cancellation import CLIENT_GONE, Cancellation
from services.events import (
    Batch,
    Failed,
    FailureKind,
    Finished,
    PlanUpdate,
    Retrying,
    Started,
    ToolCall,
    UsageUpdate,
    for_callers,
    separated,
)
from services.execution.driver import Limits, Running
from services.plans.windows import PlanWindows
from services.run_clock import RunClock
from services.session_hook import SessionHook
from services.stop_sequences import cut_at_stop
from services.telemetry import Observer, RunTelemetry
from services.usage import Usage

BUG = Failed("backend", "an internal error ended this run; see the server log")
HIDDEN = frozenset({PlanUpdate, Retrying})
SILENT = HIDDEN | {Started, UsageUpdate}
"""Events before the first output, which another backend's may replace."""


class RunStream(Iterator[Batch]):
    """The event batches of one run. A context manager: `close` must be called and ends every process of the run.
    The time limit also applies while the stream is not being read."""

    def __init__(
        self,
        telemetry: RunTelemetry,
        running: Running,
        slot: Slot,
        settle: Callable[[Finished | Failed], Finished | Failed],
        limits: Limits,
        cancellation: Cancellation,
        forget: Callable[[RunStream], None],
        observer: Observer,
        *,
        plans: PlanWindows,
        time_left_s: float,
    ) -> None:
        """``settle`` is called once with the end, and returns it with its cost. ``time_left_s``: of the time limit of the whole run; earlier
        attempts have used up the rest."""
        self.telemetry = telemetry
        self.fold = telemetry.fold
        self.invocation = invocation = telemetry.invocation
        self.started_at = monotonic()
        self._observer = observer
        self._running = running
        self._slot = slot
        self._settle = settle
        self._forget = forget
        self._cancellation = cancellation
        self.cancel = cancellation.cancel
        self._plans = plans
        self._keepalive_s = limits.keepalive_s
        self._clock = RunClock(invocation.spec.name, limits)
        self._timer = gevent.get_hub().loop.timer(max(0.0, time_left_s))
        self._timer.start(lambda: cancellation.cancel(self._clock.timeout_failure()))
        self._unread = running.batches()
        self._held: deque[Batch] = deque()
        batches = separated(self._shown(self._incoming()))
        self._batches = cut_at_stop(batches, invocation.request.stop) if invocation.request.stop else batches
        self._session = SessionHook()
        self._has_begun = self._is_over = self._has_ended = False
        self._end: Finished | Failed = CLIENT_GONE

    def attach(self, session: SessionHook, *, usage_before: Usage | None = None) -> RunStream:
        """Attach the run to its session, before the first event. ``usage_before``: for a CLI that reports the session's running total."""
        self._session = session
        self.fold.usage_before = usage_before
        return self

    def await_output(self, at_most_s: float, kinds: Collection[FailureKind]) -> Failed | None:
        """Hold the events back until the first output or the end, but no longer than ``at_most_s``. Call it before the stream is read.

        Returns a failure of ``kinds`` if there was one first, also one after which the CLI tries again by itself.
        """
        latest = monotonic() + at_most_s - self._keepalive_s  # a silent CLI is noticed after this interval
        for batch in self._unread:
            self._held.append(batch)
            for event in batch:
                if type(event) is Retrying and event.kind in kinds:
                    return Failed(event.kind, event.message)
                if type(event) not in SILENT:
                    return event if type(event) is Failed and event.kind in kinds else None
            if not batch:
                self._check_idle()
            if monotonic() > latest:
                break
        return None

    def give_up(self, failure: Failed) -> None:
        """End the run with this failure, unless it has its own, because another backend answers. Returns as `close`."""
        held, self._held = list(self._held), deque()
        for batch in self._shown(held):
            self.fold.add(batch)
        self.fold.end = self.fold.end or failure
        self.close()

    def _incoming(self) -> Iterator[Batch]:
        while self._held:
            yield self._held.popleft()
        yield from self._unread

    def _shown(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Without the events that callers do not get."""
        for batch in batches:
            hidden = [event for event in batch if type(event) in HIDDEN]
            if hidden:
                for event in hidden:
                    if type(event) is PlanUpdate:
                        self._plans.observe(self.invocation.spec.name, event.windows)
                batch = [event for event in batch if type(event) not in HIDDEN]
                if not batch:
                    continue
            yield batch

    def _check_idle(self) -> None:
        if failure := self._clock.idle_failure(self._running.last_output_at):
            self.cancel(failure)

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
        if not batch:
            self._check_idle()
        return batch

    def _take(self, batch: Batch) -> None:
        """Record the events and replace them in place with those for callers."""
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
        """The id of our session that this run is a turn of, if any."""
        return self._session.id

    def close(self) -> None:
        """End the run if it is in progress. Returns when all of its processes have ended. Idempotent."""
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
        telemetry.ended_at = monotonic()
        telemetry.start = self._running.began_as
        end = fold.end = self._settle(self._with_reset(fold.end or self._cancellation.failure or CLIENT_GONE))
        self._observer.finish(telemetry)
        self._end = self._session.on_ended(for_callers(end, fold.usage, spec.name, spec.login_hint, self.invocation.model), fold)

    def _with_reset(self, end: Finished | Failed) -> Finished | Failed:
        """Where this and every earlier backend was rate limited: with the time of the first reset, if one is known."""
        if not isinstance(end, Failed) or end.kind != "rate_limited" or end.retry_after_s is not None:
            return end
        limited = [backend for backend, reason in self.invocation.request.passed_over if reason == "rate_limited"]
        return msgspec.structs.replace(end, retry_after_s=self._plans.retry_after_s([*limited, self.invocation.spec.name]))

    def __enter__(self) -> RunStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
