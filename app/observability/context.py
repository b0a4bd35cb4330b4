"""The request that is being answered: one object, which everything about a request reads and writes."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from app.observability.trace_context import Trace, to_trace
from blueprints.current_request import CURRENT_REQUEST
from services.access.rights import LOCAL, UNLIMITED, Rights
from services.access.scope import EVERYONE, Scope

Environ = dict[str, Any]

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

_current: ContextVar[CurrentRequest | None] = ContextVar("current_request", default=None)


@dataclass(slots=True, eq=False, kw_only=True)
class CurrentRequest:
    """One request from its head to the close of its answer's body. Routes see the part that `blueprints.current_request` declares."""

    environ: Environ
    request_id: str
    """The caller's `X-Request-ID` if it is a sane token, else a new one."""
    started_at: float = field(default_factory=perf_counter)
    trace: Trace | None = None
    """The trace that the request belongs to; then the server's own span in it, if there is one."""

    # Set by the checks before the route.
    proxy: str = ""
    """Address of the trusted proxy that forwarded the request."""
    route: str = ""
    """The URL rule; empty for an unknown path."""
    key_name: str | None = None
    rights: Rights = UNLIMITED
    """Of the key; all where no keys are configured."""
    caller: str = ""
    """The unit of fair queueing: the key's name, or the client's address."""
    sees_details: bool = False
    """Whether a public route may show more than its status: a valid key was sent, or none is needed."""
    is_limited: bool = False
    """Whether the rate limit applies."""

    misspelled: Mapping[str, str] = field(default_factory=dict)
    """The fields of the body that have no effect because of their spelling, each with the known field's name. Set as it is parsed."""

    answer_headers: dict[str, str] = field(default_factory=dict)
    """Headers for the answer, whatever it will be."""

    # Set as the answer is made.
    surface: str = ""
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    error_code: str = ""
    bytes: int = 0
    is_complete: bool = False
    """Whether the whole body was sent."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What an observer keeps from the beginning of the request to its end."""

    @property
    def method(self) -> str:
        return str(self.environ["REQUEST_METHOD"])

    @property
    def path(self) -> str:
        # WSGI strings are bytes decoded as Latin-1 (PEP 3333).
        path: str = self.environ["PATH_INFO"]
        return path.encode("latin-1", "replace").decode("utf-8", "replace")

    @property
    def traceparent(self) -> str:
        return str(self.trace) if self.trace else ""

    @property
    def owner(self) -> str:
        """Whom everything that the request makes belongs to."""
        return self.key_name or LOCAL

    @property
    def scope(self) -> Scope:
        """Whose things the caller sees."""
        return EVERYONE if self.rights.is_admin else Scope(self.owner)

    @property
    def duration_s(self) -> float:
        return perf_counter() - self.started_at


def current_request() -> CurrentRequest | None:
    """The request that this greenlet, or one that works for it, answers."""
    return _current.get()


def set_current_request(request: CurrentRequest | None) -> None:
    _current.set(request)


def request_of(environ: Environ) -> CurrentRequest:
    """The request of a WSGI environ: made once, also where no middleware is in front (Flask's `test_request_context`)."""
    found: CurrentRequest | None = environ.get(CURRENT_REQUEST)
    if found is None:
        request_id = to_request_id(environ.get("HTTP_X_REQUEST_ID"))
        found = CurrentRequest(environ=environ, request_id=request_id, trace=to_trace(environ.get("HTTP_TRACEPARENT")))
        environ[CURRENT_REQUEST] = found
    return found


def to_request_id(given: str | None) -> str:
    return given if given and REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
