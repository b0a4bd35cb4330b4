"""`clinvk prompt` and `clinvk sessions resume`: one answer, shown while it arrives."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import closing
from urllib.parse import quote

from app.cli.client.background import background_fields, submit
from app.cli.client.connect import FAILED, OK, Usage, connected
from app.cli.client.events import report_end, say_how_to_continue, show_events
from app.cli.client.remote import NotReachable, Remote
from app.cli.client.screen import say_json

OPTIONS = ("backend", "model", "approval_mode", "sandbox_mode", "system_prompt", "max_turns", "timeout_secs", "verbose")
"""Options of the command that are fields of a request under the same name."""


def run_prompt(args: argparse.Namespace) -> int:
    body = {name: value for name in OPTIONS if (value := getattr(args, name, None)) is not None}
    body["prompt"] = read_text(args.text)
    body |= {name: value for name in ("title", "tags") if (value := getattr(args, name, None))}
    continues = getattr(args, "continues", False)
    if sum(map(bool, (args.ephemeral, args.session, continues))) > 1:
        raise Usage("--session and --continue continue a session, --ephemeral keeps none: choose one")
    if args.ephemeral:
        body["ephemeral"] = True
    if getattr(args, "rebuild", False):
        body["rebuild"] = True
    body |= background_fields(args)
    with connected(args, may_start=not args.background) as remote:
        session = latest_session(remote, args) if continues else args.session
        path = f"/api/v1/sessions/{quote(session, safe='')}/resume" if session else "/api/v1/prompt"
        if workdir := workdir_for(remote, args.workdir, is_default=not session):
            body["workdir"] = workdir
        if args.dry_run:
            answer = remote.ask("POST", path, {**body, "dry_run": True})
            say_json(answer if args.json else answer["argv"])
            return OK
        if args.background:
            return submit(remote, path, body, args)
        if args.json:
            answer = remote.ask("POST", path, body)
            say_json(answer)
            return FAILED if answer["error"] else OK
        with closing(remote.lines(path, body)) as events:
            end = show_events(events, as_lines=args.ndjson)
    if end is None:
        raise NotReachable("the stream ended before the answer did")
    code = report_end(end, as_lines=args.ndjson, approval_mode=args.approval_mode or "default")
    if code == OK and not args.ephemeral:
        say_how_to_continue(end["session_id"])
    return code


def latest_session(remote: Remote, args: argparse.Namespace) -> str:
    """The session of this folder that was used last, limited to ``--backend`` if it is set. Raises Usage if there is no such session."""
    workdir = workdir_for(remote, args.workdir, is_default=True)
    found = remote.ask("GET", "/api/v1/sessions", query={"workdir": workdir, "backend": args.backend, "limit": 1})["sessions"]
    if not found:
        raise Usage(
            f"there is no session to continue in {workdir or 'any folder'}; start one with `clinvk prompt` or see `clinvk sessions list`"
        )
    return str(found[0]["id"])


def read_text(text: str | None) -> str:
    """The prompt from the command line, or from stdin if it is `-` or missing."""
    if text is None and sys.stdin.isatty():
        print("Type the prompt; end with Ctrl-D.", file=sys.stderr, flush=True)
    if text is None or text == "-":
        text = sys.stdin.buffer.read().decode(errors="replace")
    if not text.strip():
        raise Usage("the prompt is empty")
    return text


def workdir_for(remote: Remote, workdir: str | None, *, is_default: bool) -> str | None:
    """The agent works where the command was called, if the server sees the same folders."""
    if workdir:
        return os.path.abspath(os.path.expanduser(workdir)) if remote.is_local else workdir
    return os.getcwd() if is_default and remote.is_local else None
