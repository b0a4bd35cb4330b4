"""Results of tools: text, and little structured content, because Claude Code shows the model the latter instead of the text. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from services.errors import ClinvkError
from services.requests import RunResult
from services.runs.record import ENDED, Run

ToolResult = dict[str, Any]
"""A `CallToolResult`."""
FIELDS = ("output", "session_id", "backend", "error", "run_id")


def tool_result(text: str, structured: Mapping[str, Any] | None = None, *, is_error: bool = False, more: Iterable[str] = ()) -> ToolResult:
    """``more``: further texts."""
    content = [{"type": "text", "text": one} for one in (text, *more)]
    return {"content": content, **({"structuredContent": structured} if structured else {}), "isError": is_error}


def refusal_result(error: ClinvkError) -> ToolResult:
    """A call that started nothing; the model may correct it."""
    message = error.message
    if error.retry_after_s is not None:
        message += f"; try again in {max(1, math.ceil(error.retry_after_s))} s"
    return tool_result(message, _fields({"output": "", "error": message}), is_error=True)


def run_result(answer: Mapping[str, Any]) -> ToolResult:
    """``answer``: of one run, with `FIELDS`."""
    fields = _fields(answer)
    session = (f"session_id: {fields['session_id']}",) if fields["session_id"] else ()
    return tool_result(_text(fields), fields, is_error=fields["error"] is not None, more=session)


def runs_result(answers: Iterable[Mapping[str, Any]]) -> ToolResult:
    """Of several runs at once. It is an error if all of them failed."""
    results = [_fields(answer) for answer in answers]
    text = "\n\n".join(f"## {number}. {one['backend']}\n\n{_text(one)}" for number, one in enumerate(results, 1))
    return tool_result(text, {"results": results}, is_error=all(one["error"] is not None for one in results))


def stored_result(run: Run) -> ToolResult:
    """A run that is looked up by its id, in the background or not."""
    status = {"run_id": run.id, "status": run.status}
    if run.status not in ENDED:
        then = "its user must answer a question first" if run.status == "waiting" else "call `wait` again"
        return tool_result(f"{run.id} is {run.status}; {then}", status)
    answer = orjson.loads(run.result) if run.result else {}
    if "results" in answer:
        return runs_result({**one, "run_id": run.id} for one in answer["results"])
    if not isinstance(answer.get("output"), str):  # the answer of another surface, or none
        answer = {"output": orjson.dumps(answer).decode() if answer else "", "error": run.error and run.error.message}
    return run_result({"session_id": run.session_id, "backend": run.backend, **answer, "run_id": run.id})


def answer_of(result: RunResult, run_id: str) -> dict[str, Any]:
    return {
        "output": result.output,
        "session_id": result.session_id,
        "backend": result.backend,
        "error": result.failure.message if result.failure else None,
        "run_id": run_id,
    }


def _fields(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: answer.get(name) for name in FIELDS}


def _text(fields: Mapping[str, Any]) -> str:
    return "\n\n".join(part for part in (fields["output"], fields["error"] and f"error: {fields['error']}") if part)
