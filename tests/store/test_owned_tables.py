"""What belongs to a caller says whose it is, and no statement forgets to ask.

A new table, and a new statement on a table of a caller's things, fail here until they are classified.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from services.store.schema import metadata

ROOT = Path(__file__).parents[2]

OWN_COLUMN = {"sessions", "session_tags", "runs", "usage_runs", "usage_days", "slots"}
"""Tables whose rows name their owner."""
OWNED_PARENT = {
    "turns": "sessions",
    "documents": "sessions",
    "run_requests": "runs",
    "run_events": "runs",
    "webhook_deliveries": "runs",
}
"""Tables whose rows belong to the owner of the row that they refer to, and are deleted with it."""
NO_CALLERS = {
    "api_keys": "the keys themselves: for admins",
    "key_uses": "of the keys: for admins",
    "plan_windows": "of the operator's subscriptions",
    "owners": "processes",
    "totals": "a count of all",
}
"""Tables without anything of a caller, each with what they hold."""

CALLERS_THINGS = {"sessions", "session_tags", *OWNED_PARENT, "runs", "documents_words"}
"""Whose statements are listed here. The usage tables are the ledger's, which has its own tests."""

RECORD = "of one session or run, whose record only a lookup with a scope returns"
WORKER = "of what this process executes"
UPKEEP = "serves no caller: recovery, retention, schema"
QUEUE = "the order among all owners; returns counts, or a run to a worker"
MATCHES = "ids of matches, which `listing._load` reads with the scope"
DELIVERY = "webhooks, on their way to where their run wants them"

WITHOUT_OWNER = {
    "services.runs.burial:bury": UPKEEP,
    "services.runs.burial:dead_workers": UPKEEP,
    "services.runs.burial:_restart": UPKEEP,
    "services.runs.endings:BEGUN": RECORD,
    "services.runs.endings:END": RECORD,
    "services.runs.endings:NEXT_NUMBER": RECORD,
    "services.runs.expiry:EVENTS_BYTES": UPKEEP,
    "services.runs.expiry:REQUEST_BYTES": UPKEEP,
    "services.runs.expiry:_oldest": UPKEEP,
    "services.runs.expiry:expire_events": UPKEEP,
    "services.runs.expiry:expire_runs": UPKEEP,
    "services.runs.finding:BY_ID": "`LOOKUP` adds the scope; without it, a run is read again that was found or just made",
    "services.runs.finding:UNFINISHED": "whether a session is busy, which its record's holder asks",
    "services.runs.log:AT": RECORD,
    "services.runs.log:CHUNKS": RECORD,
    "services.runs.log:NEXT_NUMBER": RECORD,
    "services.runs.log:OF_RUN": RECORD,
    "services.runs.log:OURS": WORKER,
    "services.runs.log:SIZES": RECORD,
    "services.runs.log:STATES": "of runs that have readers: each has found its own",
    "services.runs.queue:ANY_WAITS": QUEUE,
    "services.runs.queue:BETWEEN": QUEUE,
    "services.runs.queue:CLAIM": QUEUE,
    "services.runs.queue:COUNT": QUEUE,
    "services.runs.queue:NEXT": QUEUE,
    "services.runs.queue:PLACE": QUEUE,
    "services.runs.store:DISCARD": WORKER,
    "services.runs.store:HELD": WORKER,
    "services.runs.store:NOTE": WORKER,
    "services.runs.store:REQUEST": RECORD,
    "services.runs.store:RunStore.cancel": RECORD,
    "services.runs.store:RunStore.delete": RECORD,
    "services.runs.store:SESSION": RECORD,
    "services.runs.store:STATUS_OF": RECORD,
    "services.runs.store:TERMINAL_OF": RECORD,
    "services.runs.store:TO_CANCEL": WORKER,
    "services.runs.webhooks.outbox:Outbox._free": DELIVERY,
    "services.runs.webhooks.outbox:Outbox.claim": DELIVERY,
    "services.runs.webhooks.outbox:Outbox.remove": DELIVERY,
    "services.store.documents:MATCH": MATCHES,
    "services.store.documents:MATCH_FAR": MATCHES,
    "services.store.documents:MATCH_NEAR": MATCHES,
    "services.store.documents:NEWER": MATCHES,
    "services.store.documents:matches": "the newest document's number",
    "services.store.leases:forget_dead": UPKEEP,
    "services.store.sessions:SessionStore._remove": RECORD,
    "services.store.sessions:SessionStore.expired": UPKEEP,
    "services.store.turns:AWAITING": RECORD,
    "services.store.turns:CLAIM": RECORD,
    "services.store.turns:END_OF_SESSION": RECORD,
    "services.store.turns:END_TURN": RECORD,
    "services.store.turns:RETAG": RECORD,
    "services.store.turns:_describe": RECORD,
    "services.store.turns:copy": RECORD,
    "services.store.turns:drop": RECORD,
    "services.store.turns:interrupt": UPKEEP,
    "services.store.turns:is_free": RECORD,
    "services.store.turns:read": RECORD,
    "services.store.turns:usage": RECORD,
    "services.store.turns:worker_of": RECORD,
    "services.store.turns:workers_of_running": UPKEEP,
}
"""Statements without a condition on the owner, by their place, each with the reason."""

BUILDERS = {"select", "update", "delete"}
"""An insert names the owner: the column is mandatory."""
READS = re.compile(r"\b(?:FROM|JOIN|UPDATE)\s+(\w+)")
COLUMNS_OF = {"WHOLE": "runs", "LISTED": "runs", "TERMINAL": "runs"}
"""Names for a table's columns."""
ASKS = re.compile(r"\bScopedLookup\(|\bscope\.covers\(|\b_of_owner\(|\bIS_OWN\b|\.c\.owner ==")


def test_every_table_says_whose_its_rows_are() -> None:
    assert {*metadata.tables} == OWN_COLUMN | OWNED_PARENT.keys() | NO_CALLERS.keys()
    assert not OWN_COLUMN & OWNED_PARENT.keys()


@pytest.mark.parametrize("name", sorted(OWN_COLUMN))
def test_an_owner_is_mandatory(name: str) -> None:
    assert metadata.tables[name].c.owner.nullable is False


@pytest.mark.parametrize(("name", "parent"), OWNED_PARENT.items())
def test_what_belongs_to_a_session_or_a_run_cannot_be_without_it(name: str, parent: str) -> None:
    assert parent in OWN_COLUMN
    (key,) = [key for key in metadata.tables[name].foreign_keys if key.column.table.name == parent]
    assert (key.parent.nullable, key.ondelete) == (False, "CASCADE")


def test_every_statement_asks_whose_it_is_or_is_known_not_to_need_it() -> None:
    forgetful = {place for place, source in statements().items() if not ASKS.search(source)}
    assert forgetful == WITHOUT_OWNER.keys()


def test_the_lookups_are_those_that_ask() -> None:
    asking = {place for place, source in statements().items() if ASKS.search(source)}
    assert asking == {
        "services.access.key_store:_check_reuse",
        "services.quotas.slots:occupied",
        "services.runs.finding:BY_KEY",
        "services.runs.pages:list_page",
        "services.runs.queue:STATE",
        "services.runs.store:QUEUED_OF",
        "services.store.listing:_load",
        "services.store.listing:_ordered",
        "services.store.sessions:BY_PREFIX",
    }


def test_few_modules_know_these_tables() -> None:
    knowing = {module for module, tree in modules().items() if imported_from_schema(tree) & CALLERS_THINGS}
    assert knowing == {
        "services.access.key_store",
        "services.quotas.slots",
        "services.runs.burial",
        "services.runs.endings",
        "services.runs.expiry",
        "services.runs.finding",
        "services.runs.log",
        "services.runs.pages",
        "services.runs.queue",
        "services.runs.rows",
        "services.runs.store",
        "services.runs.webhooks.outbox",
        "services.store.leases",
        "services.store.listing",
        "services.store.sessions",
        "services.store.turns",
    }


def imported_from_schema(tree: ast.Module) -> set[str]:
    return {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "services.store.schema"
        for name in node.names
    }


@cache
def statements() -> dict[str, str]:
    """The source of what has a statement on `CALLERS_THINGS`, by its place."""
    found = {}
    for module, tree in modules().items():
        for name, node in symbols(tree):
            if reads_callers_things(node):
                found[f"{module}:{name}"] = ast.unparse(node)
    return found


@cache
def modules() -> dict[str, ast.Module]:
    paths = [path for layer in ("app", "blueprints", "services") for path in (ROOT / layer).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text()) for path in sorted(paths)}


def symbols(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in tree.body:
        match node:
            case ast.ClassDef():
                yield from symbols(node, f"{node.name}.")
            case ast.FunctionDef():
                yield prefix + node.name, node
            case ast.Assign(targets=[ast.Name(id=name), *_]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name, node


def reads_callers_things(node: ast.AST) -> bool:
    parts = [*ast.walk(node)]
    texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    calls = {part.func.id for part in parts if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)}
    reads = {table for text in texts for table in READS.findall(text)}
    if calls & BUILDERS:
        reads |= names | {COLUMNS_OF[name] for name in names & COLUMNS_OF.keys()}
    return bool(reads & CALLERS_THINGS)
