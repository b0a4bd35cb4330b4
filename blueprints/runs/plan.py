"""What a request asks for, checked but not started: by a view for its client, or by a worker for a stored request."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flask import request

from blueprints.context import services
from blueprints.current_request import caller, owner, request_id, traceparent
from services import depth
from services.access.scope import Scope
from services.cancellation import Cancellation
from services.errors import ClinvkError, InvalidRequest
from services.runs.record import RunKind, new_run_id
from services.runs.work import RunFacts, Work

ORIGIN_HEADERS = ("User-Agent", depth.HEADER, "X-Clinvk-Session", "X-Clinvk-Tools", "X-Clinvk-Workdir")
"""Request headers that change what a run does."""
DEPTH = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who asked for a run, and what of the request counts besides its body."""

    request_id: str
    owner: str
    caller: str
    """The unit of fair queueing."""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_background: bool = False
    traceparent: str = ""
    """The trace that the request belongs to (W3C)."""
    submitted_at: str = ""
    """When a background run was submitted, in RFC 3339."""
    run_id: str = ""
    """Of the run that a worker makes the plan for; empty as long as it has not been queued."""

    @property
    def depth(self) -> int:
        """See `RunRequest`. Raises InvalidRequest."""
        sent = self.headers.get(depth.HEADER, "0")
        if not DEPTH.fullmatch(sent):
            raise InvalidRequest(
                f"{depth.HEADER}: expected a whole number, got {sent[:40]!r}; an agent sends the value of its variable {depth.VARIABLE}, "
                "and anybody else leaves the header out",
                field=depth.HEADER,
                issue="not a number",
            )
        return int(sent)


def current_origin() -> Origin:
    headers = {name: value for name in ORIGIN_HEADERS if (value := request.headers.get(name))}
    return Origin(request_id=request_id(), owner=owner(), caller=caller(), headers=headers, traceparent=traceparent())


def scope_of(origin: Origin) -> Scope:
    """Whose things the run may see. Raises KeyRevoked."""
    return services().access.scope_of(origin.owner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What a run is started with. ``first``: the number of its first event."""

    run_id: str
    cancellation: Cancellation
    first: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """A checked request for one run. ``start`` raises what can still be refused: no slot, no store, no such CLI session."""

    kind: RunKind
    id: str = field(default_factory=new_run_id)
    start: Callable[[Beginning], Work]
    expected: RunFacts = RunFacts()
    """What is known before the start."""
    to_refusal: Callable[[ClinvkError], bytes] | None = None
    """How a stream tells that the run could not be started. Such a stream begins at once; None: its status tells."""
    alias: str = ""
    """A name of the run that its client knows, besides its id: see `LiveRun`."""
    is_repeatable: bool = True
    """Whether an idempotency key keeps its answer."""
    is_stored: bool = False
    """Whether the run can be looked up when it has ended, also without an idempotency key."""
    waits_for_output: bool = False
    """Whether a stream holds back its status until the CLI produces output, fails, or is silent for the keep-alive interval. A run
    that fails at once (not logged in, rate limited) then gets its own status and ``x-should-retry``, as from the vendors' APIs."""
    title: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
