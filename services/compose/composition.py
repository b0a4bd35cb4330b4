"""Carries out a `Plan`: its runs in greenlets of their own, their events merged for one reader."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import copy_context
from time import monotonic
from types import TracebackType

import gevent
from gevent.queue import Empty, Queue

from services.cancellation import CLIENT_GONE, Cancellation
from services.compose.plan import NothingToFill, Outcome, Plan
from services.errors import BackendUnavailable, ClinvkError, RunFailed
from services.events import Batch, Failed
from services.fold import collect
from services.requests import RunResult
from services.runner import Runner
from services.session_hook import WithoutSession

QUEUE_LIMIT_BATCHES = 64
"""Batches that wait for the reader; beyond it the runs wait, and with them their CLIs. Never fewer than there are runs at
a time, so that emptying it once frees every run that waits."""
KEEPALIVE_S = 10.0

Item = tuple[int | None, Batch]
"""The index of a run, and what it says. Every run that the plan has ends with one terminal event, started or not. None with an
empty batch: nothing is heard of any of them."""

STOPPED_BY_US = ("cancelled", "shutdown")


class Composition(Iterator[Item]):
    """The merged events of a plan's runs, as they come; afterwards `outcomes`. `close` must be called (it is a context manager)
    and leaves nothing of them. A slow reader slows the runs."""

    def __init__(self, runner: Runner, plan: Plan, cancellation: Cancellation | None = None) -> None:
        self.plan = plan
        self.started_at = monotonic()
        self._runner = runner
        self._outcomes: list[Outcome | None] = [None] * len(plan.invocations)
        self._going: dict[int, Cancellation] = {}
        self._begun: dict[int, float] = {}
        self._todo = iter(range(len(plan.invocations)))
        self._halt: Failed | None = None
        """Why nothing is started any more."""
        self._is_closed = False
        workers = min(plan.at_once, len(plan.invocations))
        self._queue: Queue[Item | BaseException | None] = Queue(max(QUEUE_LIMIT_BATCHES, workers))
        self._cancellation = cancellation or Cancellation()
        self._stop_listening = self._cancellation.listen(self._cancelled)
        # Each knows whose request it works for, as this greenlet does; gevent passes no context on.
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
        """What came of the runs, in the order of the plan. Takes what events are left. Raises RunFailed when the whole request
        was cancelled: then nobody waits for it, or the server stops."""
        for _ in self:
            pass
        if self._cancellation.failure:
            raise RunFailed(self._cancellation.failure)
        return tuple(outcome for outcome in self._outcomes if outcome)

    def elapsed_ms(self, index: int | None = None) -> int:
        """Since run ``index`` began; without one since all of it did."""
        since = self.started_at if index is None else self._begun.get(index, monotonic())
        return round((monotonic() - since) * 1000)

    def close(self) -> None:
        """Stop what is still going; returns when nothing of it is left. May be called twice."""
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
        """Stop the runs that are going, and start no more. Does not wait: called in the event loop too."""
        self._halt = self._halt or why
        for cancellation in tuple(self._going.values()):
            cancellation.cancel(why)

    def _put(self, item: Item | BaseException | None) -> None:
        if not self._is_closed:
            self._queue.put(item)

    def _work(self) -> None:
        """Take the runs that nobody has taken yet, in their order, until there are none."""
        try:
            for index in self._todo:
                outcome = self._outcomes[index] = self._skip(index, self._halt) if self._halt else self._run(index)
                self._consider(index, outcome)
        except Exception as error:  # a bug: the reader gets it, and closes us
            self._put(error)
        finally:
            self._put(None)

    def _run(self, index: int) -> Outcome:
        cancellation = self._going[index] = Cancellation()
        try:
            request = self.plan.request_of(index, self._outcomes)
            with self._runner.stream(request, cancellation).attach(WithoutSession()) as stream:
                self._begun[index] = stream.started_at
                result = collect(stream, on_batch=lambda batch: self._put((index, batch)))
        except NothingToFill as error:
            return self._skip(index, Failed("cancelled", error.message))
        except ClinvkError as error:
            return self._not_run(index, _to_failure(error))
        finally:
            del self._going[index]
        if not result.failure:
            return Outcome(status="completed", result=result)
        return Outcome(status="cancelled" if result.failure.kind in STOPPED_BY_US else "failed", result=result)

    def _consider(self, index: int, outcome: Outcome) -> None:
        """What the end of one run means to the others."""
        failure = outcome.result.failure
        if failure and failure.kind == "shutdown":
            self._end_all(failure)
        elif outcome.status == "failed" and self.plan.halts_on:
            self._end_all(Failed("cancelled", f"stopped: {self.plan.labels[index]} failed, and {self.plan.halts_on} is set"))

    def _skip(self, index: int, why: Failed) -> Outcome:
        message = f"not started: {why.message.removeprefix('stopped: ')}"
        return self._not_run(index, Failed(why.kind, message))

    def _not_run(self, index: int, failure: Failed) -> Outcome:
        """One that was never started still ends with a terminal event."""
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
    """Why a run was never started, as its last event."""
    if isinstance(error, RunFailed):  # cancelled while it waited for its place
        return Failed(error.failure.kind, f"not started: {error.message.removeprefix('stopped: ')}")
    if isinstance(error, BackendUnavailable):
        return Failed("unavailable", error.message, retry_after_s=error.retry_after_s)
    return Failed("invalid_prompt", error.message)
