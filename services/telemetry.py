"""What a run tells of itself to whoever counts, logs or traces it. Two calls a run; what lies between is a reading of the clock.

The pipeline fills in one `RunTelemetry` as it goes and hands it to an `Observer` twice: when the run is asked for and when it is over.
So the way of a token costs no call, and nothing here knows who observes.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any, Literal, Protocol, cast

from services.clis.spec import Invocation
from services.errors import ClinvkError, QueueFull, RunFailed
from services.events import Batch, Failed, Finished, Started, Text, Thinking, ToolCall, UsageUpdate
from services.usage import Usage

Start = Literal["cold", "warm", "fallback"]
"""A process of its own; one that was there already; one of its own after a warm one that broke."""

FIRST_WORDS = (Text, Thinking, ToolCall)


class RunTelemetry:
    """One run. Times are readings of `time.monotonic` in seconds, None for what did not come to pass."""

    __slots__ = (
        "admitted_at",
        "asked_at",
        "end",
        "ended_at",
        "env",
        "first_token_at",
        "invocation",
        "model",
        "notes",
        "refusal",
        "spawned_at",
        "start",
        "usage",
        "usage_before",
    )

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.asked_at = monotonic()
        self.admitted_at: float | None = None
        self.spawned_at: float | None = None
        """When its process had been started, or a warm one had been found."""
        self.first_token_at: float | None = None
        """When the agent first said something: text, thinking, or the use of a tool."""
        self.ended_at = 0.0
        self.start: Start = "cold"
        self.model = invocation.model
        """What was asked for; then what the CLI says it asks."""
        self.usage: Usage | None = None
        self.usage_before: Usage | None = None
        """What the session had used before, for a CLI that counts that in."""
        self.end: Finished | Failed | None = None
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
    def outcome(self) -> str:
        """``completed``, or the kind of the failure; of a run that was never started, `refused_as` of its refusal."""
        if self.refusal:
            return refused_as(self.refusal)
        return self.end.kind if isinstance(self.end, Failed) else "completed"

    def see(self, batch: Batch) -> None:
        """Events on their way to the client."""
        for event in batch:
            kind = type(event)
            if self.first_token_at is None and kind in FIRST_WORDS:
                self.first_token_at = monotonic()
            elif kind is UsageUpdate:
                self.usage = cast(UsageUpdate, event).usage
            elif kind is Started:
                self.model = cast(Started, event).model or self.model
            elif kind is Finished or kind is Failed:
                self.end = cast("Finished | Failed", event)

    def total(self) -> Usage | None:
        """The tokens of this run alone."""
        usage = (self.end.usage if self.end else None) or self.usage
        return usage - self.usage_before if usage and self.usage_before else usage


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
