"""`clinvk sessions …` and `clinvk backends`: what the server knows, as a table or as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from app.cli.client.connect import OK, connected
from app.cli.client.screen import costs, note, printable, say_json, say_line

CELL_CHARS = 60
FILTERS = ("backend", "status", "tag", "workdir", "q", "limit", "offset", "cursor")


def run_backends(args: argparse.Namespace) -> int:
    with connected(args) as remote:
        answer = remote.ask("GET", "/api/v1/backends")
    if args.json:
        say_json(answer)
        return OK
    rows = []
    for item in answer["backends"]:
        state = item["version"] or "available" if item["available"] else f"not available: {item['reason']}"
        rows.append((item["name"] + ("*" if item["is_default"] else ""), item["default_model"] or "", state))
    say_table(("BACKEND", "MODEL", "STATE"), rows)
    return OK


def run_list(args: argparse.Namespace) -> int:
    with connected(args) as remote:
        answer = remote.ask("GET", "/api/v1/sessions", query={name: getattr(args, name) for name in FILTERS})
    if args.json:
        say_json(answer)
        return OK
    rows = [
        [str(item.get(name) or "") for name in ("id", "backend", "status", "updated_at", "title")] for item in answer.get("sessions", [])
    ]
    say_table(("SESSION", "BACKEND", "STATUS", "UPDATED", "TITLE"), rows)
    if answer.get("next_cursor"):
        note(f"more with --cursor {answer['next_cursor']}")
    return OK


def run_show(args: argparse.Namespace) -> int:
    path = _path(args.id)
    with connected(args) as remote:
        session = remote.ask("GET", path)
        turns = remote.ask("GET", f"{path}/turns")
    if args.json:
        say_json({**session, "turns": turns.get("turns", [])})
        return OK
    for name, value in session.items():
        if value not in (None, "", [], {}) and name != "meta":
            say_line(f"{name}: {printable(str(value))}")
    for number, turn in enumerate(turns.get("turns", []), 1):
        say_line(f"\n== turn {number}{f' ({costs(turn)})' if costs(turn) else ''}")
        say_line("".join(f"> {line}\n" for line in str(turn.get("prompt") or "").split("\n")))
        say_line(str(turn.get("output") or turn.get("error") or "(no output)"))
    return OK


def run_delete(args: argparse.Namespace) -> int:
    with connected(args) as remote:
        for session in args.id:
            answer = remote.ask("DELETE", _path(session))
            if args.json:
                say_json(answer)
            else:
                note(f"deleted {session}")
    return OK


def _path(session: str) -> str:
    return f"/api/v1/sessions/{quote(session, safe='')}"


def say_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    cells = [[printable(str(cell))[:CELL_CHARS] for cell in row[:-1]] + [printable(str(row[-1]))] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        say_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
