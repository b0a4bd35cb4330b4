"""`clinvk keys`: makes, lists and revokes keys in the session store, also while no server runs."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app.config.layer import Layer
from app.config.load import load_settings
from app.config.problems import Problem, SettingsError
from app.config.schema import KeySettings, Settings
from app.config.validation import Path, node_at
from app.security.api_keys import known_backends, load_keys, new_entry
from app.security.key_entries import EntryReader
from services.access.key import Key, why_no_name
from services.access.rights import APPROVAL_ORDER, BUDGET_UNITS, ISOLATIONS, ROLES, SANDBOX_ORDER, WINDOWS, Rights

LISTS = ("backends", "models", "workdirs")
OPTIONS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "role": ("ROLE", "an admin sees and manages everything, keys included; default user", ROLES),
    "backends": ("NAMES", "the only backends that it may use, separated by commas; the first is its default", ()),
    "models": ("PATTERNS", "the only models that it may use, separated by commas", ()),
    "workdirs": ("FOLDERS", "its workdirs must be in one of these, separated by commas; the first is the default", ()),
    "max_approval_mode": ("MODE", "the most permissive approval mode", APPROVAL_ORDER),
    "max_sandbox_mode": ("MODE", "the most permissive sandbox mode", SANDBOX_ORDER),
    "isolation": ("KIND", "the least isolation of its runs", ISOLATIONS),
    "rate_limit_rps": ("N", "sustained requests per second", ()),
    "rate_limit_burst": ("N", "maximum burst of requests", ()),
    "max_concurrent_runs": ("N", "maximum concurrent runs", ()),
    "max_waiting_runs": ("N", "maximum waiting runs; 0: none", ()),
    "weight": ("N", "share of the queue, relative to other keys; default 1", ()),
    "expires_at": ("TIME", "when it ceases to be valid, as 2099-01-31T12:00:00Z", ()),
}
"""Rights that are an option: how its value is called, what it means, and the choices."""

BUDGET = re.compile(rf"(?P<amount>[0-9.]+)(?P<unit>{'|'.join(BUDGET_UNITS)})/(?P<per>{'|'.join(WINDOWS)})")


def add_keys(commands: Any) -> None:
    """The command and its actions."""
    keys = commands.add_parser("keys", help="make, list and revoke API keys", description="Make, list and revoke API keys.")
    actions = keys.add_subparsers(dest="action", metavar="{create,list,revoke,entry}", required=True)

    create = actions.add_parser(
        "create",
        help="make a key in the session store",
        description="Make a key in the session store. Its secret is printed once, alone on standard output. Servers that use the store"
        " accept it within 5 seconds; one that was open requires a key from then on.",
    )
    create.add_argument("name", metavar="NAME", help="its name in logs and metrics, and the owner of what it makes")
    for name, (value, meaning, choices) in OPTIONS.items():
        create.add_argument(f"--{name.replace('_', '-')}", metavar=value, help=meaning + (f" ({', '.join(choices)})" if choices else ""))
    create.add_argument(
        "--budget", action="append", metavar="AMOUNT", help="for example 5usd/day, 1000000tokens/week or 100runs/hour; may be repeated"
    )
    create.add_argument("--may-approve", action="store_true", default=None, help="it may answer the questions of its runs")
    create.set_defaults(run=run_create)

    listing = actions.add_parser(
        "list", help="list the keys", description="List the keys of the configuration, the environment and the store."
    )
    listing.add_argument("--json", action="store_true", help="print JSON, for programs")
    listing.set_defaults(run=run_list)

    revoke = actions.add_parser(
        "revoke",
        help="revoke a key of the session store",
        description="Revoke a key of the session store: servers refuse it within 5 seconds. What runs goes on; its queued runs end.",
    )
    revoke.add_argument("name", metavar="NAME")
    revoke.set_defaults(run=run_revoke)

    entry = actions.add_parser(
        "entry",
        help="make a key for the configuration",
        description="Make a key for the configuration. It is printed once and stored nowhere.",
    )
    entry.add_argument("name", metavar="NAME", help="its name in logs and metrics, and the owner of what it makes")
    entry.set_defaults(run=run_entry)
    for action in (create, listing, revoke):
        action.add_argument("--config", metavar="FILE", help="configuration file (default ~/.clinvk/config.yaml)")


def run_create(args: argparse.Namespace) -> int:
    from services.access.keys_in_force import make_key

    settings = load_settings(args.config)
    if problem := why_no_name(args.name):
        raise SettingsError([Problem("command line", "NAME", problem)])
    rights, expires_at = rights_of(args, settings)
    configured = load_keys(settings)
    if args.name in configured:
        return _fail(f"the configuration has a key {args.name!r}; choose another name")
    key, secret = make_key(args.name, rights, expires_at)
    with _store(settings) as store:
        has_admin = configured.has_admin or any(other.rights.is_admin and not other.is_expired for other in store.in_force())
        store.add(key)
    print(secret)
    print(
        f"This is the key {key.name}. It is shown only once; servers that use this session store accept it within 5 seconds.",
        file=sys.stderr,
    )
    if not has_admin and not rights.is_admin:
        print("No key is an admin: nobody can see everybody's sessions. Make one: clinvk keys create NAME --role admin", file=sys.stderr)
    return 0


def run_list(args: argparse.Namespace) -> int:
    settings = load_settings(args.config)
    with _store(settings) as store:
        keys, uses = (*load_keys(settings), *store.in_force()), store.uses()
    rows = [_row(key, uses.get(key.name)) for key in keys]
    if args.json:
        import json

        print(json.dumps({"keys": rows}, indent=2))
    elif rows:
        print(_table(rows))
    else:
        print("there are no keys; make one with: clinvk keys create NAME --role admin", file=sys.stderr)
    return 0


def run_revoke(args: argparse.Namespace) -> int:
    settings = load_settings(args.config)
    if args.name in load_keys(settings):
        return _fail(f"the key {args.name!r} is part of the configuration: remove it there, and reload the server (SIGHUP) or restart it")
    with _store(settings) as store:
        store.revoke(args.name)
    print(f"revoked {args.name}: servers refuse it within 5 seconds", file=sys.stderr)
    return 0


def run_entry(args: argparse.Namespace) -> int:
    secret, entry = new_entry(args.name)
    print(secret)
    print(f"This key is shown only once. Add its digest to the configuration:\n\nserver:\n  api_keys:\n    - {entry}", file=sys.stderr)
    return 0


def rights_of(args: argparse.Namespace, settings: Settings) -> tuple[Rights, int | None]:
    """What the options say, checked as in the configuration. Raises SettingsError with every mistake."""
    layer = Layer()

    def put(path: Path, value: Any) -> None:
        option = f"--{str(path[0]).replace('_', '-')}"
        layer.put(path, value, "command line", ("command line", option))

    for name in (*OPTIONS, "may_approve"):
        value = getattr(args, name)
        if value is not None:
            put((name,), [word.strip() for word in value.split(",") if word.strip()] if name in LISTS else value)
    put(("budget",), [_to_budget(text) for text in args.budget or ()])
    for index, budget in enumerate(layer.values["budget"]):
        for path in (("budget", index), *(("budget", index, name) for name in budget)):
            layer.labels[path] = layer.labels[("budget",)]
    table = node_at(("server", "api_keys", 0))
    assert table is not None
    layer.check(os.path.expanduser, table)
    if layer.problems:
        raise SettingsError(layer.problems)
    form: KeySettings = table.build(layer.values)
    reader = EntryReader(known_backends(settings), ())
    rights = reader.rights_of(form, "")
    if reader.problems:
        raise SettingsError(Problem("command line", f"--{key.replace('_', '-')}", message) for key, message in reader.problems)
    return rights


def _to_budget(text: str) -> dict[str, Any]:
    """Raises SettingsError."""
    found = BUDGET.fullmatch(text)
    if not found:
        expected = (
            f"expected an amount, its unit and its window, as 5usd/day (units {', '.join(BUDGET_UNITS)}; windows {', '.join(WINDOWS)})"
        )
        raise SettingsError([Problem("command line", "--budget", f"{expected}, got {text!r}")])
    return {found["unit"]: found["amount"], "per": found["per"]}


@contextmanager
def _store(settings: Settings) -> Iterator[Any]:
    """The store's keys. What goes wrong there is an exit with 1."""
    from app.backends import database_url
    from services.access.key_store import KeyStore
    from services.errors import ClinvkError
    from services.store.sessions import SessionStore

    sessions = SessionStore(database_url(settings))
    try:
        yield KeyStore(sessions.database)
    except ClinvkError as error:
        raise SystemExit(_fail(error.message)) from None
    finally:
        sessions.close()


def _row(key: Key, last_used_at: int | None) -> dict[str, Any]:
    from blueprints.native.keys import from_key  # the resource of the API

    return from_key(key, last_used_at)


COLUMNS = ("name", "role", "source", "created_at", "last_used_at", "expires_at")


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [[name.removesuffix("_at").replace("_", " ").upper() for name in COLUMNS]]
    lines += [[str(row[name] or "-") for name in COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _fail(message: str) -> int:
    print(f"clinvk: {message}", file=sys.stderr)
    return 1
