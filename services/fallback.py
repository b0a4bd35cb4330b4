"""Which backend answers a run: the one that was asked, or the next of its chain if that one cannot.

A backend's attempt is over, with all of its processes, before the next one begins. Once a backend has said its first word, called its first
tool or been silent for `HELD_KEEPALIVES` times the keep-alive interval, the run is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from services.clis.spec import BackendSpec
from services.errors import BackendUnavailable, ClinvkError, QueueFull, RunFailed, StoreUnavailable
from services.events import Failed
from services.plans.windows import PlanWindows
from services.requests import PassedOver, RunRequest
from services.run_stream import RunStream

Reason = Literal["rate_limited", "overloaded", "not_logged_in", "unavailable"]
REASONS: tuple[Reason, ...] = get_args(Reason)
"""Kinds of failures after which the next backend is asked."""

HELD_KEEPALIVES = 4
"""So many keep-alive intervals a backend may take for its first output."""

Passed = tuple[PassedOver, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The requests of one run: to the backend that was asked, then to those that may answer instead."""

    requests: Sequence[RunRequest]
    start: Callable[[RunRequest], RunStream]
    """Raises as `Runner.stream`."""
    prepare: Callable[[RunRequest], object]
    """Raises if the request is not allowed, or its backend lacks what it needs."""
    is_available: Callable[[str], bool]
    give_up: Callable[[RunStream, Failed], None]
    held_s: float
    """How long a backend may take for its first output."""
    plans: PlanWindows

    def stream(self) -> RunStream:
        """The run of the first backend that answers, or of the last one that could not. Raises as `Runner.stream`, and RunFailed if
        every backend is known to be rate limited."""
        place, passed = self._next(0)
        if place != 0:  # whether a request is allowed does not depend on who can answer now
            self.prepare(self.requests[0])
        has_started = False
        while place is not None:
            request = replace(self.requests[place], passed_over=passed, is_fallback=has_started)
            stream, failure = self._attempt(request, has_other=self._may_have_other(place))
            later, skipped = self._next(place + 1) if failure else (None, ())
            if stream and later is None:
                return stream
            assert failure, "an attempt without a stream has failed"
            if later is None:
                raise BackendUnavailable(failure.message, backend=request.backend, retry_after_s=failure.retry_after_s)
            if stream:
                self.give_up(stream, failure)
            has_started = has_started or stream is not None
            place, passed = later, (*passed, PassedOver(request.backend, failure.kind), *skipped)
        return self._refused(passed)

    def _attempt(self, request: RunRequest, *, has_other: bool) -> tuple[RunStream | None, Failed | None]:
        """The run, None if it cannot be started; and why the next backend must be asked, None if the run is this one's, whatever becomes
        of it."""
        try:
            stream = self.start(request)
        except (QueueFull, StoreUnavailable):  # the server's own trouble, which is the same for every backend
            raise
        except BackendUnavailable as error:
            return None, Failed("unavailable", error.message, retry_after_s=error.retry_after_s)
        if not has_other:
            return stream, None
        try:
            return stream, stream.await_output(self.held_s, REASONS)
        except BaseException:
            stream.close()
            raise

    def _may_have_other(self, place: int) -> bool:
        return any(self._why_not(later.backend) is None for later in self.requests[place + 1 :])

    def _next(self, place: int) -> tuple[int | None, Passed]:
        """The place of the next request that can be tried, and the backends that are skipped before it."""
        skipped: Passed = ()
        for index in range(place, len(self.requests)):
            request = self.requests[index]
            if index and not self._can_run(request):
                continue
            reason = self._why_not(request.backend)
            if reason is None:
                return index, skipped
            skipped = (*skipped, PassedOver(request.backend, reason))
        return None, skipped

    def _can_run(self, request: RunRequest) -> bool:
        try:
            self.prepare(request)
        except ClinvkError:
            return False
        return True

    def _why_not(self, backend: str) -> Reason | None:
        """Why a backend need not be asked now; None: it may answer."""
        if not self.is_available(backend):
            return "unavailable"
        return "rate_limited" if self.plans.rejected_until(backend) else None

    def _refused(self, passed: Passed) -> RunStream:
        """No backend can be asked."""
        limited = [backend for backend, reason in passed if reason == "rate_limited"]
        if not limited:
            return self.start(self.requests[0])  # it says why its backend is unavailable
        why = ", ".join(f"{backend} is {reason.replace('_', ' ')}" for backend, reason in passed)
        message = f"no backend can answer now ({why}); try again when the first limit is reset"
        raise RunFailed(Failed("rate_limited", message, retry_after_s=self.plans.retry_after_s(limited)))


def requests_of(request: RunRequest, chain: Sequence[BackendSpec]) -> Iterator[RunRequest]:
    """``request``, and the same for each backend of ``chain`` with that backend's own model."""
    yield request
    options = {name: value for name, value in request.options.items() if name != "model"}
    for spec in chain:
        model = spec.aliases.get(request.tier)
        own = {"model": model} if model and model != spec.name else {}
        yield replace(request, backend=spec.name, backend_reason="", options={**options, **own})
