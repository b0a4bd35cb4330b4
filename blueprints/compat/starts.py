"""How a run of a compatible surface starts: as a session's next turn, from a repeated conversation, or from a response."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from blueprints.compat.context import session_header
from blueprints.compat.structured import is_json, json_answer
from blueprints.context import services
from services.cancellation import Cancellation
from services.errors import Conflict, InvalidRequest, NotFound
from services.events import Finished
from services.fold import EventStream
from services.requests import RunRequest
from services.sessions.transcript import Turn

Start = Callable[[RunRequest, Cancellation], EventStream]


def start_session_turn(run_request: RunRequest, cancellation: Cancellation) -> EventStream:
    """Run the next turn of the session that the request names, or a standalone run if it names none."""
    return services().conversations.stream(run_request, _own_session(run_request.resume), cancellation)


def continue_conversation(turns: Sequence[Turn]) -> Start:
    """For clients that resend the whole conversation: resume the CLI session that holds its earlier turns, if there is one."""

    def start(run_request: RunRequest, cancellation: Cancellation) -> EventStream:
        def answer_of(end: Finished, text: str) -> str:
            return json_answer(end.structured_output, text) if is_json(run_request) else text

        if run_request.resume is not None:
            return start_session_turn(run_request, cancellation)
        return services().continuation.stream(run_request, turns, answer_of, cancellation)

    return start


def start_from_response(node: str | None) -> Start:
    """Resume the session of the response ``node``. In a session of ours the run is its next turn, once."""

    def start(run_request: RunRequest, cancellation: Cancellation) -> EventStream:
        own = _own_session(run_request.resume)
        if own is None:
            return services().responses.stream(run_request, node, cancellation)
        if node is None or own.startswith(session_header() or " "):
            return start_session_turn(run_request, cancellation)
        if run_request.ephemeral:
            raise InvalidRequest("store: session turns are always stored; omit it", field="store", issue="must not be false")
        return services().responses.one_turn(own, node, lambda: start_session_turn(run_request, cancellation))

    return start


def _own_session(resumed: str | None) -> str | None:
    """The session of ours to continue, named by the header or by the id of a response that was one of its turns."""
    if resumed is None or resumed == session_header():
        return resumed
    try:
        found = services().conversations.store.get(resumed)
    except (NotFound, Conflict):
        return None
    return found.id if found.id == resumed else None
