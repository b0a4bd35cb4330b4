"""The events of one run, as its caller reads them: with its time limit, its session, its record in telemetry, and one end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from types import TracebackType

import gevent

from services.admission import Slot
from services.cancellation import CLIENT_GONE, Cancellation
from services.events import Batch, Failed, Finished, Started, ToolCall, UsageUpdate, for_callers, separated
from services.execution.driver import Limits, Running
from services.run_clock import RunClock
from services.session_hook import SessionHook
from services.stop_sequences import cut_at_stop
from services.telemetry import Observer, RunTelemetry
from services.usage import Usage

BUG = Failed("backend", "an internal error ended this run; see the server log")


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
    ) -> None:
        """``settle`` is called once with the end, and returns it with its cost."""
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
        self._clock = RunClock(invocation.spec.name, limits)
        self._timer = gevent.get_hub().loop.timer(limits.request_timeout_s)
        self._timer.start(lambda: cancellation.cancel(self._clock.timeout_failure()))
        batches = separated(running.batches())
        self._batches = cut_at_stop(batches, invocation.request.stop) if invocation.request.stop else batches
        self._session = SessionHook()
        self._has_begun = self._is_over = self._has_ended = False
        self._end: Finished | Failed = CLIENT_GONE

    def attach(self, session: SessionHook, *, usage_before: Usage | None = None) -> RunStream:
        """Attach the run to its session, before the first event. ``usage_before``: for a CLI that reports the session's running total."""
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
        end = fold.end = self._settle(fold.end or self._cancellation.failure or CLIENT_GONE)
        self._observer.finish(telemetry)
        self._end = self._session.on_ended(for_callers(end, fold.usage, spec.name, spec.login_hint, self.invocation.model), fold)

    def __enter__(self) -> RunStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
