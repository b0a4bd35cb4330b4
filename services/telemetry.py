"""Telemetry of runs for metrics, logs and traces.

The runner fills in one `RunTelemetry` per run and passes it to an `Observer` twice: when the run is requested and when it has ended.
So a token costs no observer call, and this module does not depend on the observers.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any, Literal, Protocol

from services.clis.spec import Invocation
from services.errors import ClinvkError, QueueFull, RunFailed
from services.events import Batch, Failed, Finished, Text, Thinking, ToolCall
from services.fold import Fold

Start = Literal["cold", "warm", "fallback"]
"""A new process; a warm process; a new process after a warm one failed."""

FIRST_OUTPUT = (Text, Thinking, ToolCall)


class RunTelemetry:
    """One run. Times are `time.monotonic` seconds, None for events that did not occur."""

    __slots__ = (
        "admitted_at",
        "ended_at",
        "env",
        "first_token_at",
        "fold",
        "invocation",
        "notes",
        "refusal",
        "requested_at",
        "spawned_at",
        "start",
    )

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.fold = Fold()
        self.requested_at = monotonic()
        self.admitted_at: float | None = None
        self.spawned_at: float | None = None
        """When its process was started, or a warm one was assigned."""
        self.first_token_at: float | None = None
        """When the first text, thinking or tool call arrived."""
        self.ended_at = 0.0
        self.start: Start = "cold"
        self.refusal: BaseException | None = None
        """Why the run was not started."""
        self.env: Mapping[str, str] = {}
        """Environment variables that an observer adds to the run's process. Warm processes do not get them."""
        self.notes: dict[str, Any] = {}
        """State that observers keep between `begin` and `finish`."""

    @property
    def backend(self) -> str:
        return self.invocation.spec.name

    @property
    def model(self) -> str | None:
        """The model that the CLI reports, else the requested one."""
        return self.fold.model or self.invocation.model

    @property
    def end(self) -> Finished | Failed | None:
        return self.fold.end

    @property
    def outcome(self) -> str:
        """``completed``, or the kind of the failure; for a run that was not started, `refusal_kind`."""
        if self.refusal:
            return refusal_kind(self.refusal)
        return self.end.kind if isinstance(self.end, Failed) else "completed"

    def look_for_output(self, batch: Batch) -> None:
        """Record the time of the first output. Called until there is one."""
        if any(isinstance(event, FIRST_OUTPUT) for event in batch):
            self.first_token_at = monotonic()


class Observer(Protocol):
    """Both methods must be fast and must neither block nor raise."""

    def begin(self, run: RunTelemetry) -> None:
        """A run was requested. May set its ``env``."""

    def finish(self, run: RunTelemetry) -> None:
        """The run has ended or was refused. Called once."""


class NullObserver:
    """Does nothing."""

    def begin(self, run: RunTelemetry) -> None: ...

    def finish(self, run: RunTelemetry) -> None: ...


NULL_OBSERVER = NullObserver()


def refusal_kind(error: BaseException) -> str:
    """Why a run was not started, from a fixed set: ``queue_full``, the kind of the cancellation, or the error's code."""
    match error:
        case QueueFull():
            return "queue_full"
        case RunFailed():
            return error.failure.kind
    return error.code if isinstance(error, ClinvkError) else ClinvkError.code
