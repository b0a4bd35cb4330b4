"""Responses coming in: a validated body of `CreateResponseSchema` → what it asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blueprints.compat.conversation import Conversation, Turn, to_conversation
from blueprints.ignored import ignored_names
from blueprints.openai.content import Item, items_to_turns
from blueprints.openai.options import JSON_OBJECT, RESPONSE_NAMES, asked_for, check_tools, refused, to_format
from blueprints.openai.responses.ids import MESSAGE, REASONING, RESPONSE, Session, session_of
from blueprints.openai.responses.schemas import CreateResponseSchema
from blueprints.openai.run_request import Asked
from services.clis.spec import BackendSpec
from services.errors import NotFound
from services.models import Resolution

IGNORED = ignored_names(CreateResponseSchema())
"""Fields that no CLI has a setting for; named in a header when they are sent."""

REFUSED = {
    "background": "runs are not kept; leave it out, and stream the answer instead",
    "conversation": "conversations are not kept here; continue a response with previous_response_id",
    "prompt": "prompt templates are stored at OpenAI; send their text as `instructions` and `input`",
}


def check_request(body: Mapping[str, Any], *, may_leave_out_tools: bool) -> list[str]:
    """The names of what is left out. Raises InvalidRequest for what would make another answer than the one asked for."""
    for name in asked_for(body, REFUSED):
        raise refused(name, REFUSED[name])
    left_out = check_tools(body, "tools", may_leave_out=may_leave_out_tools)
    names = [*left_out, *asked_for(body, IGNORED)]
    if (body.get("text") or {}).get("verbosity") is not None:
        names.append("text.verbosity")
    if body.get("truncation") == "auto":
        names.append("truncation")
    return names


def asked_response(secret: bytes, body: Mapping[str, Any]) -> Session | None:
    """The session that is to be continued. Raises NotFound for a response, or an item, that left none.

    The Vercel AI SDK sends no ``previous_response_id`` but all that was said, with a reference in the place of every item of an
    earlier answer. The session that the last of them left knows all that was said up to there.
    """
    if response_id := body.get("previous_response_id"):
        return _session(secret, response_id, "Previous response", "previous_response_id", RESPONSE)
    place = _last_reference(body["input"])
    return _session(secret, body["input"][place].id or "", "Item", f"input[{place}].id", MESSAGE, REASONING) if place >= 0 else None


def _session(secret: bytes, given: str, what: str, field: str, *prefixes: str) -> Session:
    session = session_of(secret, given, *prefixes)
    if session is None:
        message = f"{what} with id {given[:200]!r} not found: it is none of this server's, or it kept nothing (store: false)"
        raise NotFound(message, field=field)
    return session


def _last_reference(given: str | list[Item]) -> int:
    """-1: there is none."""
    if isinstance(given, str):
        return -1
    return max((place for place, item in enumerate(given) if item.type == "item_reference"), default=-1)


def _new_items(given: str | list[Item]) -> str | list[Item]:
    """What the continued session does not know: the items after the last reference, and the system's, which no session keeps."""
    place = _last_reference(given)
    if isinstance(given, str) or place < 0:
        return given
    return [item for index, item in enumerate(given) if index > place or item.role in ("system", "developer")]


def continue_on(session: Session, resolution: Resolution, model: str) -> Resolution:
    """Who answers when ``session`` is continued. Raises InvalidRequest where another backend was asked for in so many words."""
    if resolution.backend == session.backend:
        return resolution
    if resolution.is_fallback:
        return Resolution(session.backend, None, is_fallback=True)
    issue = f"the answer to continue is a session of {session.backend!r}, but model {model!r} means {resolution.backend!r}"
    raise refused("model", issue)


def to_response_conversation(body: Mapping[str, Any], spec: BackendSpec, *, continues_session: bool) -> Conversation:
    """What is said to the CLI. ``instructions`` are never carried over from an earlier response, as at OpenAI."""
    turns = items_to_turns(_new_items(body["input"]))
    if not any(turn.text.strip() or turn.images for turn in turns):
        raise refused("input", "there is nothing to answer; send a text")
    if body.get("instructions"):
        turns.insert(0, Turn("system", body["instructions"]))
    if to_format((body.get("text") or {}).get("format"), "text.format").is_json_object:
        turns.append(Turn("system", JSON_OBJECT))
    return to_conversation(turns, has_system_option=spec.honours("system_prompt"), continues_session=continues_session)


def keeps_session(body: Mapping[str, Any], spec: BackendSpec) -> bool:
    """OpenAI stores unless told not to. Where the CLI cannot continue a session, there is no use in keeping one."""
    return body.get("store") is not False and spec.can_resume


def to_asked(body: Mapping[str, Any], spec: BackendSpec) -> Asked:
    return Asked(
        format_field="text.format",
        text_field="input",
        schema=to_format((body.get("text") or {}).get("format"), "text.format").schema,
        effort=(body.get("reasoning") or {}).get("effort"),
        max_tokens=body.get("max_output_tokens"),
        keeps_session=keeps_session(body, spec),
    )


def names_of(options: tuple[str, ...]) -> list[str]:
    """Our options under the names that this surface's callers know them by."""
    return [RESPONSE_NAMES.get(option, option) for option in options]
