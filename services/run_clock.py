"""The total and idle time limits of a run. Pure: events in, failures and progress out; the clock is a parameter.

A CLI that is silent between tool calls has hung; one whose tool is silent may be busy (a build). So the idle limit does not apply
while a tool call is open. Open calls are derived from the run's events alone, the same for every driver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from services.events import Batch, Failed, ToolCall, ToolProgress, ToolResult
from services.execution.driver import Limits


@dataclass(slots=True, eq=False)
class _OpenCall:
    call: ToolCall
    since: float
    reported_at: float


class RunClock:
    """The limits of one run. Pass every batch with a tool call to `observe`, and every batch while a call is open."""

    def __init__(self, backend: str, limits: Limits, clock: Callable[[], float] = monotonic) -> None:
        self._backend = backend
        self._limits = limits
        self._clock = clock
        self.open_calls: list[_OpenCall] = []
        self._reported_at = clock()

    def observe(self, batch: Batch) -> None:
        for event in batch:
            kind = type(event)
            if self.open_calls:
                self.open_calls = [one for one in self.open_calls if one.call.reports_result]
            if kind is ToolCall:
                now = self._clock()
                self.open_calls.append(_OpenCall(event, now, now))  # type: ignore[arg-type]
            elif kind is ToolResult:
                self._close(event.id)  # type: ignore[union-attr]

    def progress(self) -> ToolProgress | None:
        """A progress event for an open call, if one is due. Open calls take turns."""
        if not self.open_calls:
            return None
        now, one = self._clock(), min(self.open_calls, key=lambda one: one.reported_at)
        if now - max(self._reported_at, one.reported_at) < self._limits.tool_progress_s:
            return None
        self._reported_at = one.reported_at = now
        return ToolProgress(one.call.id, one.call.name, round(now - one.since, 1))

    def idle_failure(self, last_output_at: float) -> Failed | None:
        """The failure of a run whose CLI has been silent for too long with no tool call open; None otherwise."""
        limit_s = self._limits.idle_output_timeout_s
        if self.open_calls or self._clock() - last_output_at < limit_s:
            return None
        limit = f"{limit_s:g} s (server.idle_output_timeout_secs)"
        return Failed("timeout", f"{self._backend} wrote nothing for {limit} with no tool call open, so it was stopped")

    def timeout_failure(self) -> Failed:
        """The failure of a run that passed its time limit."""
        limit = f"{self._limits.request_timeout_s:g} s ({self._limits.request_timeout_name})"
        names = ", ".join(dict.fromkeys(one.call.name for one in self.open_calls))
        calls = "tool calls" if len(self.open_calls) > 1 else "tool call"
        open_calls = f" with {len(self.open_calls)} {calls} open ({names})" if self.open_calls else ""
        return Failed("timeout", f"the run exceeded its time limit of {limit}{open_calls} and was stopped")

    def _close(self, id: str) -> None:
        """Close the call ``id``. If the result or the call has no id, close the oldest open call."""
        found = next((one for one in self.open_calls if one.call.id == id), None)
        found = found or next((one for one in self.open_calls if not (id and one.call.id)), None)
        if found:
            self.open_calls.remove(found)
