"""A body validated by `CreateResponseSchema` → conversation, options and session to continue. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from blueprints.compat.conversation import Conversation, to_conversation
from blueprints.ignored import ignored_names
from blueprints.openai.content import Item, items_to_messages
from blueprints.openai.options import JSON_OBJECT, RESPONSE_NAMES, check_tools, fields_set, refused, to_format
from blueprints.openai.responses.ids import MESSAGE, REASONING, RESPONSE, Session, node_of, run_of, session_of
from blueprints.openai.responses.schemas import CreateResponseSchema
from blueprints.openai.run_request import RequestOptions
from services.access.scope import Scope
from services.clis.spec import BackendSpec
from services.errors import Conflict, NotFound, ResponseNotFound
from services.history import said
from services.models import Resolution
from services.runs.record import Run

IGNORED = ignored_names(CreateResponseSchema())
"""Fields that no CLI supports; reported in a header if sent."""

REFUSED = {
    "conversation": "conversations are not stored; continue a response with previous_response_id",
    "prompt": "prompt templates are stored at OpenAI; send their text as `instructions` and `input`",
}


def check_request(body: Mapping[str, Any], *, may_leave_out_tools: bool) -> list[str]:
    """The names of the ignored fields. Raises InvalidRequest for fields that must not be ignored."""
    for name in fields_set(body, REFUSED):
        raise refused(name, REFUSED[name])
    if body.get("background") and body.get("store") is False:
        raise refused("background", "a background response must be stored; omit `store`")
    left_out = check_tools(body, "tools", may_leave_out=may_leave_out_tools)
    names = [*left_out, *fields_set(body, IGNORED)]
    if (body.get("text") or {}).get("verbosity") is not None:
        names.append("text.verbosity")
    if body.get("truncation") == "auto":
        names.append("truncation")
    return names


FindRun = Callable[[str], Run | None]
"""Run id → the caller's run, if it is stored."""


def session_to_continue(secret: bytes, scope: Scope, body: Mapping[str, Any], find_run: FindRun) -> Session | None:
    """The session to continue. Raises ResponseNotFound or NotFound for a response or item without one, Conflict for one that has not ended.

    The Vercel AI SDK sends no ``previous_response_id`` but the whole conversation, with a reference for every item of an earlier
    response. The last reference's session contains the conversation up to there.
    """
    if response_id := body.get("previous_response_id"):
        return _session(secret, scope, response_id, find_run, "Previous response", "previous_response_id", RESPONSE)
    if (place := _last_reference(body["input"])) < 0:
        return None
    return _session(secret, scope, body["input"][place].id or "", find_run, "Item", f"input[{place}].id", MESSAGE, REASONING)


def _session(secret: bytes, scope: Scope, id: str, find_run: FindRun, what: str, field: str, *prefixes: str) -> Session:
    session = session_of(secret, scope, id, *prefixes)
    if session is None and (run_id := run_of(secret, scope, id, *prefixes)) and (run := find_run(run_id)):
        if run.ended_at is None:
            raise Conflict(f"{what} with id {id[:200]!r} is still in progress", field=field, issue="in progress")
        if run.backend and run.cli_session_id:
            session = Session(run.backend, run.cli_session_id, node_of(run.id).hex())
    if session is None:
        message = f"{what} with id {id[:200]!r} not found: not created by this server, deleted, or without a session to continue"
        raise ResponseNotFound(message) if RESPONSE in prefixes else NotFound(message, field=field)
    return session


def _last_reference(given: str | list[Item]) -> int:
    """Index of the last reference, or -1."""
    if isinstance(given, str):
        return -1
    return max((place for place, item in enumerate(given) if item.type == "item_reference"), default=-1)


def _new_items(given: str | list[Item]) -> str | list[Item]:
    """Items that the continued session lacks: those after the last reference, and system items, which no session stores."""
    place = _last_reference(given)
    if isinstance(given, str) or place < 0:
        return given
    return [item for index, item in enumerate(given) if index > place or item.role in ("system", "developer")]


def continue_on(session: Session, resolution: Resolution, model: str) -> Resolution:
    """The backend and model that continue ``session``. Raises InvalidRequest if the request names another backend explicitly."""
    if resolution.backend == session.backend:
        return resolution
    if resolution.is_fallback:
        return Resolution(session.backend, None, is_fallback=True)
    issue = f"the response to continue is from backend {session.backend!r}, but model {model!r} selects {resolution.backend!r}"
    raise refused("model", issue)


def to_response_conversation(body: Mapping[str, Any], spec: BackendSpec, *, continues_session: bool) -> Conversation:
    """The conversation. As at OpenAI, an earlier response's ``instructions`` are not carried over."""
    messages = items_to_messages(_new_items(body["input"]))
    if not any(message.text.strip() or any(message.images) or any(message.results) for message in messages):
        raise refused("input", "contains no text; send a text")
    if body.get("instructions"):
        messages.insert(0, said("system", body["instructions"]))
    also_system = JSON_OBJECT if to_format((body.get("text") or {}).get("format"), "text.format").is_json_object else ""
    return to_conversation(messages, spec, field="input", also_system=also_system, continues_session=continues_session)


def is_stored(body: Mapping[str, Any]) -> bool:
    """Like OpenAI, store by default."""
    return body.get("store") is not False


def keeps_session(body: Mapping[str, Any], spec: BackendSpec) -> bool:
    """A response of a CLI that cannot resume sessions is stored, but cannot be continued."""
    return is_stored(body) and spec.can_resume


def to_options(body: Mapping[str, Any], spec: BackendSpec) -> RequestOptions:
    return RequestOptions(
        format_field="text.format",
        text_field="input",
        schema=to_format((body.get("text") or {}).get("format"), "text.format").schema,
        effort=(body.get("reasoning") or {}).get("effort"),
        max_tokens=body.get("max_output_tokens"),
        keeps_session=keeps_session(body, spec),
    )


def names_of(options: tuple[str, ...]) -> list[str]:
    """The request's field names of our options."""
    return [RESPONSE_NAMES.get(option, option) for option in options]
