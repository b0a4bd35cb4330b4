"""Request headers of the compatible surfaces, and service errors reported by the client's header or field names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar

from flask import request

from blueprints.context import services
from blueprints.current_request import caller, request_id
from services.errors import ClinvkError

P = ParamSpec("P")
T = TypeVar("T")

SESSION_HEADER = "X-Clinvk-Session"
WORKDIR_HEADER = "X-Clinvk-Workdir"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """Inputs of a run that are not in the request's body."""

    session: str | None
    """The session to continue: one of ours (id or id prefix), or the CLI's own."""
    workdir: str | None
    request_id: str
    caller: str


def request_context(session: str | None = None) -> RequestContext:
    """``session`` takes precedence over the header."""
    return RequestContext(
        session=session or session_header(), workdir=request.headers.get(WORKDIR_HEADER) or None, request_id=request_id(), caller=caller()
    )


def session_header() -> str | None:
    return request.headers.get(SESSION_HEADER) or None


def fields_as_sent(function: Callable[P, T]) -> Callable[P, T]:
    """Rename fields in the service errors of ``function`` to the request header or field that caused them."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except ClinvkError as error:
            field = error.details.get("field")
            session = SESSION_HEADER if session_header() else "previous_response_id"
            sent = {"session_id": session, "workdir": WORKDIR_HEADER, "backend": "model"}.get(str(field))
            if sent:
                error.details["field"] = sent
                error.message = f"{sent}: {error.message}"
            raise

    return called


@fields_as_sent
def continues_turns() -> bool:
    """Whether the header's session already contains the earlier turns, so that only the last message is new. Raises NotFound."""
    session = session_header()
    return session is not None and services().conversations.knows_turns(session)
