"""Gemini CLI's ``-o stream-json`` (recordings/gemini).

Its traps: the first ``message`` is the user's own; an error ends the run with exit code 0 as well as with others; a
finished run without a ``result`` line (SIGTERM) exits with 0 too. The exit code of an API error is its status, cut to a byte.

After a faulty stream the CLI asks again and its output simply repeats, with nothing in it to tell a repeat from an answer
that says the same words twice. So the backend switches that off (`services.clis.gemini.spec`); what is left to do here is
nothing.
"""

from __future__ import annotations

from typing import Any

from services.decoding.decoder import Exit
from services.decoding.exit_messages import ended_without_result, finished, last_words, with_denials
from services.decoding.fields import count_of, flat_text, has_counts, map_of, text_of
from services.decoding.lines import JsonLines
from services.events import Batch, Denial, Failed, Started, Text, ToolCall, ToolResult
from services.failure_kinds import classify, human
from services.usage import Usage

WRITING_TOOLS = ["run_shell_command", "write_file", "replace"]
"""Left out of what the model is offered where the approval mode would have to ask: calling one is then "not registered"."""

OUTSIDE_PLAN = "Access denied: plan path"


class GeminiDecoder:
    def __init__(self) -> None:
        self._lines = JsonLines()
        self._result: dict[str, Any] | None = None
        self._error = ""
        self._has_begun = False
        self._block = 0
        self._is_new_block = False
        self._has_answered = False
        self._names: dict[str, str] = {}  # of the tools that were called, by the call's id
        self._denials: list[Denial] = []

    @property
    def is_complete(self) -> bool:
        return self._result is not None

    def feed(self, chunk: bytes) -> Batch:
        return self._decode(self._lines.feed(chunk))

    def finish(self, exit: Exit) -> Batch:
        batch = self._decode(self._lines.flush())
        if self._result is None:
            batch.append(ended_without_result(exit, self._error or self._lines.noise, status=api_status(exit.code)))
            return with_denials(batch, self._denials)
        usage = to_usage(map_of(self._result.get("stats")))
        if self._result.get("status") != "success":
            batch.append(self._failed(self._result, usage, exit))
        elif not self._has_answered:
            batch.append(Failed("backend", self._error or "Gemini finished without an answer", exit.code, usage))
        else:
            batch.append(finished(exit, usage=usage))
        return with_denials(batch, self._denials)

    def _decode(self, objects: list[dict[str, Any]]) -> Batch:
        batch: Batch = []
        for line in objects:
            match line:
                case {"type": "message", "role": "assistant", "content": str(text)}:
                    self._say(text, batch)
                case {"type": "tool_use", "tool_id": str(id), "tool_name": str(name)}:
                    self._has_answered = self._is_new_block = True
                    self._names[id] = name
                    batch.append(ToolCall(id, name, line.get("parameters")))
                case {"type": "tool_result", "tool_id": str(id)}:
                    output = flat_text(line.get("output")) or text_of(map_of(line.get("error")).get("message"))
                    batch.append(ToolResult(id, output, line.get("status") == "error"))
                    name = self._names.pop(id, "")
                    if _is_denied(name, text_of(map_of(line.get("error")).get("type")), output):
                        self._denials.append(Denial(name, output))
                case {"type": "init"} if not self._has_begun and not batch:
                    batch.append(Started(text_of(line.get("session_id")) or None, text_of(line.get("model")) or None))
                case {"type": "error", "message": str(text)} if line.get("severity") != "warning":
                    self._error = human(text)
                case {"type": "result"}:
                    self._result = line
        self._has_begun = self._has_begun or bool(batch)
        return batch

    def _say(self, text: str, batch: Batch) -> None:
        if not text:
            return
        if self._is_new_block:
            self._is_new_block = False
            self._block += 1
        self._has_answered = self._has_answered or not text.isspace()
        batch.append(Text(text, self._block))

    def _failed(self, result: dict[str, Any], usage: Usage | None, exit: Exit) -> Failed:
        said = last_words(exit.stderr_tail)
        message = human(text_of(map_of(result.get("error")).get("message"))) or self._error or said or "Gemini failed and did not say why"
        kind = classify(message, api_status(exit.code))
        if kind == "backend":
            kind = classify(said)  # "ModelNotFoundError" stands there alone (recordings gemini/err-404-model)
        return Failed(kind, message, exit.code, usage)


def _is_denied(name: str, error: str, output: str) -> bool:
    """Whether the CLI's own rules, not the tool, failed the call (recordings gemini/tool-default, tool-plan)."""
    return (error == "tool_not_registered" and name in WRITING_TOOLS) or (bool(error) and output.startswith(OUTSIDE_PLAN))


def api_status(code: int | None) -> int | None:
    """The HTTP status behind an exit code: 401 leaves as 145 (recordings gemini/err-*). 5xx up to 511 read the same way."""
    return code + 256 if code is not None and code >= 144 else None


def to_usage(stats: dict[str, Any]) -> Usage | None:
    """Gemini's input includes the cached tokens; its thoughts are in the total alone. None without any number."""
    if not has_counts(stats, ("input_tokens", "output_tokens", "cached", "total_tokens")):
        return None
    read, written = count_of(stats.get("input_tokens")), count_of(stats.get("output_tokens"))
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cached_tokens=count_of(stats.get("cached")),
        reasoning_tokens=max(0, count_of(stats.get("total_tokens")) - read - written),
    )
