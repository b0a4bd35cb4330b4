"""The words of a run: what is asked for (`RunRequest`), what it cost (`Usage`), what came of it (`RunResult`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.events import Failed

ApprovalMode = Literal["default", "auto", "none", "always"]
SandboxMode = Literal["default", "read-only", "workspace", "full"]
OutputFormat = Literal["default", "text", "json", "stream-json"]
Effort = Literal["minimal", "low", "medium", "high", "xhigh", "max"]


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one turn.

    ``input_tokens`` is everything the model read, cached tokens included (OpenAI's and Gemini's convention);
    ``cached_tokens`` is the part read from the vendor's prompt cache and ``cache_write_tokens`` the part written to it.
    ``output_tokens`` is everything the model wrote, ``reasoning_tokens`` included where the vendor counts them so.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0


def less(total: Usage, before: Usage) -> Usage:
    """The tokens of a turn, from a count that goes on through a session: its total without what it was before.

    A total that shrank was counted anew.
    """
    if total.input_tokens < before.input_tokens or total.output_tokens < before.output_tokens:
        return total
    return Usage(
        total.input_tokens - before.input_tokens,
        total.output_tokens - before.output_tokens,
        max(0, total.cached_tokens - before.cached_tokens),
        max(0, total.reasoning_tokens - before.reasoning_tokens),
        max(0, total.cache_write_tokens - before.cache_write_tokens),
    )


def plus(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.cached_tokens + other.cached_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
        one.cache_write_tokens + other.cache_write_tokens,
    )


@dataclass(frozen=True, slots=True)
class Image:
    """One picture for the model: its media type (``image/png``) and its bytes."""

    media_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One prompt in our vocabulary, whatever surface it came through. ``None`` means "not asked for".

    ``options`` holds the unified options that a backend maps through its option table, by name; see
    `services.clis.spec.OPTION_NAMES`. An option that the backend cannot honour is reported in
    `Invocation.ignored`, never dropped in silence.
    """

    prompt: str = field(repr=False)
    backend: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    workdir: str | None = None
    ephemeral: bool = False
    resume: str | None = None
    """The CLI's own session id to continue."""
    images: tuple[Image, ...] = ()
    stop: tuple[str, ...] = ()
    """Stop sequences: the text is cut before the first of them and the CLI is stopped."""
    extra: tuple[str, ...] = ()
    """Flags for the CLI, allow-listed by the backend."""
    timeout_s: float | None = None
    request_id: str = ""
    caller: str = ""
    """Whose place in the queue this is: the key's name or the client's address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What came of a run: the fold of its events (`services.runner.collect`)."""

    backend: str
    model: str | None
    session_id: str | None
    output: str = field(repr=False)
    thinking: str = field(repr=False)
    exit_code: int | None
    duration_ms: int
    usage: Usage | None
    cost_usd: float | None
    stop_reason: str | None
    stop_sequence: str | None = None
    structured_output: Any = None
    failure: Failed | None = None
    ignored: tuple[str, ...] = ()
