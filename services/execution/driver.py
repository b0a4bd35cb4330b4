"""What the runner needs of a driver, and the words that drivers share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from services.cancellation import Cancellation
from services.clis.spec import BackendSpec, Invocation
from services.decoding.decoder import Decoder
from services.events import Batch


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
    tool_progress_s: float = 30.0
    """A stream reports on an open tool call at most so often."""
    leave_grace_s: float = 2.0
    """How long a CLI that has said its last word may take to exit: it writes its session file meanwhile."""
    stop_grace_s: float = 1.0
    """How long a CLI that is told to stop may take before it is killed."""


@runtime_checkable
class Conversation(Decoder, Protocol):
    """A decoder that also talks: what a CLI is told on its stdin while it runs. Pure, like a decoder."""

    def take_outgoing(self) -> bytes:
        """What is to be written to the CLI now; called at the start and after every `feed`."""


@runtime_checkable
class Interruptible(Protocol):
    """A conversation in which the CLI can be told to stop what it does, and stay."""

    def interrupt(self) -> bytes:
        """What is to be written to the CLI for that."""


@runtime_checkable
class Lasting(Protocol):
    """A conversation after which the CLI waits for the next turn of the same session."""

    @property
    def session_id(self) -> str:
        """The CLI's own; empty until it is known."""

    @property
    def last_word(self) -> str:
        """What the session's file holds once the whole turn is in it. Empty where the process must not be kept: the turn has not come
        to a good end, or something of it may still be going on."""

    def next(self, invocation: Invocation) -> Conversation:
        """The next turn in the same process."""


@runtime_checkable
class SpeaksOnce(Protocol):
    """A conversation in which all is said at the beginning: the CLI then reads the end of its stdin."""

    speaks_once: bool


@runtime_checkable
class Breakable(Protocol):
    """A conversation or a run that can tell a failure of its own from one of the CLI's work."""

    @property
    def has_broken(self) -> bool:
        """It came to no end because the process went away or does not speak the protocol: the same run may work in another way."""


class Running(Protocol):
    """A run that has started. `close` must be called, and leaves nothing of it."""

    @property
    def last_output_at(self) -> float:
        """When the CLI last wrote anything, or the run began; by `time.monotonic`."""

    def batches(self) -> Iterator[Batch]:
        """The run's events; the last one of the last batch is terminal. An empty batch whenever the CLI has been silent for
        ``keepalive_s``, or for ``idle_output_timeout_s`` if that is shorter."""

    def close(self) -> None: ...


@runtime_checkable
class KeepsProcesses(Protocol):
    """A driver that may start processes before anybody asks."""

    def prestart(self, invocation: Invocation, count: int) -> None:
        """Have so many processes ready for runs like this one."""

    def renew(self, backends: Mapping[str, BackendSpec]) -> None:
        """Go on with other specs. What was started by the old ones waits no more; runs that go on are left alone."""

    def retire(self) -> None:
        """Keep nothing ready from now on: for a server that stops, while runs may still finish. Does not wait."""

    def release(self, backend: str, session_id: str) -> None:
        """End the process that waits for the next turn of the CLI's session, if there is one. Returns when it has gone."""

    def ready_counts(self) -> Mapping[str, int]:
        """By backend, how many processes wait or can serve at once."""

    def close(self) -> None:
        """End every process that waits. Returns when they have gone."""


class Driver(Protocol):
    def start(self, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> Running:
        """Start the run. Raises BackendUnavailable when the CLI cannot be started."""
