"""What the session store keeps: sessions, turns, and the words to ask for them. Times are microseconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from services.usage import Usage

SessionStatus = Literal["idle", "running", "failed"]
"""``idle``: no turn is running, and the last one, if any, did not fail; a turn that was cancelled has not."""

TurnStatus = Literal["running", "finished", "failed", "cancelled", "interrupted"]
"""``interrupted``: the server ended in the middle of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A conversation with one backend in one folder. ``usage`` and ``cost_usd`` are the sums over its own turns."""

    id: str
    backend: str
    workdir: str
    model: str | None = None
    title: str | None = None
    status: SessionStatus = "idle"
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The unified options that later turns use unless they say otherwise."""
    parent_id: str | None = None
    """The session that this one was forked from."""
    cli_session_id: str | None = None
    needs_rebuild: bool = False
    """The CLI has no session that holds the turns so far: the next turn must tell them anew."""
    turn_count: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    error: str | None = None
    """What was wrong with the last turn."""
    created_at: int = 0
    updated_at: int = 0
    left_out: tuple[str, ...] = ()
    """The fields (`services.store.listing.LARGE`) that a list leaves out of this session: they are too long for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One prompt and what came of it. ``number`` counts from 1."""

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
    """Copied from the session that this one was forked from; not in the session's sums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTurn:
    """A turn that is about to run."""

    prompt: str = field(repr=False)
    model: str | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnd:
    """What came of a turn, and what its request says of the session: that is stored only once the turn has run."""

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
    """The session that the CLI has it in, where the CLI told."""
    title: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a listed session must have; None asks for nothing. ``q``: all of its words, in the title, the tags, or one turn."""

    backend: str | None = None
    status: SessionStatus | None = None
    tag: str | None = None
    workdir: str | None = None
    q: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """``next_cursor`` is None on the last page."""

    sessions: tuple[Session, ...]
    next_cursor: str | None = None
