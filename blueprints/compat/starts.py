"""How a run of a compatible surface starts: as a session's next turn, from a repeated conversation, or from a response."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from blueprints.compat.context import session_header
from blueprints.compat.structured import is_json, json_answer
from blueprints.context import services
from blueprints.runs.plan import Origin, scope_of
from services.cancellation import Cancellation
from services.errors import Conflict, InvalidRequest, NotFound
from services.events import Finished
from services.fold import EventStream
from services.requests import RunRequest

Start = Callable[[RunRequest, Cancellation], EventStream]


def start_session_turn(run_request: RunRequest, origin: Origin, cancellation: Cancellation) -> EventStream:
    """Run the next turn of the session that the request names, or a standalone run if it names none."""
    return services().conversations.stream(run_request, run_request.resume, scope_of(origin), cancellation)


def continue_conversation(origin: Origin) -> Start:
    """For clients that resend the whole conversation: resume the CLI session that holds its earlier messages, if there is one."""

    def start(run_request: RunRequest, cancellation: Cancellation) -> EventStream:
        def answer_of(end: Finished, text: str) -> str:
            return json_answer(end.structured_output, text) if is_json(run_request) else text

        if run_request.resume is not None:
            return start_session_turn(run_request, origin, cancellation)
        return services().continuation.stream(run_request, answer_of, cancellation)

    return start


def start_from_response(node: str | None, origin: Origin) -> Start:
    """Resume the session of the response ``node``. In a session of ours the run is its next turn, once."""

    def start(run_request: RunRequest, cancellation: Cancellation) -> EventStream:
        own = own_session(run_request.resume, origin)
        if own is None:
            return services().responses.stream(run_request, node, cancellation)
        turn = replace(run_request, resume=own)
        if node is None or _is_named(own, origin):
            return start_session_turn(turn, origin, cancellation)
        if run_request.ephemeral:
            raise InvalidRequest("store: session turns are always stored; omit it", field="store", issue="must not be false")
        return services().responses.one_turn(own, node, lambda: start_session_turn(turn, origin, cancellation))

    return start


def check_from_response(run_request: RunRequest, node: str | None, origin: Origin) -> None:
    """Raise what the start of `start_from_response` would raise now, but for the slot."""
    own, responses, conversations = own_session(run_request.resume, origin), services().responses, services().conversations
    if own is None:
        responses.check(run_request, node)
    else:
        if node is not None and not _is_named(own, origin):
            responses.check_turn(own, node)
        session = conversations.store.get(own, scope_of(origin))
        run_request = conversations.prepare_resume(session, replace(run_request, resume=None, ephemeral=False))
    services().runner.check(run_request)


def _is_named(session_id: str, origin: Origin) -> bool:
    return session_id.startswith(session_header(origin) or " ")


def own_session(resumed: str | None, origin: Origin) -> str | None:
    """The session of ours to continue, named by the header or by the id of a response that was one of its turns."""
    if resumed is None or resumed == session_header(origin):
        return resumed
    try:
        found = services().conversations.store.get(resumed, scope_of(origin))
    except (NotFound, Conflict):
        return None
    return found.id if found.id == resumed else None
