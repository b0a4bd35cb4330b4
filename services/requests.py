"""A run's request (`RunRequest`) and its result (`RunResult`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from services.history import Message, said

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.events import Denial, Failed
    from services.usage import Usage

ApprovalMode = Literal["default", "auto", "none", "always"]
SandboxMode = Literal["default", "read-only", "workspace", "full"]
OutputFormat = Literal["default", "text", "json", "stream-json"]
Effort = Literal["minimal", "low", "medium", "high", "xhigh", "max"]


class PassedOver(NamedTuple):
    """A backend that did not answer, so that the next one in its chain was asked: its name, and the kind of its failure."""

    backend: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One prompt, or one conversation, the same for every API surface. ``None`` means "not set".

    ``options`` holds the unified options that a backend maps through its option table, by name; see
    `services.clis.spec.OPTION_NAMES`. An option that the backend does not support is reported in
    `Invocation.ignored`.
    """

    prompt: str = field(repr=False)
    """What is asked, as sessions record it."""
    backend: str
    backend_reason: str = ""
    """Why this backend was selected, if the request did not name it; for error messages."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    inherited: frozenset[str] = frozenset()
    """Names of the ``options`` that come from an earlier turn of the session, not from this request."""
    workdir: str | None = None
    ephemeral: bool = False
    resume: str | None = None
    """The CLI's own session id to continue."""
    history: tuple[Message, ...] = ()
    """The conversation up to what is asked, which is its last message; empty: the prompt is all of it. Of a run that resumes a
    session: the messages that the session lacks."""
    stop: tuple[str, ...] = ()
    """Stop sequences: the text is cut before the first match and the CLI is stopped."""
    extra: tuple[str, ...] = ()
    """Flags for the CLI, allow-listed by the backend."""
    timeout_s: float | None = None
    request_id: str = ""
    run_id: str = ""
    """The run that this is, or is a part of."""
    owner: str = "local"
    """Whose run it is: the API key's name, or `services.access.rights.LOCAL`. Its rights and budgets apply."""
    caller: str = ""
    """The unit of fair queueing: the owner, or the client's address where no keys are configured."""
    depth: int = 0
    """How many agents that this server started have asked each other, one by the other, until this run was asked for."""
    is_background: bool = False
    """Nobody's connection waits for it: it has a time limit of its own, and no time limit in the queue."""
    is_fallback: bool = False
    """Another attempt of a run whose first one has ended: it is admitted whatever the budgets say, does not count as another run, and goes
    before the key's waiting runs."""
    traceparent: str = ""
    """Of a background run: the trace (W3C) that its submission belonged to."""
    tier: str = ""
    """One of `services.models.TIERS`, if the request names one: another backend answers with its own model of this tier."""
    may_fall_back: bool = True
    """False: no other backend may answer. The request names the model exactly, or continues a session."""
    passed_over: tuple[PassedOver, ...] = ()
    """The backends that did not answer before this one."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole input of the model except the system prompt. Never empty."""
        return self.history or (said("user", self.prompt),)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The result of a run, folded from its events (`services.fold.collect`)."""

    backend: str
    model: str | None
    session_id: str | None
    output: str = field(repr=False)
    thinking: str = field(repr=False)
    exit_code: int | None
    duration_ms: int
    usage: Usage | None
    cost_usd: float | None
    is_cost_estimated: bool = False
    """By the configuration's prices: the CLI does not report its cost."""
    stop_reason: str | None
    stop_sequence: str | None = None
    structured_output: Any = None
    failure: Failed | None = None
    ignored: tuple[str, ...] = ()
    denied_tools: tuple[Denial, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
