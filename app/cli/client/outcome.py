"""What came of a run that has ended: its output, what the agent was refused, its error, the exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app.cli.client.answer import answer_writer
from app.cli.client.connect import FAILED, OK
from app.cli.client.events import refusal_line, say_how_to_continue
from app.cli.client.parts import MEMBERS, show_results, verdict
from app.cli.client.screen import complain, note

Result = dict[str, Any]


def _chat_output(result: Result) -> str:
    return "".join(choice["message"]["content"] or "" for choice in result["choices"])


def _message_output(result: Result) -> str:
    return "".join(part.get("text", "") for part in result["content"])


def _response_output(result: Result) -> str:
    parts = (part for item in result["output"] if item["type"] == "message" for part in item["content"])
    return "".join(part.get("text", "") for part in parts)


OUTPUT_OF: Mapping[str, Callable[[Result], str]] = {
    "prompt": lambda result: result["output"] or "",
    "resume": lambda result: result["output"] or "",
    "chat": _chat_output,
    "message": _message_output,
    "response": _response_output,
}
"""Kind of run → the text of its result."""


def show_output(run: dict[str, Any]) -> None:
    """Show the result as the command that made the run would have done; nothing if there is none."""
    result, kind = run["result"], run["kind"]
    if result and kind in MEMBERS:
        show_results(result, kind, as_json=False)
    elif result:
        answer = answer_writer(lambda: None)
        answer.write(OUTPUT_OF[kind](result))
        answer.close()


def report_outcome(run: dict[str, Any]) -> int:
    """Say on standard error how the run ended. Returns the exit code."""
    for denied in (run["result"] or {}).get("denied_tools", ()):
        note(refusal_line(denied, None))
    if run["error"]:
        complain(run["error"]["message"])
        return FAILED
    if run["kind"] in MEMBERS:
        return verdict(run["result"])
    say_how_to_continue(run["session_id"])
    return OK
