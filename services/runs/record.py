"""Records of the run store. Times are microseconds since the epoch."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

RunKind = Literal["prompt", "resume", "parallel", "chain", "compare", "chat", "response", "message"]
KINDS: tuple[RunKind, ...] = get_args(RunKind)

RunStatus = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]
"""``waiting``: it runs, and somebody must answer a question before it can go on."""
STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)

LIVE: tuple[RunStatus, ...] = ("running", "waiting")
"""A process executes it."""
ENDED: tuple[RunStatus, ...] = ("completed", "failed", "cancelled")

ID_PREFIX, ID_BYTES = "run_", 12


def new_run_id() -> str:
    return ID_PREFIX + secrets.token_hex(ID_BYTES)


def first_number(kind: RunKind) -> int:
    """The number of a run's first event: the events of a Response count from 0, as OpenAI's do."""
    return 0 if kind == "response" else 1


class Chunk(NamedTuple):
    """``count`` whole SSE frames, each with its blank line; ``first`` is the number of the first event."""

    first: int
    count: int  # type: ignore[assignment]  # `tuple.count` is not needed
    data: bytes

    @property
    def last(self) -> int:
        return self.first + self.count - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunError:
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """``events``: the types that are sent; empty means all."""

    url: str
    events: tuple[str, ...] = ()
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """``body_hash`` identifies all of the request that must be equal when the key is used again."""

    key: str
    body_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """The HTTP answer of a foreground run, which a request with the same idempotency key receives again."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to be stored. ``owner`` is the caller that it belongs to.

    ``priority``: 0 is first, 9 is last. ``weight``: the owner's share within its priority, above 0.
    """

    id: str
    kind: RunKind
    owner: str
    is_background: bool
    request_id: str
    request: bytes = field(repr=False)
    """JSON: what a worker needs to start the run. Opaque to the store."""
    title: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    session_id: str | None = None
    backend: str | None = None
    """The backend that a worker must have; None: any worker may execute the run."""
    model: str | None = None
    priority: int = 5
    weight: float = 1.0
    attempts: int = 1
    """How often the run may be started: 2 allows one more attempt after its worker was lost."""
    timeout_s: float | None = None
    idempotency: IdempotencyKey | None = None
    webhooks: tuple[Webhook, ...] = ()
    begun: Chunk | None = field(default=None, repr=False)
    """Events that are stored with it: its readers have them while it waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A stored run. See `NewRun` for the fields that come from there."""

    id: str
    kind: RunKind
    owner: str
    is_background: bool
    request_id: str
    request: bytes = field(default=b"", repr=False)
    """Present only in what `RunStore.claim` returns."""
    begun: Chunk | None = field(default=None, repr=False)
    """The beginning of its event log. Present only where its terminal event is made, and None there too if the log is empty."""
    title: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    status: RunStatus
    attempt: int = 1
    attempts: int = 1
    session_id: str | None = None
    cli_session_id: str | None = None
    """The session that the run has left for another one to continue: see `RunFacts`. Never shown."""
    backend: str | None = None
    model: str | None = None
    last_tool: str | None = None
    priority: int = 5
    timeout_s: float | None = None
    idempotency: IdempotencyKey | None = None
    webhooks: tuple[Webhook, ...] = ()
    created_at: int
    started_at: int | None = None
    """Of the last attempt."""
    ended_at: int | None = None
    result: bytes | None = field(default=None, repr=False)
    """JSON: what the synchronous call answers."""
    error: RunError | None = None
    answer: StoredAnswer | None = None
    """None in lists."""
    terminal: Chunk | None = field(default=None, repr=False)
    """The last event, present when the run has ended, except in lists. It is not part of the event log."""
    is_cancel_requested: bool = False
    are_events_expired: bool = False
    position: int | None = None
    """Place in the queue, 1 is next; None unless queued."""
    left_out: tuple[str, ...] = ()
    """The fields that a list omitted because they are too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run ended. None in one of `endings.KEPT_IF_NONE` keeps what is stored."""

    status: Literal["completed", "failed", "cancelled"]
    terminal: Chunk = field(repr=False)
    """The last event, with the number after that of the last one in the event log."""
    result: bytes | None = field(default=None, repr=False)
    error: RunError | None = None
    answer: StoredAnswer | None = None
    session_id: str | None = None
    cli_session_id: str | None = None
    backend: str | None = None
    model: str | None = None
    last_tool: str | None = None
    webhook_event: str | None = None
    """What the webhook calls the end; None: its status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Filters of a list; None matches everything. ``owner``: within the scope of the list; another owner than the scope's matches nothing."""

    owner: str | None = None
    status: RunStatus | None = None
    kind: RunKind | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class RunPage:
    """``next_cursor`` is None on the last page."""

    runs: tuple[Run, ...]
    next_cursor: str | None = None
