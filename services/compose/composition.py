"""Executes a `Plan`: each run in its own greenlet, their events merged for one reader."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import replace
from time import monotonic
from types import TracebackType

import gevent
from gevent.queue import Empty, Queue

from services.cancellation import CLIENT_GONE, Cancellation
from services.compose.plan import NothingToFill, Outcome, Plan
from services.errors import ClinvkError, RunFailed
from services.events import Batch, Failed
from services.fold import collect
from services.refusals import to_failure
from services.requests import RunResult
from services.runner import Runner
from services.session_hook import WithoutSession

QUEUE_LIMIT_BATCHES = 64
"""Batches queued for the reader; when the queue is full the runs block, and with them their CLIs. At least the number of
concurrent runs, so that emptying it once unblocks every run."""
KEEPALIVE_S = 10.0

Item = tuple[int | None, Batch]
"""The index of a run and its events. Every run of the plan ends with one terminal event, started or not. None with an
empty batch is a keep-alive: all runs are silent."""

STOPPED_BY_US = ("cancelled", "shutdown", "server_stopped")


class Composition(Iterator[Item]):
    """The merged events of a plan's runs, then `outcomes`. A context manager: `close` must be called and ends every run.
    A slow reader slows the runs."""

    def __init__(self, runner: Runner, plan: Plan, cancellation: Cancellation | None = None, *, run_id: str = "") -> None:
        """``run_id``: of the whole, for logs."""
        self.plan = plan
        self.invocations = list(plan.invocations)
        """Those of the plan, and of the runs that have started their own: another backend may answer."""
        self._run_id = run_id
        self.started_at = monotonic()
        self._runner = runner
        self._outcomes: list[Outcome | None] = [None] * len(plan.invocations)
        self._cancellations: dict[int, Cancellation] = {}
        self._run_started_at: dict[int, float] = {}
        self._todo = iter(range(len(plan.invocations)))
        self._halt: Failed | None = None
        """Why no further run is started."""
        self._is_closed = False
        workers = min(plan.concurrency, len(plan.invocations))
        self._queue: Queue[Item | BaseException | None] = Queue(max(QUEUE_LIMIT_BATCHES, workers))
        self._cancellation = cancellation or Cancellation()
        self._stop_listening = self._cancellation.listen(self._cancelled)
        # Each needs the request context of this greenlet; gevent does not propagate contextvars.
        self._workers = [gevent.spawn(copy_context().run, self._work) for _ in range(workers)]
        self._working = workers

    def __next__(self) -> Item:
        while self._working and not self._is_closed:
            try:
                item: Item | BaseException | None = self._queue.get(timeout=KEEPALIVE_S)
            except Empty:
                return None, []
            if item is None:
                self._working -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                return item
        raise StopIteration

    def outcomes(self) -> tuple[Outcome, ...]:
        """The outcomes of the runs, in plan order. Consumes the remaining events. Raises RunFailed if the whole request was
        cancelled (client disconnect, server shutdown)."""
        for _ in self:
            pass
        if self._cancellation.failure:
            raise RunFailed(self._cancellation.failure)
        return tuple(outcome for outcome in self._outcomes if outcome)

    def elapsed_ms(self, index: int | None = None) -> int:
        """Milliseconds since run ``index`` started, or for None since the composition started."""
        since = self.started_at if index is None else self._run_started_at.get(index, monotonic())
        return round((monotonic() - since) * 1000)

    def close(self) -> None:
        """Stop the runs in progress and wait until their processes have ended. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self._stop_listening()
            self._end_all(CLIENT_GONE)
            while not self._queue.empty():
                self._queue.get_nowait()
        gevent.joinall(self._workers)

    def __enter__(self) -> Composition:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _cancelled(self) -> None:
        if self._cancellation.failure:
            self._end_all(self._cancellation.failure)

    def _end_all(self, why: Failed) -> None:
        """Stop the runs in progress and start no more. Does not wait: also called in the event loop."""
        self._halt = self._halt or why
        for cancellation in tuple(self._cancellations.values()):
            cancellation.cancel(why)

    def _put(self, item: Item | BaseException | None) -> None:
        if not self._is_closed:
            self._queue.put(item)

    def _work(self) -> None:
        """Take the next run of the plan until none is left."""
        try:
            for index in self._todo:
                outcome = self._outcomes[index] = self._skip(index, self._halt) if self._halt else self._run(index)
                self._on_outcome(index, outcome)
        except Exception as error:  # a bug: re-raised in the reader, which closes this
            self._put(error)
        finally:
            self._put(None)

    def _run(self, index: int) -> Outcome:
        cancellation = self._cancellations[index] = Cancellation()
        try:
            request = replace(self.plan.request_of(index, self._outcomes), run_id=self._run_id)
            with self._runner.stream(request, cancellation).attach(WithoutSession()) as stream:
                self._run_started_at[index] = stream.started_at
                self.invocations[index] = stream.invocation
                result = collect(stream, on_batch=lambda batch: self._put((index, batch)))
        except NothingToFill as error:
            return self._skip(index, Failed("cancelled", error.message))
        except ClinvkError as error:
            return self._not_run(index, _to_failure(error))
        finally:
            del self._cancellations[index]
        if not result.failure:
            return Outcome(status="completed", result=result)
        return Outcome(status="cancelled" if result.failure.kind in STOPPED_BY_US else "failed", result=result)

    def _on_outcome(self, index: int, outcome: Outcome) -> None:
        """Stop the other runs if the end of this one requires it."""
        failure = outcome.result.failure
        if failure and failure.kind == "shutdown":
            self._end_all(failure)
        elif outcome.status == "failed" and self.plan.halts_on:
            self._end_all(Failed("cancelled", f"stopped: {self.plan.labels[index]} failed and {self.plan.halts_on} is set"))

    def _skip(self, index: int, why: Failed) -> Outcome:
        message = f"not started: {why.message.removeprefix('stopped: ')}"
        return self._not_run(index, Failed(why.kind, message))

    def _not_run(self, index: int, failure: Failed) -> Outcome:
        """Emit the terminal event of a run that was not started."""
        self._put((index, [failure]))
        invocation = self.plan.invocations[index]
        result = RunResult(
            backend=invocation.spec.name,
            model=invocation.model,
            session_id=None,
            output="",
            thinking="",
            exit_code=None,
            duration_ms=0,
            usage=None,
            cost_usd=None,
            stop_reason=None,
            failure=failure,
            ignored=invocation.ignored,
        )
        return Outcome(status="skipped" if failure.kind in STOPPED_BY_US else "failed", result=result)


def _to_failure(error: ClinvkError) -> Failed:
    """The terminal event of a run that was not started."""
    if isinstance(error, RunFailed):  # cancelled in the queue
        return Failed(error.failure.kind, f"not started: {error.message.removeprefix('stopped: ')}")
    return to_failure(error)
