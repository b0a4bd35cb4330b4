"""Decode a CLI that writes JSON lines by rules: which lines are which event, and where its fields are.

Used for the demo backend and CLIs declared in YAML. Every rule that matches a line emits its event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.decoding.decoder import Exit
from services.decoding.exit_messages import ended_without_result
from services.decoding.fields import count_of, flat_text
from services.decoding.json_document import STOP_REASONS, USAGE_FIELDS, FieldReader
from services.decoding.lines import JsonLines
from services.events import Batch, Failed, Finished, Started, StopReason, Text, Thinking, ToolCall, ToolResult, UsageUpdate
from services.failure_kinds import classify, human
from services.usage import Usage

EVENT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "started": ("session_id", "model"),
    "text": ("text",),
    "message": ("text",),
    "thinking": ("text",),
    "tool_call": ("id", "name", "input"),
    "tool_result": ("id", "output", "is_error"),
    "usage": USAGE_FIELDS,
    "done": ("text", "stop_reason", "cost_usd", "structured_output", *USAGE_FIELDS),
    "error": ("message", "status", *USAGE_FIELDS),
}
"""Event of a rule → the fields it may fill. ``text`` is a fragment of the answer, ``message`` a complete message.

``done`` and ``error`` end the run. ``done.text`` repeats the answer; it is used only if there was no text before.
"""


@dataclass(frozen=True, slots=True)
class Exists:
    """A condition: the line has any value at the path, or has none."""

    expected: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    event: str
    when: Mapping[str, Any] = field(default_factory=dict)
    """Dotted path → required value, or an `Exists`."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Event field → dotted path."""
    adds: bool = False
    """For ``usage`` rules: counts cover a part of the run and are summed. Otherwise they are the run's total so far."""

    def matches(self, line: FieldReader) -> bool:
        for path, wanted in self.when.items():
            found = line.all(path)
            if type(wanted) is Exists:
                if bool(found) != wanted.expected:
                    return False
                continue
            for value in found:
                if value == wanted and (type(value) is bool) == (type(wanted) is bool):  # in Python, True == 1
                    break
            else:
                return False
        return True


def by_kind(rules: tuple[Rule, ...]) -> tuple[str, dict[str, list[Rule]]]:
    """The top-level field that every rule requires a text of (usually ``type``), and text → rules with their other conditions.
    Empty if there is no such field."""
    fields = [{path for path, wanted in rule.when.items() if type(wanted) is str and path.isidentifier()} for rule in rules]
    shared = set.intersection(*fields) if fields else set()
    if not shared:
        return "", {}
    field = min(shared)
    grouped: dict[str, list[Rule]] = {}
    for rule in rules:
        others = {path: wanted for path, wanted in rule.when.items() if path != field}
        grouped.setdefault(rule.when[field], []).append(replace(rule, when=others))
    return field, grouped


class RulesDecoder:
    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._rules = rules
        self._kind_field, self._by_kind = by_kind(rules)
        self._reports_results = any(rule.event == "tool_result" for rule in rules)
        self._needs_done = any(rule.event == "done" for rule in rules)
        self._lines = JsonLines()
        self._usage: Usage | None = None
        self._end: Finished | Failed | None = None
        self.is_complete = False
        self._block = 0
        self._is_new_block = False
        self._has_begun = False
        self._has_text = False
        self._has_worked = False

    def feed(self, chunk: bytes) -> Batch:
        return self._decode(self._lines.feed(chunk))

    def finish(self, exit: Exit) -> Batch:
        batch = self._decode(self._lines.flush())
        end = self._end
        if end is None and (self._needs_done or not exit.is_success or not (self._has_text or self._has_worked)):
            end = ended_without_result(exit, self._lines.noise, usage=self._usage)
        match end:
            case Failed():
                batch.append(Failed(end.kind, end.message, exit.code, end.usage or self._usage, end.cost_usd))
            case Finished() if not exit.is_success:
                batch.append(ended_without_result(exit, self._lines.noise, usage=end.usage or self._usage))
            case Finished() if not (self._has_text or self._has_worked or end.stop_reason != "end_turn"):
                batch.append(Failed("backend", "the CLI finished without an answer", exit.code, end.usage or self._usage, end.cost_usd))
            case Finished():
                batch.append(Finished(0, end.stop_reason, end.usage or self._usage, end.cost_usd, end.structured_output))
            case None:
                batch.append(Finished(0, usage=self._usage))
        return batch

    def _decode(self, objects: list[dict[str, Any]]) -> Batch:
        batch: Batch = []
        for value in objects:
            line = FieldReader(value)
            rules: Sequence[Rule] = self._rules
            if self._kind_field:  # test only the rules that can match: one lookup per line, not one per rule
                kind = value.get(self._kind_field)
                rules = self._by_kind.get(kind, ()) if type(kind) is str else ()
            for rule in rules:
                if not rule.when or rule.matches(line):
                    self._apply(rule, line, batch)
        self.is_complete = self._end is not None
        self._has_begun = self._has_begun or bool(batch)
        return batch

    def _apply(self, rule: Rule, line: FieldReader, batch: Batch) -> None:
        fields = rule.fields
        match rule.event:
            case "text" | "message":
                self._say(line.text(fields.get("text")), batch, is_whole=rule.event == "message")
            case "thinking":
                if text := line.text(fields.get("text")):
                    batch.append(Thinking(text))
            case "started":
                if not self._has_begun and not batch:
                    batch.append(Started(line.text(fields.get("session_id")) or None, line.text(fields.get("model")) or None))
            case "tool_call":
                self._has_worked = self._is_new_block = True
                id, name, input = line.text(fields.get("id")), line.text(fields.get("name")), line.first(fields.get("input"))
                batch.append(ToolCall(id, name, input, self._reports_results))
            case "tool_result":
                output = flat_text(line.first(fields.get("output")))
                batch.append(ToolResult(line.text(fields.get("id")), output, line.first(fields.get("is_error")) is True))
            case "usage":
                if usage := line.usage(fields):
                    self._usage = self._usage + usage if rule.adds and self._usage else usage
                    batch.append(UsageUpdate(self._usage))
            case "done":
                self._on_done(fields, line, batch)
            case "error":
                message = human(line.text(fields.get("message"))) or "the CLI failed without an error message"
                status = count_of(line.number(fields.get("status"))) or None
                self._end = Failed(classify(message, status), message, usage=line.usage(fields))

    def _say(self, text: str, batch: Batch, *, is_whole: bool) -> None:
        if not text:
            return
        if self._is_new_block or (is_whole and self._has_text):
            self._block += 1
        self._is_new_block = is_whole
        self._has_text = self._has_text or not text.isspace()
        batch.append(Text(text, self._block, not is_whole))

    def _on_done(self, fields: Mapping[str, str], line: FieldReader, batch: Batch) -> None:
        if not self._has_text:
            self._say(line.text(fields.get("text")), batch, is_whole=True)
        stop: StopReason = STOP_REASONS.get(line.text(fields.get("stop_reason")), "end_turn")
        cost, structured = line.number(fields.get("cost_usd")), line.first(fields.get("structured_output"))
        self._end = Finished(0, stop, line.usage(fields), cost, structured)
