"""The events of a run, the same for every CLI.

Grammar of a run: ``Started? (Text | Thinking | ToolCall | ToolProgress | ToolResult | UsageUpdate)* (Finished | Failed)``,
so exactly one terminal event. PlanUpdate and Retrying may be anywhere before it; `services.run_stream` takes them out. Events travel in *batches* (``list[Event]``): the events of one read of the CLI's pipe,
so that a burst costs one write to the client. An empty batch means that the CLI is silent; streams send a keep-alive then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from services.plans.window import PlanWindow
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
    "server_stopped",
    "unavailable",
    "budget_exceeded",
    "backend",
]
"""Why a run failed. ``shutdown``: the server stopped while a client waited; ``server_stopped``: in the background; ``unavailable``, ``budget_exceeded``: it never started (only in `services.compose`, where the other runs continue);
``backend``: every failure without a kind of its own."""

FAILURE_KINDS: tuple[FailureKind, ...] = get_args(FailureKind)


class Started(msgspec.Struct, frozen=True, gc=False):
    """The CLI is ready. ``session_id`` is the CLI's own id; ``model`` is the model that it reports."""

    session_id: str | None = None
    model: str | None = None


class Text(msgspec.Struct, frozen=True, gc=False):
    """Text of the answer. ``block`` is the index of the message within the run; `separated` puts a blank line between
    messages."""

    text: str
    block: int = 0
    is_partial: bool = True


class Thinking(msgspec.Struct, frozen=True, gc=False):
    """Reasoning text, where the CLI reports it."""

    text: str


class ToolCall(msgspec.Struct, frozen=True):
    """The agent calls one of its own tools. The call is open until its ToolResult, or until the next event where the CLI
    reports no results (``reports_result`` is False)."""

    id: str
    name: str
    input: Any
    reports_result: bool = True


class ToolProgress(msgspec.Struct, frozen=True, gc=False):
    """The call ``id`` of tool ``name`` has been open for ``elapsed_s``. Emitted by the runner, not by the CLI."""

    id: str
    name: str
    elapsed_s: float


class ToolResult(msgspec.Struct, frozen=True, gc=False):
    id: str
    output: str
    is_error: bool = False


class UsageUpdate(msgspec.Struct, frozen=True):
    """Tokens of the turn so far. Replaces earlier updates."""

    usage: Usage


class PlanUpdate(msgspec.Struct, frozen=True):
    """The CLI reports windows of its subscription. Callers do not get it."""

    windows: tuple[PlanWindow, ...]


class Retrying(msgspec.Struct, frozen=True, gc=False):
    """The model API refused a request of the CLI, which repeats it by itself. Callers do not get it."""

    kind: FailureKind
    message: str


class Denial(msgspec.Struct, frozen=True, gc=False):
    """A tool call that the CLI refused to run. ``reason`` is the CLI's own text."""

    tool: str
    reason: str


class Finished(msgspec.Struct, frozen=True):
    """The run succeeded. ``usage`` and ``cost_usd`` cover this turn only; None where the CLI does not report them."""

    exit_code: int = 0
    stop_reason: StopReason = "end_turn"
    usage: Usage | None = None
    cost_usd: float | None = None
    structured_output: Any = None
    stop_sequence: str | None = None
    denied_tools: tuple[Denial, ...] = ()
    is_cost_estimated: bool = False


class Failed(msgspec.Struct, frozen=True):
    """The run failed after it had started. ``exit_code`` is None when no process exited, or the server stopped it."""

    kind: FailureKind
    message: str
    exit_code: int | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    retry_after_s: float | None = None
    denied_tools: tuple[Denial, ...] = ()
    is_cost_estimated: bool = False


Event = Started | Text | Thinking | ToolCall | ToolProgress | ToolResult | UsageUpdate | PlanUpdate | Retrying | Finished | Failed
Batch = list[Event]


def is_terminal(event: Event) -> bool:
    return isinstance(event, Finished | Failed)


def for_callers(
    end: Finished | Failed, usage: Usage | None, backend: str = "", login_hint: str = "", model: str | None = None
) -> Finished | Failed:
    """The end as callers get it: with ``usage``; a failure's message, which may quote the CLI, with credentials redacted. Where the
    CLI names a remedy of its own (`/login`, `--model`), the one that works here leads. ``model``: the requested one, if any."""
    if not isinstance(end, Failed):
        return msgspec.structs.replace(end, usage=usage)
    message = redact(end.message)
    if end.kind == "not_logged_in" and login_hint:
        message = f"{backend} is not logged in on the server: {login_hint} as the server's user, then try again (the CLI said: {message})"
    if end.kind == "unknown_model" and backend:
        wrong = f"the model {model!r}" if model else "its default model"
        message = f"{backend} does not accept {wrong}: name another in `model` (`clinvk prompt -m MODEL`) (the CLI said: {message})"
    return msgspec.structs.replace(end, message=message, usage=usage)


def separated(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Insert a blank line between messages.

    An agent writes "I'll look", calls a tool and answers: two messages that would otherwise run together.
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
