"""`--background`: the request is put into the server's queue, and the command prints the run's id."""

from __future__ import annotations

import argparse
from typing import Any

from app.cli.client.connect import OK, Usage
from app.cli.client.remote import Remote
from app.cli.client.screen import note, say_json, say_line


def background_fields(args: argparse.Namespace) -> dict[str, Any]:
    """What the options add to the body of a request. Raises Usage for options that exclude each other."""
    if not args.background:
        if args.priority is not None or args.retry:
            raise Usage("--priority and --retry are for a run in the background: add --background")
        return {}
    if args.ndjson:
        raise Usage("--background prints only the run's id; to see its events, use: clinvk runs follow ID --json")
    priority = {} if args.priority is None else {"priority": args.priority}
    return {"background": True, **priority, **({"on_worker_lost": "retry"} if args.retry else {})}


def submit(remote: Remote, path: str, body: dict[str, Any], args: argparse.Namespace) -> int:
    """Put the request into the queue. Standard output gets the run's id, or with ``--json`` the run."""
    run = remote.ask("POST", path, body)
    if args.json:
        say_json(run)
    else:
        say_line(run["id"])
    note(f"follow it with: clinvk runs follow {run['id']}")
    return OK
