"""The fold over a run's events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Protocol, cast

from services.cancellation import CLIENT_GONE
from services.clis.spec import Invocation
from services.events import Batch, Failed, Finished, Started, Text, Thinking, ToolCall, UsageUpdate
from services.requests import RunResult
from services.usage import Usage


class Fold:
    """The text, usage and end of one run so far."""

    __slots__ = ("_reported_usage", "_text", "_thinking", "end", "last_tool", "model", "session_id", "usage_before")

    def __init__(self) -> None:
        self.session_id: str | None = None
        self.model: str | None = None
        """The model that the CLI reports."""
        self.last_tool: str | None = None
        """The name of the latest tool call."""
        self.end: Finished | Failed | None = None
        self.usage_before: Usage | None = None
        """The session's usage before the run, for a CLI that reports running totals."""
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._reported_usage: Usage | None = None

    def add(self, batch: Batch) -> None:
        for event in batch:
            kind = type(event)
            if kind is Text:
                self._text.append(cast(Text, event).text)
            elif kind is Thinking:
                self._thinking.append(cast(Thinking, event).text)
            elif kind is UsageUpdate:
                self._reported_usage = cast(UsageUpdate, event).usage
            elif kind is Started:
                started = cast(Started, event)
                self.session_id, self.model = started.session_id, started.model or self.model
            elif kind is ToolCall:
                self.last_tool = cast(ToolCall, event).name
            elif kind is Finished or kind is Failed:
                self.end = cast("Finished | Failed", event)

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def reported_usage(self) -> Usage | None:
        """The usage of the end, else of the latest update, as the CLI reports it."""
        return (self.end.usage if self.end else None) or self._reported_usage

    @property
    def usage(self) -> Usage | None:
        """The tokens of this run only."""
        return self.own(self.reported_usage)

    def own(self, reported: Usage | None) -> Usage | None:
        return reported - self.usage_before if reported and self.usage_before else reported

    def result(self, invocation: Invocation, duration_ms: int) -> RunResult:
        end = self.end or CLIENT_GONE
        finished = end if isinstance(end, Finished) else None
        return RunResult(
            backend=invocation.spec.name,
            model=self.model or invocation.model,
            session_id=self.session_id,
            output=self.text,
            thinking="".join(self._thinking),
            exit_code=end.exit_code,
            duration_ms=duration_ms,
            usage=self.usage,
            cost_usd=end.cost_usd,
            is_cost_estimated=end.is_cost_estimated,
            stop_reason=finished.stop_reason if finished else None,
            stop_sequence=finished.stop_sequence if finished else None,
            structured_output=finished.structured_output if finished else None,
            failure=None if finished else cast(Failed, end),
            ignored=invocation.ignored,
            denied_tools=end.denied_tools,
            passed_over=invocation.request.passed_over,
        )


class EventStream(Protocol):
    """The event batches of a run, possibly transformed. `close` must be called and ends every process of the run."""

    @property
    def invocation(self) -> Invocation: ...

    @property
    def started_at(self) -> float: ...

    @property
    def fold(self) -> Fold:
        """The events that were read so far."""

    @property
    def session_id(self) -> str | None:
        """The id of our session that the run is a turn of, if any."""

    def __iter__(self) -> Iterator[Batch]: ...

    def close(self) -> None: ...


def collect(stream: EventStream, batches: Iterable[Batch] | None = None, on_batch: Callable[[Batch], None] | None = None) -> RunResult:
    """The result of a run, from its events or from ``batches`` derived from them. Calls ``on_batch``, which may block, with each."""
    fold = Fold()
    for batch in stream if batches is None else batches:
        if on_batch:
            on_batch(batch)
        fold.add(batch)
    return fold.result(stream.invocation, round((monotonic() - stream.started_at) * 1000))
