"""`clinvk prompt` and `clinvk sessions resume`: one answer, shown while it arrives."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import closing
from typing import Any
from urllib.parse import quote

from app.cli.client.answer import answer_writer
from app.cli.client.connect import FAILED, OK, Usage, connected
from app.cli.client.remote import NotReachable, Remote
from app.cli.client.screen import Progress, complain, dimmed, note, printable, say_json

OPTIONS = ("backend", "model", "approval_mode", "sandbox_mode", "system_prompt", "max_turns", "timeout_secs", "verbose")
"""Options of the command that are fields of a request under the same name."""

LINE_CHARS = 120

WIDER_APPROVAL = {"default": "auto", "always": "auto", "auto": "none"}
"""Approval mode → the next one that lets the agent do more."""

MAIN_INPUTS = ("command", "file_path", "path", "pattern", "url", "query")
"""Members of a tool's input, by preference: the first one present describes the call."""


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
    with connected(args) as remote:
        session = latest_session(remote, args) if continues else args.session
        path = f"/api/v1/sessions/{quote(session, safe='')}/resume" if session else "/api/v1/prompt"
        if workdir := workdir_for(remote, args.workdir, is_default=not session):
            body["workdir"] = workdir
        if args.dry_run:
            answer = remote.ask("POST", path, {**body, "dry_run": True})
            say_json(answer if args.json else answer["argv"])
            return OK
        if args.json:
            answer = remote.ask("POST", path, body)
            say_json(answer)
            return FAILED if answer["error"] else OK
        return show(remote, path, {**body, "output_format": "stream-json"}, as_lines=args.ndjson)


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


def show(remote: Remote, path: str, body: dict[str, Any], *, as_lines: bool) -> int:
    """Show the answer as it arrives. Standard output gets the agent's text and a newline, nothing else."""
    progress = Progress()
    answer = answer_writer(progress.close)
    progress.show("waiting for the agent")
    try:
        with closing(remote.lines(path, body)) as events:
            for event in events:
                kind, content = event["type"], event["content"]
                if as_lines:
                    say_json(event, is_line=True)
                elif kind == "message" and content:
                    answer.write(content)
                elif kind == "tool_use" and sys.stderr.isatty():
                    answer.flush()
                    progress.note(dimmed(tool_line(content["name"], content["input"])))
                if kind in ("done", "error"):
                    answer.close()
                    progress.close()
                    for denied in () if as_lines else content.get("denied_tools", ()):
                        note(refusal_line(denied, body.get("approval_mode", "default")))
                    if kind == "error":
                        complain(content["message"])
                        return FAILED
                    if sys.stderr.isatty() and event["session_id"] and not body.get("ephemeral"):
                        note(dimmed(f'continue with: clinvk prompt --session {event["session_id"][:8]} "…"'))
                    return OK
    finally:
        progress.close()
    raise NotReachable("the stream ended before the answer did")


def tool_line(name: str, input: Any) -> str:
    """A tool call on one line: `Bash: echo hi`, or with all of its input as JSON."""
    members = input if isinstance(input, dict) else {}
    main = next((members[key] for key in MAIN_INPUTS if isinstance(members.get(key), str)), None)
    return printable(f"{name}: {main or json.dumps(input, ensure_ascii=False)}")[:LINE_CHARS]


def refusal_line(denied: dict[str, str], approval_mode: str) -> str:
    """Which tool did not run and why, and the approval mode that allows more, if there is one."""
    wider = WIDER_APPROVAL.get(approval_mode)
    hint = f" (try --approval-mode {wider})" if wider else ""
    return printable(f"refused: {denied['tool']}: {denied['reason']}") + hint
