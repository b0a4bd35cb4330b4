"""What the pool knows of a process that exists before its run: as much as an HTTP client's pool knows of a connection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from services.cancellation import Cancellation
from services.clis.spec import Invocation
from services.clis.warmth import Parameters, WarmLimits
from services.execution.driver import Limits, Running
from services.processes.memory import rss_mb


@dataclass(frozen=True, slots=True)
class Need:
    """What a run needs of the process that serves it."""

    key: Hashable
    """What cannot be changed once a process has been started."""
    parameters: Parameters
    """What the process has been initialized with, or will be by this run."""
    state: object
    """Of the files that it has read (`Warmth.state`)."""
    session_id: str
    """The session that it must have served before; empty where it must not have served any."""
    invocation: Invocation


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a process cannot be used."""

    message: str
    is_permanent: bool = False
    """Another process will not do either: the CLI speaks another protocol."""


class Worker(Protocol):
    """A process for one run at a time, or for many (``is_multiplexed``)."""

    is_multiplexed: bool
    need: Need
    """Of the run that it was started for, or has served."""
    session_id: str
    """Empty: it serves any session."""
    idle_since: float

    @property
    def pid(self) -> int: ...

    @property
    def rss_mb(self) -> float: ...

    @property
    def is_idle(self) -> bool: ...

    @property
    def is_initialized(self) -> bool:
        """It has `Need.parameters`, or needs none."""

    @property
    def is_sound(self) -> bool:
        """It lives, and is as its last run left it."""

    @property
    def problem(self) -> Problem | None:
        """Why it cannot serve any more, where that is no run's doing."""

    def can_serve(self, need: Need) -> bool: ...

    def has_expired(self, limits: WarmLimits, now: float) -> bool:
        """Whether it must not serve any more: it is not sound, or is too old, too large, or used up."""

    def wait_ready(self) -> Problem | None:
        """Wait until it can serve its first run; why it cannot, if so."""

    def run(self, need: Need, limits: Limits, cancellation: Cancellation, keep: Keep | None) -> Running:
        """Run in it. ``keep`` gets the worker that its process is after a run of which a next turn may come. Raises OSError."""

    def close(self, *, wait_for_runs: bool = True) -> None:
        """Serve no more runs, and end. Returns when nothing of it is left. Called once; again only to wait no more for its runs."""


Keep = Callable[[Worker], None]


class BaseWorker(ABC):
    """What the three kinds of worker have in common: until when one may serve."""

    def __init__(self, need: Need, *, started_at: float, uses: int = 0) -> None:
        self.need = need
        self.idle_since = monotonic()
        self._started_at = started_at
        self._uses = uses

    @property
    @abstractmethod
    def pid(self) -> int: ...

    @property
    @abstractmethod
    def is_sound(self) -> bool: ...

    @property
    def rss_mb(self) -> float:
        return rss_mb(self.pid)

    def has_expired(self, limits: WarmLimits, now: float) -> bool:
        is_old = now - self._started_at > limits.max_age_s or self._uses >= limits.max_uses
        return is_old or not self.is_sound or self.rss_mb > limits.max_rss_mb


class WorkerFactory(Protocol):
    """Makes the workers of one backend."""

    is_multiplexed: bool

    def need(self, invocation: Invocation) -> Need | None:
        """None where the run must have a process of its own."""

    def state(self, need: Need) -> object:
        """What `Need.state` is now."""

    def renewed(self, need: Need) -> Need | None:
        """``need`` with what the CLI's own configuration says now."""

    def start(self, need: Need, parameters: Parameters | None) -> Worker:
        """Start a process without a run; ``parameters``: initialize it as well. Raises BackendUnavailable, OSError."""

    def start_reusable(self, need: Need, limits: Limits, cancellation: Cancellation, keep: Keep) -> Running | None:
        """The run in a process that is started for it and may be kept; None where it may not. Raises BackendUnavailable."""
