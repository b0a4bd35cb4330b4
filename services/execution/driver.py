"""What the runner needs of a driver: limits in, a run out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from services.cancellation import Cancellation
from services.clis.spec import BackendSpec, Invocation
from services.events import Batch
from services.telemetry import Start


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one run, each with the name of its setting."""

    request_timeout_s: float = 300.0
    request_timeout_name: str = "server.request_timeout_secs"
    """The setting, or the request's field, that it comes from."""
    idle_output_timeout_s: float = 180.0
    max_output_bytes: int = 64 * 1024 * 1024
    line_limit_bytes: int = 16 * 1024 * 1024
    keepalive_s: float = 10.0
    """After so long a silence an empty batch is yielded."""
    max_depth: int = 2
    """How many agents may ask each other in a row: a run at this depth is refused (server.mcp_max_depth)."""
    tool_progress_s: float = 30.0
    """A stream reports on an open tool call at most so often."""
    leave_grace_s: float = 2.0
    """How long a CLI may take to exit after its last message: it writes its session file meanwhile."""
    stop_grace_s: float = 1.0
    """How long a CLI that is asked to stop may take before it is killed."""


class Running(Protocol):
    """A run that has started. `close` must be called, and leaves nothing of it."""

    began_as: Start

    @property
    def last_output_at(self) -> float:
        """When the CLI last wrote anything, or the run began; by `time.monotonic`."""

    @property
    def is_retryable(self) -> bool:
        """As of a `Conversation`: it failed before anything can have happened."""

    def batches(self) -> Iterator[Batch]:
        """The run's events; the last one of the last batch is terminal. An empty batch whenever the CLI has been silent for
        ``keepalive_s``, or for ``idle_output_timeout_s`` if that is shorter."""

    def close(self) -> None: ...


class Driver:
    """Starts runs. One that keeps processes ready for them overrides the rest as well."""

    def start(self, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> Running:
        """Start the run. Raises BackendUnavailable when the CLI cannot be started."""
        raise NotImplementedError

    def prestart(self, invocation: Invocation, count: int) -> None:
        """Keep so many processes ready for runs like this one."""

    def reconfigure(self, backends: Mapping[str, BackendSpec]) -> None:
        """Use other specs. Idle processes of the old ones end; their active runs continue."""

    def drain(self) -> None:
        """Keep no process ready from now on: the server stops, while runs may still finish. Does not wait."""

    def evict_session(self, backend: str, session_id: str) -> None:
        """End the process that waits for the next turn of the CLI's session, if there is one. Returns when it has gone."""

    def ready_counts(self) -> Mapping[str, int]:
        """By backend, how many processes can take a run at once."""
        return {}

    def close(self) -> None:
        """End every idle process. Returns when they have gone."""
