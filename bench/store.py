"""The session store at 100,000 and 1,000,000 sessions, on SQLite and PostgreSQL, beside a folder of one JSON file a session.

    python -m bench.store [--sessions 100000] [--grow-to 1000000] [--rounds 15]

Prints Markdown: the fastest call and the median of every operation in milliseconds, interleaved over the stores, and how many
times the folder's median is theirs. PostgreSQL is started as the tests start it; without it, its columns are left out.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from time import perf_counter

import sqlalchemy

from bench.store_data import COMMON, OWNERS, RARE, VOCABULARY, Folder, conversations, load_all
from services.access.scope import EVERYONE, Scope
from services.errors import NotFound
from services.store.db import to_url
from services.store.records import Filter, NewTurn, Session, TurnEnd
from services.store.sessions import SessionStore, new_id
from tests.parts.postgres import running_postgres

ONE = Scope(OWNERS[1])

Operations = dict[str, Callable[[], object]]


def store_operations(store: SessionStore, size: int) -> Operations:
    dice = random.Random(1)
    some = [session.id for session, _, _ in conversations(range(0, size, size // 200))]
    deep = store.list(Filter(), EVERYONE, limit=1, offset=size * 9 // 10).next_cursor
    deep_tag = store.list(Filter(tag="all"), EVERYONE, limit=1, offset=size * 9 // 10).next_cursor
    made: list[Session] = []

    def run_turn() -> None:
        new = Session(id=new_id(), owner="key-1", backend="claude", workdir="/work", tags=("all",))
        turn = store.begin(new, NewTurn(prompt=f"{COMMON} do it"))
        store.end_turn(turn, TurnEnd(status="finished", output=f"{COMMON} it is done", duration_ms=1))
        made.append(new)

    def miss() -> None:
        with suppress(NotFound):
            store.get("ffffffff-ffff", EVERYONE)

    def missing_for(scope: Scope) -> None:
        with suppress(NotFound):
            store.get("f", scope)

    def listing(scope: Scope = EVERYONE, offset: int = 0, cursor: str | None = None, **wanted: str) -> Callable[[], object]:
        return lambda: store.list(Filter(**wanted), scope, offset=offset, cursor=cursor)  # type: ignore[arg-type]

    return {
        "list, first page": listing(),
        "list, page at 90 % (cursor)": listing(cursor=deep),
        "list, page at 90 % (offset)": listing(offset=size * 9 // 10),
        "filter: backend of 5 %": listing(backend="gemini"),
        "filter: status of 5 %": listing(status="failed"),
        "filter: workdir of 0.5 %": listing(workdir="/projects/7"),
        "filter: tag of all": listing(tag="all"),
        "filter: tag of all, page at 90 % (cursor)": listing(tag="all", cursor=deep_tag),
        "filter: tag of 0.1 %": listing(tag="rare"),
        "filter: tag of 10 % and backend of 5 %": listing(tag="red", backend="gemini"),
        "search: a word of all": listing(q=COMMON),
        "search: a word of 0.01 %": listing(q=RARE),
        "search: two words, together in few": lambda: store.list(Filter(q=" ".join(dice.sample(VOCABULARY, 2))), EVERYONE),
        "search: a word of all, backend of 5 %": listing(q=COMMON, backend="gemini"),
        "get by prefix": lambda: store.get(dice.choice(some)[:13], EVERYONE),
        "get what is not there": miss,
        "list of an owner with 1 %": listing(ONE),
        "list of an owner with 1 %, backend of 5 %": listing(ONE, backend="gemini"),
        "list of an owner with 1 %, tag of all": listing(ONE, tag="all"),
        "search of an owner with 1 %: a word of all": listing(ONE, q=COMMON),
        "get by a prefix of one digit, of an owner who has none": lambda: missing_for(Scope("nobody")),
        "count": store.count,
        "a whole turn in a new session": run_turn,
        "delete": lambda: store.delete(made.pop()),
    }


def folder_operations(folder: Folder, size: int) -> Operations:
    dice = random.Random(1)
    some = [session.id for session, _, _ in conversations(range(0, size, size // 200))]
    made: list[str] = []

    def create() -> None:
        session = Session(id=new_id(), owner="local", backend="claude", workdir="/work")
        folder.add(session, COMMON)
        made.append(session.id)

    return {
        "list, first page": folder.list,
        "list, page at 90 % (offset)": lambda: folder.list(offset=size * 9 // 10),
        "filter: backend of 5 %": lambda: folder.list(lambda session: session["backend"] == "gemini"),
        "filter: tag of 0.1 %": lambda: folder.list(lambda session: "rare" in session["tags"]),  # type: ignore[operator]
        "search: a word of 0.01 %": lambda: folder.list(lambda session: RARE in session["prompt"]),  # type: ignore[operator]
        "get by prefix": lambda: folder.find(dice.choice(some)[:13]),
        "count": lambda: len(os.listdir(folder.path)),
        "a whole turn in a new session": create,
        "delete": lambda: (folder.path / f"{made.pop()}.json").unlink(),
    }


def measure(columns: dict[str, Operations], rounds: int) -> dict[str, dict[str, tuple[float, float]]]:
    """operation → column → (fastest, median) in ms. One call of everything a round, in turn; slow ones fewer times."""
    taken: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for column, operations in columns.items():
            for name, operation in operations.items():
                times = taken.setdefault(name, {}).setdefault(column, [])
                if sum(times) > 10_000 and len(times) >= 3:
                    continue
                begun = perf_counter()
                operation()
                times.append((perf_counter() - begun) * 1000)
    return {name: {column: (min(t[1:]), statistics.median(t[1:])) for column, t in cells.items()} for name, cells in taken.items()}


def print_table(title: str, columns: dict[str, Operations], rounds: int) -> None:
    results = measure(columns, rounds)
    baseline = next((name for name in columns if name.startswith("JSON")), None)
    ratios = [f"JSON / {name}" for name in columns if name != baseline] if baseline else []
    print(f"\n### {title}\n")
    print("| ms: fastest / median |", " | ".join([*columns, *ratios]), "|")
    print("|---|" + "---|" * (len(columns) + len(ratios)))
    for name, cells in results.items():
        row = [f"{cells[column][0]:.2f} / {cells[column][1]:.2f}" if column in cells else "" for column in columns]
        if baseline:
            base = cells.get(baseline)
            row += [f"{base[1] / cells[column][1]:,.1f}" if base else "" for column in columns if column != baseline]
        print(f"| {name} |", " | ".join(row), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--grow-to", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=25)
    args = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, SQLAlchemy {sqlalchemy.__version__},", end=" ")
    print(f"SQLite {sqlite3.sqlite_version}\n")
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="clinvk-bench-"))
        stack.callback(shutil.rmtree, folder)
        stores = {"SQLite": SessionStore(to_url("", str(folder)))}
        try:
            stores["PostgreSQL"] = SessionStore(to_url(stack.enter_context(running_postgres()), ""))
        except BaseException as error:  # pytest's skip
            print(f"without PostgreSQL: {error}", file=sys.stderr)
        files = Folder(folder / "json")
        files.path.mkdir()
        for store in stores.values():
            stack.callback(store.close)
        load_all(stores, files, range(args.sessions))
        columns = {name: store_operations(store, args.sessions) for name, store in stores.items()}
        print_table(f"{args.sessions:,} sessions", {**columns, "JSON files": folder_operations(files, args.sessions)}, args.rounds)
        if args.grow_to > args.sessions:
            load_all(stores, None, range(args.sessions, args.grow_to))
            columns = {name: store_operations(store, args.grow_to) for name, store in stores.items()}
            print_table(f"{args.grow_to:,} sessions", columns, args.rounds)
            print(f"\nThe SQLite file has {(folder / 'sessions.db').stat().st_size / 1e9:.1f} GB.")


if __name__ == "__main__":
    main()
