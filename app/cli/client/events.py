"""Shows the events of one prompt while they arrive: text on standard output, everything about it on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from app.cli.client.answer import answer_writer
from app.cli.client.connect import FAILED, OK
from app.cli.client.screen import Progress, complain, dimmed, note, printable, say_json

LINE_CHARS = 120

WIDER_APPROVAL = {"default": "auto", "always": "auto", "auto": "none"}
"""Approval mode → the next one that lets the agent do more."""

MAIN_INPUTS = ("command", "file_path", "path", "pattern", "url", "query")
"""Members of a tool's input, by preference: the first one present describes the call."""


def show_events(events: Iterable[dict[str, Any]], *, as_lines: bool, state: str = "waiting for the agent") -> dict[str, Any] | None:
    """Show an answer as it arrives. Standard output gets the agent's text and a newline, nothing else; with ``as_lines`` the events.

    Returns the terminal event; None if the events end without one. ``state``: what is shown on a terminal until the first one.
    """
    progress = Progress()
    answer = answer_writer(progress.close)
    progress.show(state)
    try:
        for event in events:
            kind, content = event["type"], event["content"]
            if as_lines:
                say_json(event, is_line=True)
            elif kind == "init" and content.get("fallback"):
                progress.note(fallback_line(content["fallback"], event["backend"]))
            elif kind == "message" and content:
                answer.write(content)
            elif kind == "tool_use" and sys.stderr.isatty():
                answer.flush()
                progress.note(dimmed(tool_line(content["name"], content["input"])))
            elif kind == "restarted":
                answer.close()
                progress.note(restart_line(content["attempt"]))
            if kind in ("done", "error"):
                return event
        return None
    finally:
        answer.close()
        progress.close()


def report_end(end: dict[str, Any], *, as_lines: bool, approval_mode: str | None) -> int:
    """Say what the agent was refused and why it failed. Returns the exit code. ``approval_mode`` None: not known."""
    content = end["content"]
    for denied in () if as_lines else content.get("denied_tools", ()):
        note(refusal_line(denied, approval_mode))
    if end["type"] == "error":
        complain(content["message"])
        return FAILED
    return OK


def say_how_to_continue(session_id: str | None) -> None:
    """On a terminal; nothing without a session."""
    if sys.stderr.isatty() and session_id:
        note(dimmed(f'continue with: clinvk prompt --session {session_id[:8]} "…"'))


def restart_line(attempt: int) -> str:
    return f"the server's process has ended; the run was started again (attempt {attempt})"


def fallback_line(passed_over: list[dict[str, str]], backend: str) -> str:
    """`claude was rate limited, claude-work was overloaded; codex answers`"""
    reasons = ", ".join(f"{item['backend']} was {item['reason'].replace('_', ' ')}" for item in passed_over)
    return printable(f"{reasons}; {backend} answers")


def tool_line(name: str, input: Any) -> str:
    """A tool call on one line: `Bash: echo hi`, or with all of its input as JSON."""
    members = input if isinstance(input, dict) else {}
    main = next((members[key] for key in MAIN_INPUTS if isinstance(members.get(key), str)), None)
    return printable(f"{name}: {main or json.dumps(input, ensure_ascii=False)}")[:LINE_CHARS]


def refusal_line(denied: dict[str, str], approval_mode: str | None) -> str:
    """Which tool did not run and why, and the approval mode that allows more, if it is known and there is one."""
    wider = WIDER_APPROVAL.get(approval_mode or "")
    hint = f" (try --approval-mode {wider})" if wider else ""
    return printable(f"refused: {denied['tool']}: {denied['reason']}") + hint
