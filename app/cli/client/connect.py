"""Which server a command talks to, and what the command's exit code says of how that went."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.cli.client.private import private_server
from app.cli.client.remote import NotReachable, Refused, Remote
from app.cli.client.screen import complain, note, say_json
from app.config.load import load_settings
from app.config.schema import ServerSettings

OK, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
"""It worked; a run failed; the command or the configuration is wrong; no server, or it refused."""
TIMED_OUT, INTERRUPTED = 124, 130
"""A wait has lasted too long, as of timeout(1); Ctrl-C."""

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
WRONG_REQUEST = {400, 404, 413, 415}


class Usage(Exception):
    """A usage error of the command."""


Command = Callable[[argparse.Namespace], int]


def exit_code(command: Command) -> Command:
    """``command`` with what can go wrong as its exit code. With ``--json`` the server's error is on stdout too."""

    def run(args: argparse.Namespace) -> int:
        try:
            return command(args)
        except Usage as error:
            complain(str(error))
            return USAGE
        except NotReachable as error:
            complain(str(error))
            return UNREACHABLE
        except Refused as refused:
            hint = key_hint() if refused.status == 401 else refused.hint
            complain(f"{refused}; {hint}" if hint else str(refused))
            if getattr(args, "json", False):
                say_json(refused.body)
            if refused.has_run:
                return FAILED
            return USAGE if refused.status in WRONG_REQUEST else UNREACHABLE
        except BrokenPipeError:  # the reader of our output is gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED

    return run


def key_hint() -> str:
    return "it is the one in CLINVK_API_KEY" if os.environ.get("CLINVK_API_KEY", "").strip() else "set CLINVK_API_KEY"


def url_of(server: ServerSettings) -> str:
    """Where a server with these settings is reached from this machine."""
    host = ANY_ADDRESS.get(server.host, server.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}"


@contextmanager
def connected(args: argparse.Namespace, *, may_start: bool = True) -> Iterator[Remote]:
    """The server that was named; else the one that the configuration describes, where it runs; else a private one.

    Raises NotReachable if there is none and ``may_start`` is False: runs in the background would end with a private server.
    """
    key = os.environ.get("CLINVK_API_KEY", "").strip()
    named = args.server or os.environ.get("CLINVK_SERVER_URL", "").strip()
    if named:
        remote = Remote(named, key)
        if not remote.is_up():
            raise NotReachable(f"no clinvk server answers at {remote.url}; start one with `clinvk serve`")
        yield remote
        return
    server = load_settings(args.config).server
    remote = Remote(url_of(server), key)
    if server.port and remote.is_up():
        yield remote
        return
    if not may_start:
        raise NotReachable(
            f"no server runs at {remote.url}; start one with `clinvk serve`, or name another one with --server or CLINVK_SERVER_URL: "
            "a server that is started for one command cannot have runs in the background"
        )
    if sys.stderr.isatty():
        note(f"no server runs at {remote.url}; starting one for this command")
    with private_server(args.config) as private:
        yield private
