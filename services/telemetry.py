"""What a run tells of itself to whoever counts, logs or traces it. Two calls a run; what lies between is a reading of the clock.

The pipeline fills in one `RunTelemetry` as it goes and hands it to an `Observer` twice: when the run is asked for and when it is over.
So the way of a token costs no call, and nothing here knows who observes.
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
"""A process of its own; one that was there already; one of its own after a warm one that broke."""

FIRST_OUTPUT = (Text, Thinking, ToolCall)


class RunTelemetry:
    """One run. Times are readings of `time.monotonic` in seconds, None for what did not come to pass."""

    __slots__ = (
        "admitted_at",
        "asked_at",
        "ended_at",
        "env",
        "first_token_at",
        "fold",
        "invocation",
        "notes",
        "refusal",
        "spawned_at",
        "start",
    )

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.fold = Fold()
        self.asked_at = monotonic()
        self.admitted_at: float | None = None
        self.spawned_at: float | None = None
        """When its process had been started, or a warm one had been found."""
        self.first_token_at: float | None = None
        """When the agent first said something: text, thinking, or the use of a tool."""
        self.ended_at = 0.0
        self.start: Start = "cold"
        self.refusal: BaseException | None = None
        """Why it was never started."""
        self.env: Mapping[str, str] = {}
        """Variables that an observer gives to the run's process. One that was there before the run cannot have them."""
        self.notes: dict[str, Any] = {}
        """What an observer keeps with the run from its beginning to its end."""

    @property
    def backend(self) -> str:
        return self.invocation.spec.name

    @property
    def model(self) -> str | None:
        """The model that the CLI reports, else the one asked for."""
        return self.fold.model or self.invocation.model

    @property
    def end(self) -> Finished | Failed | None:
        return self.fold.end

    @property
    def outcome(self) -> str:
        """``completed``, or the kind of the failure; of a run that was never started, `refused_as` of its refusal."""
        if self.refusal:
            return refused_as(self.refusal)
        return self.end.kind if isinstance(self.end, Failed) else "completed"

    def look_for_output(self, batch: Batch) -> None:
        """Note the time of the first output; needed until there is one."""
        if any(isinstance(event, FIRST_OUTPUT) for event in batch):
            self.first_token_at = monotonic()


class Observer(Protocol):
    """Both must be quick, wait for nothing and raise nothing."""

    def begin(self, run: RunTelemetry) -> None:
        """A run is asked for. May set its ``env``."""

    def finish(self, run: RunTelemetry) -> None:
        """It is over, however it ended, refused included. Called once."""


class Nobody:
    """Observes nothing."""

    def begin(self, run: RunTelemetry) -> None: ...

    def finish(self, run: RunTelemetry) -> None: ...


NOBODY = Nobody()


def refused_as(error: BaseException) -> str:
    """A word for why a run was not started, from a small set: ``queue_full``, the kind of what cancelled it, or the error's code."""
    match error:
        case QueueFull():
            return "queue_full"
        case RunFailed():
            return error.failure.kind
    return error.code if isinstance(error, ClinvkError) else ClinvkError.code
