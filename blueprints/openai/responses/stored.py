"""A stored run → its response as it is now, and the events of an end that no CLI has made. Pure.

What was sent decides: the response of the last event of a run that has ended, and else that of the first event in its log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from blueprints.openai.errors import SERVER_ERROR, to_error
from blueprints.openai.responses.answer import to_facts, to_state
from blueprints.openai.responses.ids import RESPONSE, new_id, node_of
from blueprints.openai.responses.stream import error_fields, event
from services.runs.record import Chunk, Run, RunError, RunStatus

DATA = b"data: "
FRAME_END = b"\n\n"

STATUSES: Mapping[RunStatus, str] = {"queued": "queued", "running": "in_progress", "waiting": "in_progress"}
"""OpenAI's, of a run that has not ended."""

Response = dict[str, Any]


def to_current(run: Run, begun: Chunk | None, secret: bytes) -> Response:
    """``begun``: the beginning of the run's log, which is not needed if it has ended. The output is there when the run has ended."""
    if run.terminal:
        return _response(run.terminal.data.rstrip(b"\n").rpartition(FRAME_END)[2])
    return {**_first(run, begun, secret), "status": STATUSES[run.status]}


def to_terminal(run: Run, number: int, error: RunError, secret: bytes) -> Chunk:
    """The last events, the first of them with ``number``. Their form is that of `ResponseEncoder`."""
    is_cancelled = error.code == "cancelled"
    is_asked_for = is_cancelled and run.is_background
    first = _first(run, run.begun, secret)
    last = {
        **first,
        "status": "cancelled" if is_cancelled else "failed",
        "error": None if is_asked_for else {"code": SERVER_ERROR, "message": error.message},
    }
    events: list[tuple[str, dict[str, Any]]] = [("response.failed", {"response": last})]
    if not is_asked_for:
        events.insert(0, ("error", error_fields(to_error(error.code, error.message, {})["error"])))
    if run.begun is None:
        events.insert(0, ("response.created", {"response": first}))
    return Chunk(number, len(events), b"".join(event(type, number + place, **fields) for place, (type, fields) in enumerate(events)))


def _first(run: Run, begun: Chunk | None, secret: bytes) -> Response:
    """As it was created. Where nothing was sent, nobody knows an id of it yet, nor what it repeats of its request."""
    if begun:
        return _response(begun.data.partition(FRAME_END)[0])
    facts = to_facts(
        {"model": run.model or run.backend, "metadata": run.metadata},
        is_stored=True,
        is_background=run.is_background,
        created_at=run.created_at // 1_000_000,
    )
    return to_state(facts, new_id(secret, RESPONSE, "", None, node_of(run.id), owner=run.owner), "in_progress", [])


def _response(frame: bytes) -> Response:
    """Of an event whose data is its last line."""
    found: Response = orjson.loads(frame.rpartition(b"\n")[2].removeprefix(DATA))["response"]
    return found
