"""Records of the session store: sessions, turns, filters. Times are microseconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from services.usage import Usage

SessionStatus = Literal["idle", "running", "failed"]
"""``idle``: no turn is running and the last one, if any, did not fail. A cancelled turn does not count as failed."""

TurnStatus = Literal["running", "finished", "failed", "cancelled", "interrupted"]
"""``interrupted``: the server ended during the turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A conversation with one backend in one folder. ``usage`` and ``cost_usd`` are the sums over its own turns."""

    id: str
    owner: str
    """The caller that it belongs to: a key's name, or `services.access.rights.LOCAL`."""
    backend: str
    workdir: str
    model: str | None = None
    title: str | None = None
    status: SessionStatus = "idle"
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The unified options that later turns inherit."""
    parent_id: str | None = None
    """The session that this one was forked from."""
    cli_session_id: str | None = None
    needs_rebuild: bool = False
    """The CLI has no session with the turns so far: the next turn must include them in its prompt."""
    turn_count: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    error: str | None = None
    """The error of the last turn."""
    created_at: int = 0
    updated_at: int = 0
    left_out: tuple[str, ...] = ()
    """The fields (`services.store.listing.LARGE`) that a list omitted because they are too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One prompt and its outcome. ``number`` counts from 1."""

    session_id: str
    number: int
    status: TurnStatus
    prompt: str = field(repr=False)
    output: str = field(default="", repr=False)
    model: str | None = None
    failure: str | None = None
    """The kind of the failure (`services.events.FailureKind`)."""
    error: str | None = None
    exit_code: int | None = None
    started_at: int = 0
    duration_ms: int | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    request_id: str = ""
    is_inherited: bool = False
    """Copied from the session that this one was forked from; not included in the session's sums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTurn:
    """A turn to be started."""

    prompt: str = field(repr=False)
    model: str | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnd:
    """The outcome of a turn, and the session metadata of its request, which is stored only after the turn has run."""

    status: TurnStatus
    output: str = field(repr=False)
    duration_ms: int
    model: str | None = None
    failure: str | None = None
    error: str | None = None
    exit_code: int | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    cli_session_id: str | None = None
    """The CLI's own session id, if the CLI reported it."""
    title: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Filters of a list; None matches everything. ``q``: all of its words must occur in the title and tags, or in one turn."""

    backend: str | None = None
    status: SessionStatus | None = None
    tag: str | None = None
    workdir: str | None = None
    q: str | None = None
    owner: str | None = None
    """Within the scope of the list: another owner than the scope's matches nothing."""


@dataclass(frozen=True, slots=True)
class Page:
    """``next_cursor`` is None on the last page."""

    sessions: tuple[Session, ...]
    next_cursor: str | None = None
