"""The command line and its commands. A command is a function of the parsed arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence

import gevent.hub

from app.cli.client.commands import add_client_commands
from app.cli.connect import add_connect_command
from app.cli.keys import add_keys
from app.cli.parser import Parser
from app.config.load import load_settings
from app.config.problems import SettingsError, print_problems
from app.config.schema import Settings
from app.startup import making_what_stays
from app.version import program_version


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. A wrong command or configuration is 2."""
    parser = build_parser()
    argv = sys.argv[1:] if argv is None else argv
    parser.refuse_unknown_command(argv, commands_of(parser))
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    # Ctrl-C is raised in whatever runs, mostly in gevent's hub, which would print it with a traceback.
    gevent.hub.Hub.NOT_ERROR = (*gevent.hub.Hub.NOT_ERROR, KeyboardInterrupt)
    try:
        code: int = args.run(args)
    except SettingsError as error:
        print_problems(error)
        return 2
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            print("\nstopped", file=sys.stderr)
        return 130
    return code


def build_parser() -> Parser:
    parser = Parser(prog="clinvk", description="One HTTP server in front of AI coding CLIs.")
    parser.add_argument("--version", action="version", version=f"clinvk {program_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    serve = commands.add_parser("serve", help="run the server", description="Run the server until Ctrl-C or SIGTERM.")
    add_settings(serve)
    serve.add_argument("--host", help="address to listen on (server.host; default 127.0.0.1)")
    serve.add_argument("--port", help="port to listen on, 0 for any free one (server.port; default 8080)")
    serve.add_argument("--workers", help="worker processes (server.workers; default 1)")
    serve.add_argument(
        "--no-auth", action="store_true", help="disable API keys on any address (dangerous: anyone who can connect can run coding agents)"
    )
    serve.set_defaults(run=run_serve)

    doctor = commands.add_parser(
        "doctor",
        help="check the installation",
        description="Check which CLIs are installed, whether they look logged in, and what is missing. Exits with 0 if the default backend can be used.",
    )
    add_settings(doctor)
    doctor.add_argument("--json", action="store_true", help="print JSON, for programs")
    doctor.set_defaults(run=run_doctor)

    backup = commands.add_parser(
        "backup", help="copy the session store", description="Copy the session store (SQLite), also while the server runs."
    )
    backup.add_argument("file", metavar="FILE", help="where to; it must not exist")
    backup.add_argument("--config", metavar="FILE", help="configuration file (default ~/.clinvk/config.yaml)")
    backup.set_defaults(run=run_backup)

    add_keys(commands)

    version = commands.add_parser("version", help="print the version")
    version.set_defaults(run=run_version)

    add_client_commands(commands)
    add_connect_command(commands)
    return parser


def commands_of(parser: argparse.ArgumentParser) -> Collection[str]:
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return commands.choices


def add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="configuration file (default ~/.clinvk/config.yaml)")
    parser.add_argument(
        "--backend", metavar="NAME", help="backend when a request names none (default_backend; default: the first available one)"
    )


def settings_of(args: argparse.Namespace) -> Settings:
    overrides = {
        "default_backend": args.backend,
        "server.host": getattr(args, "host", None),
        "server.port": getattr(args, "port", None),
        "server.workers": getattr(args, "workers", None),
    }
    return load_settings(args.config, overrides=overrides)


def run_serve(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    with making_what_stays():
        from app.server.serve import CannotListen, serve

    try:
        return serve(settings, is_open=args.no_auth, read=lambda: settings_of(args))
    except CannotListen as error:
        print(f"clinvk: {error}", file=sys.stderr)
        return 1


def run_doctor(args: argparse.Namespace) -> int:
    from app.cli.doctor import examine, to_json, to_text

    report = examine(lambda: settings_of(args))
    print(to_json(report) if args.json else to_text(report))
    return 0 if report.is_usable else 1


def run_version(args: argparse.Namespace) -> int:
    print(f"clinvk {program_version()}")
    return 0


def run_backup(args: argparse.Namespace) -> int:
    from app.cli.backup import CannotBackUp, back_up

    try:
        back_up(load_settings(args.config), args.file)
    except CannotBackUp as error:
        print(f"clinvk: {error}", file=sys.stderr)
        return 1
    print(f"saved the session store to {args.file}")
    return 0
