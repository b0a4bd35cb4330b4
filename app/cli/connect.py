"""`clinvk connect CLIENT`: shows a client's configuration for this server, writes it into the client's file, or takes it out again."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.cli.client.connect import FAILED, OK, USAGE, Usage, exit_code, url_of
from app.cli.client.screen import complain, note, say_line
from app.clients.connecting import Change, Values, by_file, removed, shown, written
from app.clients.connections import CLIENTS, KEY_VARIABLE, MODEL, PURPOSES, ROLES, ConnectedClient, Connection, Purpose, filled
from app.clients.files import BACKUP_SUFFIX, Changed, read
from app.clients.unreadable import Unreadable
from app.config.load import load_settings

KEY = re.compile(r"[A-Za-z0-9._~+/=-]{1,512}")
MODEL_NAME = re.compile(r"[\w.:@+/-]{1,200}")
KEY_TO_FILL_IN = "YOUR_KEY"

EPILOG = f"""\
Without --write or --remove, the configuration is only printed. The key is written as a reference to the environment variable
{KEY_VARIABLE}, where the client can resolve one. The server: --server or CLINVK_SERVER_URL; else the one that the configuration describes.
"""


def add_connect_command(commands: Any) -> None:
    """Add it to ``commands``, the result of `add_subparsers`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "connect",
        help="configure a client for this server",
        description="Configure a client for this server: as its model provider, and as its MCP server.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("client", metavar="CLIENT", choices=CLIENTS, help=", ".join(CLIENTS))
    parser.add_argument("--as", dest="purpose", choices=PURPOSES, help="only as model provider or only as MCP server (default: both)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--write", action="store_true", help="write it into the client's file; what is there stays, a backup is kept beside it"
    )
    what.add_argument("--remove", action="store_true", help="take it out of the client's file")
    parser.add_argument("--project", action="store_true", help="the file of the project in this folder, instead of the user's")
    parser.add_argument(
        "--with-key", action="store_true", help="write the key itself, from CLINVK_API_KEY; only you can read the file then"
    )
    parser.add_argument("-m", "--model", default=MODEL, help=f"model that the client asks for (default {MODEL})")
    parser.add_argument("--server", metavar="URL", help="the server to use")
    parser.add_argument("--config", metavar="FILE", help="configuration file (default ~/.clinvk/config.yaml)")
    parser.set_defaults(run=exit_code(run_connect))


def run_connect(args: argparse.Namespace) -> int:
    client = CLIENTS[args.client]
    connections = _chosen(client, args)
    try:
        if args.remove:
            return _remove(connections, args)
        values = _values(args)
        _tell_the_rest(client, args.purpose, values)
        return _write(connections, values, args) if args.write else _show(connections, values, args)
    except Changed as error:
        complain(str(error))
        return FAILED
    except OSError as error:
        complain(f"{error.filename or 'the file'}: {error.strerror or error}")
        return FAILED


def _chosen(client: ConnectedClient, args: argparse.Namespace) -> list[Connection]:
    found = [connection for purpose, connection in client.connections.items() if args.purpose in (None, purpose)]
    if args.project:
        if args.with_key:
            raise Usage("--with-key is not for --project: a project's file is shared; leave out one of them")
        found = [connection for connection in found if connection.place.project]
        if not found:
            raise Usage(f"{client.title} has no file for this in a project: leave out --project")
    if not found and (args.write or args.remove):
        raise Usage(f"{client.title} has no file for this: {client.otherwise[args.purpose]}")
    if args.write and not args.with_key and not all(connection.reference for connection in found):
        raise Usage(
            f"{client.title} cannot take the key from a variable: add --with-key, and set CLINVK_API_KEY (without keys: to any text)"
        )
    return found


def _values(args: argparse.Namespace) -> Values:
    if not MODEL_NAME.fullmatch(args.model):
        raise Usage(f"--model: {args.model!r} is not the name of a model")
    return Values(_server_url(args), args.model, _key() if args.with_key else "")


def _key() -> str:
    key = os.environ.get("CLINVK_API_KEY", "").strip()
    if not key:
        raise Usage("--with-key writes the key that is in CLINVK_API_KEY: set it")
    if not KEY.fullmatch(key):
        raise Usage("CLINVK_API_KEY holds characters that cannot be in a header")
    return key


def _server_url(args: argparse.Namespace) -> str:
    named = args.server or os.environ.get("CLINVK_SERVER_URL", "").strip()
    if not named:
        server = load_settings(args.config).server
        if not server.port:
            raise Usage("the configured server has no port of its own (server.port: 0): name one with --server")
        return url_of(server)
    try:
        parts = urlsplit(named)
        has_address = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        has_address = False
    if not has_address or parts.scheme not in ("http", "https") or re.search(r"[^!-~]|[\"'`\\$@?#{}<>]", named):
        raise Usage("the address of a server is needed, such as http://127.0.0.1:8080, without a name, a password or a query in it")
    return named.rstrip("/")


def _tell_the_rest(client: ConnectedClient, purpose: Purpose | None, values: Values) -> None:
    for other, text in client.otherwise.items():
        if purpose in (None, other):
            note(f"{client.title} {ROLES[other].lower()}: {filled(text, url=values.url, model=values.model)}")


def _files(connections: list[Connection], args: argparse.Namespace) -> Mapping[Path, list[Connection]]:
    return by_file(connections, Path.cwd() if args.project else None)


def _root(args: argparse.Namespace) -> Path:
    return Path.cwd() if args.project else Path.home()


def _show(connections: list[Connection], values: Values, args: argparse.Namespace) -> int:
    for path, ones in _files(connections, args).items():
        note(f"\nIn {path}:\n")
        is_open = all(connection.reference for connection in ones)
        say_line(shown(ones, values if is_open or values.key else Values(values.url, values.model, KEY_TO_FILL_IN)))
    _tell_what_remains(connections, values, args)
    return OK


def _write(connections: list[Connection], values: Values, args: argparse.Namespace) -> int:
    changes = []
    for path, ones in _files(connections, args).items():
        try:
            changes.append((path, written(read(path, _root(args)), ones, values)))
        except Unreadable as error:
            complain(f"{path} is left as it is: {error}")
            return USAGE
    for path, change in changes:
        if change.is_none:
            note(f"{path} has it already")
            continue
        change.apply()
        has_backup = change.is_first and change.stored.content is not None
        note(f"wrote {path}{f'; as it was: {change.stored.backup.name}' if has_backup else ''}")
    _tell_what_remains(connections, values, args)
    return OK


def _remove(connections: list[Connection], args: argparse.Namespace) -> int:
    changes: list[tuple[Path, Change]] = []
    for path, ones in _files(connections, args).items():
        try:
            change = removed(read(path, _root(args)), ones)
        except Unreadable as error:
            complain(f"{path} is left as it is: {error}")
            return USAGE
        if change is None:
            note(f"{path} has nothing of this server")
        else:
            changes.append((path, change))
    for path, change in changes:
        change.apply()
        is_kept = not change.is_restored and change.stored.backup.exists()
        note(
            f"{'deleted' if change.text is None else 'removed it from'} {path}"
            + (f"; it was changed meanwhile, so {path.name}{BACKUP_SUFFIX} stays" if is_kept else "")
        )
    return OK


def _tell_what_remains(connections: list[Connection], values: Values, args: argparse.Namespace) -> None:
    for text in dict.fromkeys(connection.then for connection in connections if connection.then):
        note(filled(text, model=values.model).replace("`", ""))
    if not args.with_key and any(connection.reference for connection in connections):
        note(f"The key: export {KEY_VARIABLE}=… where the client is started; any text for a server without keys.")
