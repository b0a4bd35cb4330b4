"""Request headers of the compatible surfaces, and service errors reported by the client's header or field names."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from blueprints.context import services
from blueprints.runs.plan import Origin, scope_of
from services.errors import ClinvkError

SESSION_HEADER = "X-Clinvk-Session"
WORKDIR_HEADER = "X-Clinvk-Workdir"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """Inputs of a run that are not in the request's body."""

    session: str | None
    """The session to continue: one of ours (id or id prefix), or the CLI's own that a response id carries."""
    workdir: str | None
    request_id: str
    owner: str
    caller: str
    depth: int = 0
    is_background: bool = False


def to_context(origin: Origin, session: str | None = None) -> RequestContext:
    """``session`` takes precedence over the header."""
    return RequestContext(
        session=session or session_header(origin),
        workdir=origin.headers.get(WORKDIR_HEADER),
        request_id=origin.request_id,
        owner=origin.owner,
        caller=origin.caller,
        depth=origin.depth,
        is_background=origin.is_background,
    )


def session_header(origin: Origin) -> str | None:
    return origin.headers.get(SESSION_HEADER)


class FieldsAsSent:
    """A context in which fields in service errors are renamed to the request header or field that caused them."""

    def __init__(self, origin: Origin) -> None:
        session = SESSION_HEADER if session_header(origin) else "previous_response_id"
        self._sent = {"session_id": session, "workdir": WORKDIR_HEADER, "backend": "model"}

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, ClinvkError) and (sent := self._sent.get(str(error.details.get("field")))):
            error.details["field"] = sent
            error.message = f"{sent}: {error.message}"


def continues_turns(origin: Origin) -> bool:
    """Whether the header's session already contains the earlier turns, so that only the last message is new. Raises NotFound."""
    session = session_header(origin)
    with FieldsAsSent(origin):
        return session is not None and services().conversations.knows_turns(session, scope_of(origin))
