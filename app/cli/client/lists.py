"""`clinvk sessions …` and `clinvk backends`: what the server knows, as a table or as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from app.cli.client.connect import OK, connected
from app.cli.client.remote import Remote
from app.cli.client.screen import costs, note, printable, say_json, say_line
from services.access.rights import LOCAL

CELL_CHARS = 60
SHOWN = (
    "id",
    "owner",
    "title",
    "backend",
    "model",
    "workdir",
    "status",
    "error",
    "tags",
    "metadata",
    "options",
    "parent_id",
    "created_at",
    "updated_at",
)
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
        rows.append((item["name"] + (" (default)" if item["is_default"] else ""), item["default_model"] or "", state))
    say_table(("BACKEND", "MODEL", "STATE"), rows)
    return OK


def run_list(args: argparse.Namespace) -> int:
    with connected(args) as remote:
        answer = remote.ask("GET", "/api/v1/sessions", query={name: getattr(args, name) for name in FILTERS})
    if args.json:
        say_json(answer)
        return OK
    rows = [[item[name] or "" for name in ("id", "backend", "status", "updated_at", "title")] for item in answer["sessions"]]
    say_owned(("SESSION", "BACKEND", "STATUS", "UPDATED", "TITLE"), rows, answer["sessions"])
    if answer["next_cursor"]:
        note(f"more with --cursor {answer['next_cursor']}")
    return OK


def run_show(args: argparse.Namespace) -> int:
    with connected(args) as remote:
        session = remote.ask("GET", _path(args.id))
        turns = list(_turns(remote, f"{_path(session['id'])}/turns"))
    if args.json:
        say_json({**session, "turns": turns})
        return OK
    for name in SHOWN:
        if session.get(name):
            say_line(f"{name.replace('_', ' ')}: {printable(plain(session[name]))}")
    say_line(f"used: {costs(session)}")
    for turn in turns:
        summary = ", ".join(part for part in (turn["model"], turn["status"], costs(turn)) if part)
        say_line("\n" + printable(f"== turn {turn['number']} ({summary})"))
        say_line("".join(f"> {line}\n" for line in turn["prompt"].split("\n")))
        say_line(turn["output"] or turn["error"] or "(no output)")
    return OK


def _turns(remote: Remote, path: str) -> Iterator[dict[str, Any]]:
    after: int | None = 0
    while after is not None:
        page = remote.ask("GET", path, query={"after": after})
        yield from page["turns"]
        after = page["next_after"]


def plain(value: Any) -> str:
    match value:
        case list():
            return ", ".join(map(str, value))
        case dict():
            return ", ".join(f"{key}={item}" for key, item in value.items())
    return str(value)


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


def say_owned(head: Sequence[str], rows: Sequence[Sequence[Any]], items: Sequence[Mapping[str, Any]]) -> None:
    """A table whose second column is the owner of each item, where the server tells an admin of others than `LOCAL`."""
    owners = [item.get("owner") or "" for item in items]
    if set(owners) <= {"", LOCAL}:
        say_table(head, rows)
    else:
        say_table([head[0], "OWNER", *head[1:]], [[row[0], owner, *row[1:]] for row, owner in zip(rows, owners, strict=True)])


def say_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    cells = [[printable(str(cell))[:CELL_CHARS] for cell in row[:-1]] + [printable(str(row[-1]))] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        say_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
