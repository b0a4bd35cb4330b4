"""What a CLI says, in one vocabulary.

Grammar of a run: ``Started? (Text | Thinking | ToolCall | ToolProgress | ToolResult | UsageUpdate)* (Finished | Failed)``,
so exactly one terminal event. Events travel in *batches* (``list[Event]``): all that one read of the CLI's pipe gave,
so that a burst costs one write to the client. An empty batch says that the CLI is silent: a moment for a keep-alive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from services.redaction import redact
from services.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "refusal"]

FailureKind = Literal[
    "rate_limited",
    "overloaded",
    "prompt_too_long",
    "invalid_prompt",
    "unknown_model",
    "unknown_session",
    "not_logged_in",
    "timeout",
    "cancelled",
    "shutdown",
    "unavailable",
    "backend",
]
"""Why a run did not end well. ``unavailable`` is one that never started, told so where it is one of several
(`services.compose`); ``backend`` is everything that has no name of its own."""

FAILURE_KINDS: tuple[FailureKind, ...] = get_args(FailureKind)


class Started(msgspec.Struct, frozen=True, gc=False):
    """The CLI is up. ``session_id`` is the CLI's own; ``model`` is what it says it will ask."""

    session_id: str | None = None
    model: str | None = None


class Text(msgspec.Struct, frozen=True, gc=False):
    """Text of the answer. ``block`` counts the separate messages of one run: text with another number is
    another message, set apart by a blank line in the folded output (`separated`)."""

    text: str
    block: int = 0
    is_partial: bool = True


class Thinking(msgspec.Struct, frozen=True, gc=False):
    """Text of the model's reasoning, where the CLI shows it."""

    text: str


class ToolCall(msgspec.Struct, frozen=True):
    """The agent uses one of its own tools. The call is open until its ToolResult; where the CLI reports no results
    (``reports_result`` is False), until the next event."""

    id: str
    name: str
    input: Any
    reports_result: bool = True


class ToolProgress(msgspec.Struct, frozen=True, gc=False):
    """The call ``id`` of the tool ``name`` has been open for so long. From the runner, not from the CLI."""

    id: str
    name: str
    elapsed_s: float


class ToolResult(msgspec.Struct, frozen=True, gc=False):
    """What the tool said."""

    id: str
    output: str
    is_error: bool = False


class UsageUpdate(msgspec.Struct, frozen=True):
    """Tokens of the turn so far; a later one replaces an earlier one."""

    usage: Usage


class Denial(msgspec.Struct, frozen=True, gc=False):
    """A tool that the agent called and the CLI refused to run. ``reason`` is the CLI's own text."""

    tool: str
    reason: str


class Finished(msgspec.Struct, frozen=True):
    """The run ended well. ``usage`` and ``cost_usd`` are of this turn alone, None where the CLI does not tell."""

    exit_code: int = 0
    stop_reason: StopReason = "end_turn"
    usage: Usage | None = None
    cost_usd: float | None = None
    structured_output: Any = None
    stop_sequence: str | None = None
    denied_tools: tuple[Denial, ...] = ()


class Failed(msgspec.Struct, frozen=True):
    """The run ended badly, after it had started. ``exit_code`` is None when no process ended (or it was ours to end)."""

    kind: FailureKind
    message: str
    exit_code: int | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    retry_after_s: float | None = None
    denied_tools: tuple[Denial, ...] = ()


Event = Started | Text | Thinking | ToolCall | ToolProgress | ToolResult | UsageUpdate | Finished | Failed
Batch = list[Event]


def is_terminal(event: Event) -> bool:
    return isinstance(event, Finished | Failed)


def for_callers(end: Finished | Failed, usage: Usage | None, backend: str = "", login_hint: str = "") -> Finished | Failed:
    """The end as callers get it: with the run's usage; in a failure's message, which the CLI wrote, without credentials, and with
    what to do on the server where the CLI is not logged in."""
    if not isinstance(end, Failed):
        return msgspec.structs.replace(end, usage=usage)
    message = redact(end.message)
    if end.kind == "not_logged_in" and login_hint:
        message = f"{backend} is not logged in on the server: {login_hint} as the server's user, then try again (the CLI said: {message})"
    return msgspec.structs.replace(end, message=message, usage=usage)


def separated(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Put a blank line before the first text of every message but the first, for every consumer alike.

    An agent says "I'll look", uses a tool, and answers: two messages, which would otherwise be glued together.
    """
    block: int | None = None
    tail = ""
    for batch in batches:
        for i, event in enumerate(batch):
            if type(event) is Text and (text := event.text):
                if event.block != block:
                    if block is not None and not tail.endswith("\n\n"):
                        gap = "\n" if tail.endswith("\n") else "\n\n"
                        batch[i] = Text(gap + text, event.block, event.is_partial)
                    block = event.block
                tail = text if len(text) > 1 else tail[-1:] + text
        yield batch
