"""`clinvk runs list`, `show`, `cancel` and `delete`."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Any

from app.cli.client.connect import OK, connected
from app.cli.client.lists import CELL_CHARS, plain, say_owned
from app.cli.client.outcome import show_output
from app.cli.client.run_ids import PATH, ask_run, run_path
from app.cli.client.screen import duration, note, printable, say_json, say_line
from services.runs.record import ENDED

FILTERS = ("status", "kind", "session_id", "limit", "cursor")
HEAD = ("RUN", "STATUS", "KIND", "BACKEND", "STARTED", "TIME", "LAST TOOL", "TITLE")
SHOWN = (
    "id",
    "owner",
    "kind",
    "status",
    "position",
    "error",
    "title",
    "tags",
    "metadata",
    "backend",
    "model",
    "session_id",
    "priority",
    "attempt",
    "last_tool",
    "created_at",
    "started_at",
    "ended_at",
)


def run_list(args: argparse.Namespace) -> int:
    with connected(args, may_start=False) as remote:
        answer = remote.ask("GET", PATH, query={name: getattr(args, name) for name in FILTERS})
    if args.json:
        say_json(answer)
        return OK
    say_owned(HEAD, [to_row(run, answer["meta"]["timestamp"]) for run in answer["runs"]], answer["runs"])
    if answer["next_cursor"]:
        note(f"more with --cursor {answer['next_cursor']}")
    return OK


def to_row(run: dict[str, Any], now: str) -> tuple[str, ...]:
    """The cells of `HEAD`. ``now``: the server's time."""
    place = f" (place {run['position']})" if run["position"] else ""
    title = run["title"] or (run["result"] or {}).get("prompt") or ""
    cells = (run["id"], run["status"] + place, run["kind"], run["backend"], run["started_at"], time_of(run, now), run["last_tool"])
    return (*(cell or "" for cell in cells), title[:CELL_CHARS])


def time_of(run: dict[str, Any], now: str) -> str:
    """How long the run took, or has taken so far; empty if it has not started."""
    if not run["started_at"]:
        return ""
    begin, end = (datetime.fromisoformat(time) for time in (run["started_at"], run["ended_at"] or now))
    return duration((end - begin).total_seconds())


def run_show(args: argparse.Namespace) -> int:
    with connected(args, may_start=False) as remote:
        run = ask_run(remote, "GET", run_path(remote, args.id))
    if args.json:
        say_json(run)
        return OK
    for name in SHOWN:
        if run.get(name):
            say_line(f"{name.replace('_', ' ')}: {printable(plain(run[name]))}")
    if time := time_of(run, run["meta"]["timestamp"]):
        say_line(f"time: {time}")
    if run["result"]:
        say_line("")
        show_output(run)
    return OK


def run_cancel(args: argparse.Namespace) -> int:
    with connected(args, may_start=False) as remote:
        for id in args.id:
            run = ask_run(remote, "POST", f"{run_path(remote, id)}/cancel")
            if args.json:
                say_json(run)
            else:
                note(f"{run['id']} {told_of(run['status'])}")
    return OK


def told_of(status: str) -> str:
    """What a cancellation came to."""
    if status == "cancelled":
        return "is cancelled"
    return f"has ended before: {status}" if status in ENDED else "is being stopped"


def run_delete(args: argparse.Namespace) -> int:
    with connected(args, may_start=False) as remote:
        for id in args.id:
            path = run_path(remote, id)
            ask_run(remote, "DELETE", path)
            note(f"deleted {path.rpartition('/')[2]}")
    return OK
