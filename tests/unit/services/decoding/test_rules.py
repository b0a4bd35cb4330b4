from __future__ import annotations

import json

import pytest

from services.decoding.decoder import Exit
from services.decoding.json_document import FieldReader
from services.decoding.rules import Exists, Rule, RulesDecoder
from services.events import Event, Failed, Finished, Started, Text, Thinking, ToolCall, ToolResult, UsageUpdate
from services.usage import Usage
from tests.unit.services.decoding.recorded import decode, failed, finished, text_of

RULES = (
    Rule("started", {"type": "hello"}, {"session_id": "id", "model": "model"}),
    Rule("text", {"type": "piece"}, {"text": "data.text"}),
    Rule("message", {"type": "message", "role": "assistant"}, {"text": "parts.*.text"}),
    Rule("thinking", {"type": "thought"}, {"text": "text"}),
    Rule("tool_call", {"tool": Exists()}, {"id": "id", "name": "tool", "input": "args"}),
    Rule("tool_result", {"type": "tool_done"}, {"id": "id", "output": "out", "is_error": "bad"}),
    Rule("usage", {"usage": Exists()}, {"input_tokens": "usage.in", "output_tokens": "usage.out"}),
    Rule("done", {"type": "bye"}, {"text": "all", "stop_reason": "why", "cost_usd": "cost"}),
    Rule("error", {"type": "oops"}, {"message": "msg", "status": "status"}),
)


def read(*lines: object, exit: int | None = 0, rules: tuple[Rule, ...] = RULES) -> list[Event]:
    return decode(RulesDecoder(rules), [json.dumps(line).encode() + b"\n" for line in lines], Exit(exit))


BYE = {"type": "bye"}


def test_every_event_can_be_told() -> None:
    events = read(
        {"type": "hello", "id": "s", "model": "m"},
        {"type": "thought", "text": "hmm"},
        {"type": "piece", "data": {"text": "one"}},
        {"tool": "ls", "id": "1", "args": {"a": 1}},
        {"type": "tool_done", "id": "1", "out": [{"text": "x"}], "bad": True},
        {"type": "piece", "data": {"text": "two"}},
        {"type": "bye", "why": "length", "cost": 0.5, "usage": {"in": 3, "out": 4}},
    )
    assert events == [
        Started("s", "m"),
        Thinking("hmm"),
        Text("one", 0),
        ToolCall("1", "ls", {"a": 1}),
        ToolResult("1", "x", is_error=True),
        Text("two", 1),
        UsageUpdate(Usage(3, 4)),
        Finished(0, "max_tokens", Usage(3, 4), 0.5),
    ]


def test_whole_messages_are_blocks_of_their_own() -> None:
    one = {"type": "message", "role": "assistant", "parts": [{"text": "a"}, {"text": "b"}]}
    assert text_of(read(one, {"type": "message", "role": "user", "parts": [{"text": "echo"}]}, one, BYE)) == "a\nb|a\nb"


def test_the_text_of_done_counts_where_there_was_none() -> None:
    assert text_of(read({"type": "bye", "all": "everything"})) == "everything"
    assert text_of(read({"type": "piece", "data": {"text": "it"}}, {"type": "bye", "all": "it"})) == "it"


@pytest.mark.parametrize(
    ("lines", "exit", "message"),
    [
        ([{"type": "piece", "data": {"text": "x"}}], 0, "the CLI ended before it had finished its answer, though with exit code 0"),
        ([{"type": "piece", "data": {"text": "x"}}, BYE], 3, "the CLI failed with exit code 3"),
        ([BYE], 0, "the CLI finished without an answer"),
        ([{"type": "oops", "msg": "no such model: model x not found", "status": 404}], 0, "no such model: model x not found"),
        ([{"type": "piece", "data": {"text": "x"}}, {"type": "oops"}], 1, "the CLI failed without an error message"),
        ([], 0, "the CLI ended before it had finished its answer, though with exit code 0"),
    ],
)
def test_failures(lines: list[object], exit: int, message: str) -> None:
    assert failed(read(*lines, exit=exit)).message == message


def test_an_error_may_be_followed_by_work_that_ends_well() -> None:
    assert isinstance(read({"type": "oops", "msg": "x"}, {"type": "piece", "data": {"text": "x"}}, BYE)[-1], Finished)


def test_without_a_rule_for_the_end_the_exit_code_says_it() -> None:
    rules = (Rule("text", {"t": Exists()}, {"text": "t"}),)
    assert isinstance(read({"t": "x"}, rules=rules)[-1], Finished)
    assert isinstance(read({"t": "x"}, exit=1, rules=rules)[-1], Failed)
    assert isinstance(read(rules=rules)[-1], Failed)
    assert isinstance(read({"other": 1}, rules=rules)[-1], Failed)


def test_an_unknown_exit_is_a_failure() -> None:
    piece = {"type": "piece", "data": {"text": "x"}}
    assert failed(read(piece, {**BYE, "usage": {"in": 3, "out": 4}}, exit=None)).usage == Usage(3, 4)
    assert isinstance(read({"t": "x"}, exit=None, rules=(Rule("text", {"t": Exists()}, {"text": "t"}),))[-1], Failed)


@pytest.mark.parametrize(
    ("wanted", "matching", "others"),
    [
        (True, [True], [False, 1, "true", None]),
        (False, [False], [True, 0, "", None]),
        (1, [1, 1.0], [True, "1"]),
        (None, [None], [False, 0, ""]),
        ("true", ["true"], [True]),
        (Exists(), [True, False, None, 0, "x", {}], []),
    ],
)
def test_a_condition_is_a_value_of_its_own_type(wanted: object, matching: list[object], others: list[object]) -> None:
    rule = Rule("text", {"a": wanted}, {"text": "t"})
    assert [value for value in (*matching, *others) if rule.matches(FieldReader({"a": value}))] == matching
    assert not rule.matches(FieldReader({"t": "x"}))


def test_a_condition_can_be_that_nothing_is_there() -> None:
    rule = Rule("text", {"a.b": Exists(False)}, {"text": "t"})
    assert [rule.matches(FieldReader(line)) for line in ({}, {"a": {"b": None}}, {"a": 1})] == [True, False, True]


def test_usage_of_parts_is_added_and_the_last_total_counts() -> None:
    steps = [{"t": "x", "in": 3, "out": 4}, {"in": 5, "out": 6}]
    text = Rule("text", {}, {"text": "t"})
    fields = {"input_tokens": "in", "output_tokens": "out"}
    adding = read(*steps, rules=(text, Rule("usage", {}, fields, adds=True)))
    assert [event.usage for event in adding if isinstance(event, UsageUpdate)] == [Usage(3, 4), Usage(8, 10)]
    assert finished(adding).usage == Usage(8, 10)
    assert finished(read(*steps, rules=(text, Rule("usage", {}, fields)))).usage == Usage(5, 6)


def test_a_rule_without_a_condition_reads_every_line() -> None:
    rules = (Rule("text", {}, {"text": "t"}),)
    assert finished(read({"t": "a"}, {"x": 1}, {"t": "b"}, rules=rules))
    assert text_of(read({"t": "a"}, {"x": 1}, {"t": "b"}, rules=rules)) == "ab"
