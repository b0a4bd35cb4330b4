"""A started run as its readers need it: the frames of its events, the answer, the end. Each surface has its own encoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from services.errors import RUN_FAILURE_CODES
from services.events import Failed
from services.requests import PassedOver
from services.runs.record import RunError

OutcomeStatus = Literal["completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is known of a run while it executes."""

    backend: str | None = None
    model: str | None = None
    session_id: str | None = None
    """The id of our session that the run is a turn of, if any."""
    cli_session_id: str | None = None
    """The session that the run leaves for another one to continue: the CLI's own, or ours. None where it keeps none. Never shown."""
    last_tool: str | None = None
    passed_over: tuple[PassedOver, ...] = ()
    """The backends that did not answer before this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The body of a whole answer, and the headers that depend on the run's end."""

    body: dict[str, Any] = field(repr=False)
    headers: dict[str, str] = field(default_factory=dict)
    webhook_event: str | None = None
    """See `RunEnd`."""


class Work(Protocol):
    """A started run, encoded for the surface that asked for it. `close` must be called, and ends every process of the run."""

    headers: dict[str, str]
    """Headers of the answer that are known when the run has started."""

    @property
    def is_over(self) -> bool:
        """Whether the run has ended. The latest of `frames` then holds the terminal event, alone if they are kept."""

    def frames(self, *, as_sse: bool = True, is_kept: bool = False) -> Iterator[bytes]:
        """The events as they come, encoded; a comment, or nothing, whenever the CLI is silent."""

    def await_output(self) -> None:
        """Wait until the CLI has produced output or has been silent for a while. Raises RunFailed if it failed before."""

    def answer(self) -> Answer:
        """The whole answer, after the run's remaining events; the same one each time. Raises RunFailed where the surface answers a failed
        run with an error."""

    def facts(self) -> RunFacts: ...

    @property
    def failure(self) -> Failed | None:
        """Why the run failed, once it is over."""

    def close(self) -> None: ...


def to_error(failure: Failed) -> RunError:
    return RunError(code=RUN_FAILURE_CODES[failure.kind], message=failure.message)


def status_of(failure: Failed | None) -> OutcomeStatus:
    if failure is None:
        return "completed"
    return "cancelled" if failure.kind == "cancelled" else "failed"
