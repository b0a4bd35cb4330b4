"""`clinvk runs …` and the options of background runs on the command line: their names, options and help."""

from __future__ import annotations

import argparse
from typing import Any

from app.cli.client.connect import Command, exit_code
from app.cli.client.follow import run_follow, run_wait
from app.cli.client.reconnect import RECONNECT_S
from app.cli.client.runs import run_cancel, run_delete, run_list, run_show
from services.runs.record import KINDS, STATUSES

EPILOG = """\
The server: --server or CLINVK_SERVER_URL; else the one that the configuration describes. It must run: none is started. Its
key: CLINVK_API_KEY. Exit codes: 0 success, 1 the run failed or was cancelled, 2 wrong command, no such run or wrong
configuration, 3 no server or refused by it, 124 --timeout has passed, 130 Ctrl-C, which does not stop the run.
"""

ID = "its id, or the beginning of it"


def add_run_commands(commands: Any) -> None:
    """Add `runs` to ``commands``, the result of `add_subparsers`."""
    runs = commands.add_parser("runs", help="list, show, follow, cancel, wait for and delete runs")
    actions = runs.add_subparsers(dest="action", metavar="{list,show,follow,wait,cancel,delete}", required=True)

    listed = _add(actions, "list", run_list, "your runs, the latest first: all that are queued or running, and those that were kept")
    listed.add_argument("--status", choices=STATUSES)
    listed.add_argument("--kind", choices=KINDS)
    listed.add_argument("--session", dest="session_id", metavar="ID", help="the runs of this session (its whole id)")
    listed.add_argument("--limit", type=int, metavar="N", help="how many at most (1 to 200; default 50)")
    listed.add_argument("--cursor", help="the next page, as the one before names it")

    show = _add(actions, "show", run_show, "one run and its result")
    show.add_argument("id", metavar="ID", help=ID)

    follow = _add(
        actions,
        "follow",
        run_follow,
        "show a run from its beginning to its end, as `clinvk prompt` does",
        json="its events as they come, one JSON object a line",
    )
    follow.add_argument("id", metavar="ID", help=ID)
    follow.add_argument("--after", type=int, default=0, metavar="N", help="only what comes after event number N")
    _add_reconnect(follow)

    wait = _add(actions, "wait", run_wait, "wait for the end of a run and print its output")
    wait.add_argument("id", metavar="ID", help=ID)
    wait.add_argument("--timeout", type=float, metavar="SECONDS", help="how long at most; the run goes on after that")
    _add_reconnect(wait)

    cancel = _add(actions, "cancel", run_cancel, "cancel runs")
    cancel.add_argument("id", nargs="+", metavar="ID", help=ID)

    delete = _add(actions, "delete", run_delete, "delete runs that have ended, with their events; their sessions stay", json=None)
    delete.add_argument("id", nargs="+", metavar="ID", help=ID)


def add_background_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("in the background (needs a running server)")
    group.add_argument("--background", action="store_true", help="print the run's id and leave; see `clinvk runs`")
    group.add_argument("--priority", type=int, choices=range(10), metavar="0-9", help="0 is first, 9 is last (default 5)")
    group.add_argument("--retry", action="store_true", help="start the run once more if the server's process dies meanwhile")


def _add(
    actions: Any, name: str, run: Command, about: str, *, json: str | None = "the server's response, for programs"
) -> argparse.ArgumentParser:
    """``json``: the help of `--json`; None: there is no such option."""
    parser: argparse.ArgumentParser = actions.add_parser(
        name,
        help=about,
        description=about[:1].upper() + about[1:] + ".",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--server", metavar="URL", help="the server to use")
    parser.add_argument("--config", metavar="FILE", help="configuration file (default ~/.clinvk/config.yaml)")
    if json:
        parser.add_argument("--json", action="store_true", help=json)
    parser.set_defaults(run=exit_code(run))
    return parser


def _add_reconnect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reconnect-secs",
        type=float,
        default=RECONNECT_S,
        metavar="SECONDS",
        help=f"how long the server may be away at a time (default {RECONNECT_S:g})",
    )
