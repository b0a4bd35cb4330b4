"""Which run a command means: its id, or the beginning of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from app.cli.client.connect import Usage
from app.cli.client.remote import Refused, Remote
from services.runs.record import ID_BYTES, ID_PREFIX

WHOLE = re.compile(rf"{ID_PREFIX}[0-9a-f]{{{2 * ID_BYTES}}}")
PATH = "/api/v1/runs"
PAGE_RUNS, PAGES_LIMIT = 200, 50
"""How far the list of runs is searched for the beginning of an id."""
NAMED_LIMIT = 5
"""How many runs are named that begin alike."""


def run_path(remote: Remote, id: str) -> str:
    """The path of one's own run with this id or beginning. Raises Usage if the beginning is none's, or several's."""
    if WHOLE.fullmatch(id):
        return f"{PATH}/{id}"
    found = [run["id"] for run in list_runs(remote) if run["id"].startswith((id, ID_PREFIX + id))] if id else []
    if len(found) == 1:
        return f"{PATH}/{found[0]}"
    if not found:
        raise Usage(f"none of your runs begins with {id!r}; `clinvk runs list` shows them")
    named = ", ".join(found[:NAMED_LIMIT]) + (", …" if len(found) > NAMED_LIMIT else "")
    raise Usage(f"{len(found)} of your runs begin with {id!r}: {named}; write more of the id")


def list_runs(remote: Remote) -> Iterator[dict[str, Any]]:
    """The latest first."""
    cursor = None
    for _ in range(PAGES_LIMIT):
        page = remote.ask("GET", PATH, query={"limit": PAGE_RUNS, "cursor": cursor})
        yield from page["runs"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def ask_run(remote: Remote, method: str, path: str, **query: Any) -> Any:
    """As `Remote.ask`. An unknown run is refused with a hint."""
    try:
        return remote.ask(method, path, query=query)
    except Refused as refused:
        if refused.status == 404:
            refused.hint = "`clinvk runs list` shows your runs"
        raise
