"""The parts of a parallel, chain or compare: their progress while they go, their results at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from app.cli.client.connect import FAILED, OK
from app.cli.client.events import restart_line
from app.cli.client.screen import Progress, costs, note, printable, say_json, say_line

MEMBERS = {"parallel": "task", "compare": "task", "chain": "step"}
"""What the events and results call the index of a part, by kind of run."""


def show_progress(events: Iterable[dict[str, Any]], kind: str, total: int | None, *, as_lines: bool) -> dict[str, Any] | None:
    """Show how many parts are done. Returns the terminal event (`result`, or `error` of the whole); None if there is none.

    ``total``: how many parts there are, if that is known.
    """
    member, states = MEMBERS[kind], dict[int, str]()
    progress = Progress()
    try:
        for event in events:
            if as_lines:
                say_json(event, is_line=True)
            if member in event:
                states[event[member]] = event["type"] if event["type"] in ("done", "error") else "running"
                progress.show(progress_line(Counter(states.values()), total))
            elif event["type"] == "restarted":
                states.clear()
                progress.note(restart_line(event["content"]["attempt"]))
            else:
                return event
        return None
    finally:
        progress.close()


def progress_line(counts: Counter[str], total: int | None) -> str:
    """``counts``: parts that have begun, by state."""
    done = f"{counts['done']} done" if total is None else f"{counts['done']} of {total} done"
    shown = {"running": counts["running"], "waiting": (total or counts.total()) - counts.total(), "failed": counts["error"]}
    return ", ".join([done, *(f"{count} {state}" for state, count in shown.items() if count)])


def show_results(answer: dict[str, Any], kind: str, *, as_json: bool) -> None:
    """Of a chain only the last output is on standard output."""
    if as_json:
        say_json(answer)
    elif kind == "chain":
        _show_last(answer["results"])
    else:
        _show_all(answer["results"], MEMBERS[kind])


def _show_all(results: list[dict[str, Any]], member: str) -> None:
    for part in results:
        say_line(heading(part, member))
        say_line(part["output"] or "(no output)")
        say_line("")


def _show_last(results: list[dict[str, Any]]) -> None:
    for part in results:
        note(heading(part, "step"))
    if outputs := [part["output"] for part in results if part["output"]]:
        say_line(outputs[-1])


def heading(part: dict[str, Any], member: str) -> str:
    name = f" {part['name']}" if part.get("name") else ""
    model = f" {part['model']}" if part.get("model") else ""
    why = f": {part['error']}" if part.get("error") else ""
    cost = f" ({costs(part)})" if costs(part) else ""
    return printable(f"== {member} {part[member]}{name} -- {part['backend']}{model} -- {part['status']}{cost}{why}")


def verdict(answer: dict[str, Any]) -> int:
    """The exit code."""
    return OK if all(part["status"] == "completed" for part in answer["results"]) else FAILED
