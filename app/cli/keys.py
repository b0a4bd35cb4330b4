"""`clinvk keys`: makes, lists and revokes keys in the session store, also while no server runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from app.cli.client.lists import say_table
from app.cli.key_rights import add_rights, rights_of
from app.config.checks import why_no_own_rate
from app.config.load import load_settings
from app.config.problems import COMMAND_LINE, Problem, SettingsError
from app.config.schema import Settings
from app.security.api_keys import load_keys, new_entry
from services.access.key import Key, why_no_name
from services.access.key_ring import KeyRing
from services.access.rights import Rights
from services.access.rights_form import from_rights

COLUMNS = ("name", "role", "source", "created_at", "last_used_at", "expires_at")
"""Of the list."""


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
    add_rights(create)
    create.set_defaults(run=run_create)

    listing = actions.add_parser(
        "list", help="list the keys", description="List the keys of the configuration, the environment and the store."
    )
    listing.add_argument("--json", action="store_true", help="print JSON, for programs")
    listing.set_defaults(run=run_list)

    revoke = actions.add_parser(
        "revoke",
        help="revoke a key of the session store",
        description="Revoke a key of the session store: servers refuse it within 5 seconds. Its queued runs are cancelled; running ones continue.",
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
        raise SettingsError([Problem(COMMAND_LINE, "NAME", problem)])
    rights, expires_at = rights_of(args, settings)
    if rights.has_own_rate and (why := why_no_own_rate(settings.server)):
        raise SettingsError([Problem("command line", "--rate-limit-rps, --rate-limit-burst", why)])
    configured = configured_keys(settings)
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
        print("No key is an admin, so no key can see all sessions. Make one: clinvk keys create NAME --role admin", file=sys.stderr)
    return 0


def run_list(args: argparse.Namespace) -> int:
    settings = load_settings(args.config)
    with _store(settings) as store:
        keys, uses = (*configured_keys(settings), *store.in_force()), store.uses()
    rows = [_row(key, uses.get(key.name)) for key in keys]
    if args.json:
        print(json.dumps({"keys": rows}, indent=2))
    elif rows:
        say_table(
            [*(name.removesuffix("_at").replace("_", " ").upper() for name in COLUMNS), "LIMITS"],
            [[*(row[name] or "-" for name in COLUMNS), limits_of(row)] for row in rows],
        )
    else:
        print("there are no keys; make one with: clinvk keys create NAME --role admin", file=sys.stderr)
    return 0


def limits_of(row: Mapping[str, Any]) -> str:
    """What the key may not do, on one line: each right that is not as of a key without limits, as the options of `create` write it."""
    free = from_rights(Rights())
    limits = {name: row[name] for name in free if name not in ("role", "budget") and row[name] != free[name]}
    words = [f"{name}={','.join(value) if isinstance(value, list) else value}" for name, value in limits.items()]
    budgets = [f"{amount:g}{unit}/{budget['per']}" for budget in row["budget"] for unit, amount in budget.items() if unit != "per"]
    return " ".join([*words, *(f"budget={budget}" for budget in budgets)]) or "-"


def run_revoke(args: argparse.Namespace) -> int:
    settings = load_settings(args.config)
    if args.name in configured_keys(settings):
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


def configured_keys(settings: Settings) -> KeyRing:
    """Of the configuration and the environment, but for CLINVK_API_KEY: to a command that is its own key as a client."""
    return load_keys(settings, {name: text for name, text in os.environ.items() if name != "CLINVK_API_KEY"})


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


def _fail(message: str) -> int:
    print(f"clinvk: {message}", file=sys.stderr)
    return 1
