"""What must be true at the end: of every run, and of what the server holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.durable.lives import Lives
from tests.durable.reader import Reader
from tests.durable.scripts import SCRIPTS
from tests.durable.ways import ENDED, RUNS, Entry
from tests.parts.client import Client
from tests.parts.processes import command_line, eventually

Listed = dict[str, dict[str, Any]]
"""All runs, by id."""

READERS = 8
END_S = 60.0
PAGE = 200
STATUS_OF = {"done": "completed", "result": "completed"}
COUNTS = {
    "runs": "SELECT count(*) FROM runs",
    "queued, running or held": "SELECT count(*) FROM runs WHERE worker IS NOT NULL OR ended_at IS NULL",
    "chunks of events": "SELECT count(*) FROM run_events",
    "chunks of deleted runs": "SELECT count(*) FROM run_events WHERE run_id NOT IN (SELECT id FROM runs)",
    "webhooks": "SELECT count(*) FROM webhook_deliveries",
    "leases": "SELECT count(*) FROM owners",
    "running sessions": "SELECT count(*) FROM sessions WHERE status = 'running'",
}
EMPTY = ("queued, running or held", "chunks of deleted runs", "webhooks", "running sessions")
"""What no row may be left of."""


@dataclass(slots=True)
class Audit:
    """What was found. ``ends``: (way, status or error code) → runs."""

    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    events: int = 0
    readers: int = 0
    connections: int = 0
    """Of the readers."""
    restarted: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    """Of the database's files."""


def audit(lives: Lives, entries: Sequence[Entry], starts: Path, database_url: str) -> Audit:
    """Look at every run of a server that nobody asks for anything any more."""
    found = Audit()
    client = lives.client
    if not eventually(lambda: not unfinished(client), END_S):
        found.wrong.append(f"not over after {END_S} s: {unfinished(client)}")
    listed = {run["id"]: run for run in all_runs(client)}
    started = Counter(starts.read_text().split())
    with ThreadPoolExecutor(READERS) as pool:
        for problems in pool.map(lambda entry: list(_of_entry(client, entry, listed, started, found)), entries):
            found.wrong += problems
    known = {id for entry in entries for id in (entry.id, *entry.others)}
    lost = {entry.ask.token for entry in entries if entry.is_unknown}
    for id in listed.keys() - known:
        token = listed[id]["metadata"].get("token")
        if token not in lost and listed[id]["kind"] != "resume":
            found.wrong.append(f"nobody asked for run {id} of {token}")
    found.wrong += [f"no run has {token}, which was started" for token in started.keys() - {t for entry in entries for t in entry.tokens}]
    found.readers = sum(len(entry.readers) for entry in entries)
    found.connections = sum(reader.connections for entry in entries for reader in entry.readers)
    found.rows = rows(database_url)
    found.wrong += [f"{found.rows[name]} rows: {name}" for name in EMPTY if found.rows[name]]
    found.bytes = sum(path.stat().st_size for path in lives.home.glob("sessions.db*"))
    found.wrong += left_over(lives)
    return found


def _of_entry(client: Client, entry: Entry, listed: Listed, started: Counter[str], found: Audit) -> Iterator[str]:
    """What is wrong with one run, in words. Counts it."""
    name = f"{entry.ask} {entry.id}"
    if entry.is_unknown:
        same = [run["id"] for run in listed.values() if run["metadata"].get("token") == entry.ask.token]
        if len(same) > 1:
            yield f"{name}: one request has made {len(same)} runs"
        if not same:
            found.ends[entry.ask.way, "never arrived"] += 1
            yield from _starts(name, entry, started, most=0)
            return
        entry.id = same[0]
    if entry.is_deleted:
        found.ends[entry.ask.way, "deleted"] += 1
        if entry.id in listed or client.get(f"{RUNS}/{entry.id}/events").status != 404:
            yield f"{name}: deleted, and still there"
        yield from _starts(name, entry, started, most=1)
    elif entry.id in listed:
        yield from _of_run(client, name, entry, started, found)
    elif entry.id:  # else its client has said what is wrong
        yield f"{name}: was accepted, and is not listed"


def _of_run(client: Client, name: str, entry: Entry, started: Counter[str], found: Audit) -> Iterator[str]:
    run = client.get(f"{RUNS}/{entry.id}").json
    late = Reader(f"late reader of {name}")
    with client.open("GET", f"{RUNS}/{entry.id}/events") as stream:
        try:
            late.read(stream)
        except AssertionError as error:
            yield str(error)
            return
    code = run["error"]["code"] if run["error"] else run["status"]
    restarts = sum(json.loads(frame.partition(b"data: ")[2])["type"] == "restarted" for frame in late.frames)
    found.ends[entry.ask.way, code] += 1
    found.events += late.last
    found.restarted += restarts
    for number, reader in enumerate(entry.readers):
        if reader.frames != late.frames:
            yield f"reader {number} of {name}: {reader.last} events, not the {late.last} that the log has, or others"
    yield from _end(name, entry, run, late)
    if restarts != run["attempt"] - 1 or (restarts and entry.ask.way != "retried"):
        yield f"{name}: attempt {run['attempt']} and {restarts} events `restarted`"
    yield from _starts(name, entry, started, most=run["attempt"], least=code not in ("cancelled", "worker_lost"))


def _end(name: str, entry: Entry, run: dict[str, Any], late: Reader) -> Iterator[str]:
    """Whether the run, its last event and the answer of its request say the same."""
    assert late.terminal
    type, code = late.terminal["type"], (late.terminal["content"] or {}).get("code")
    expected = STATUS_OF.get(type) or ("cancelled" if code == "cancelled" else "failed")
    if run["status"] != expected or (run["error"] or {}).get("code") != code:
        yield f"{name}: status {run['status']}, error {run['error']}, last event {late.terminal}"
    if run["status"] == "failed" and code != "worker_lost" and entry.ask.script != "fails":
        yield f"{name}: failed: {run['error']}"
    if run["status"] == "cancelled" and entry.ask.way != "cancelled":
        yield f"{name}: nobody has cancelled it"
    if run["status"] == "completed":
        if entry.ask.script == "fails" and entry.ask.way != "parallel":
            yield f"{name}: completed"
        results = run["result"]["results"] if entry.ask.way == "parallel" else [run["result"]]
        for token, result in zip(entry.tokens, results, strict=True):
            output = _output(entry, token)
            if output is not None and result["output"] != output:
                yield f"{name}: answered {result['output'][-300:]!r}"
    if entry.answer and entry.answer.status == 200 and entry.answer.json != run["result"]:
        yield f"{name}: the answer {entry.answer.body[-300:]!r} is not the result {run['result']}"


def _output(entry: Entry, token: str) -> str | None:
    """The text that the CLI has printed, if it ends well."""
    if entry.ask.script is None:
        return f"{token}\n"
    output = SCRIPTS[entry.ask.script].output
    return output(token) if output else None


def _starts(name: str, entry: Entry, started: Counter[str], *, most: int, least: int = 0) -> Iterator[str]:
    for token in entry.tokens:
        if not least <= started[token] <= most:
            yield f"{name}: its CLI was started {started[token]} times, not {least} to {most}"


def unfinished(client: Client) -> list[str]:
    return [
        f"{run['id']} {run['status']}"
        for status in ("queued", "running", "waiting")
        for run in client.get(f"{RUNS}?status={status}&limit={PAGE}").json["runs"]
    ]


def all_runs(client: Client) -> Iterator[dict[str, Any]]:
    """Every run, page by page."""
    cursor: str | None = ""
    while cursor is not None:
        page = client.get(f"{RUNS}?limit={PAGE}{f'&cursor={cursor}' if cursor else ''}").json
        assert all(run["status"] in ENDED for run in page["runs"])
        yield from page["runs"]
        cursor = page["next_cursor"]


def rows(database_url: str) -> dict[str, int]:
    with create_engine(database_url, poolclass=NullPool).connect() as connection:
        return {name: connection.execute(text(query)).scalar_one() for name, query in COUNTS.items()}


def left_over(lives: Lives) -> Iterator[str]:
    """Processes of runs, and sockets of dead workers."""
    server = lives.server
    eventually(lambda: not server.runs(), 10.0)
    yield from (f"process {pid}: {command_line(pid)}" for pid in server.runs())
    sockets = {path.name.rpartition("-")[2] for path in (lives.home / "workers").iterdir()}
    yield from (f"socket {name} of no worker" for name in sockets - {f"{pid}.sock" for pid in server.workers()})
