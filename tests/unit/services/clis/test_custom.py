from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import yaml

from services.clis.custom import declare
from services.decoding.decoder import Exit
from services.errors import InvalidRequest
from services.events import Failed, Finished, Started, Text
from services.usage import Usage
from tests.unit.services.clis.invoked import invoked
from tests.unit.services.decoding.recorded import decode, text_of

JSONL = yaml.safe_load("""
args: [run, --json]
options:
  model: ["--model={}"]
  system_prompt: {env: {MYCLI_SYSTEM: "{file}"}}
  approval_mode: {values: {auto: [--yes], none: {argv: [--yes, --force], env: {SURE: "1"}}}}
resume: ["--resume={}"]
ephemeral: [--no-save]
output: jsonl
rules:
  - {event: started, when: {type: hello}, fields: {session_id: id}}
  - {event: text, when: {type: delta}, fields: {text: content}}
  - {event: done, when: {type: end}, fields: {output_tokens: usage.out}}
vendor_env: ["MYCLI_*"]
interrupt_signal: SIGINT
install_hint: ask us
""")


def test_a_cli_that_writes_json_lines() -> None:
    spec = declare("mycli", JSONL)
    invocation = invoked(spec, "hi", options={"model": "m", "approval_mode": "none", "system_prompt": "s"}, resume="s1", ephemeral=True)
    assert invocation.argv == ("mycli", "run", "--json", "--model=m", "--yes", "--force", "--no-save", "--resume=s1")
    assert invocation.env["MYCLI_SYSTEM"] == "/run/clinvk-1/system_prompt.txt"
    assert (invocation.stdin, invocation.env["SURE"], spec.interrupt_signal) == (b"hi", "1", 2)
    written = [{"type": "hello", "id": "s1"}, {"type": "delta", "content": "hey"}, {"type": "end", "usage": {"out": 2}}]
    events = decode(spec.decoder(), [json.dumps(line).encode() + b"\n" for line in written], Exit(0))
    assert events == [Started("s1"), Text("hey"), Finished(0, usage=Usage(0, 2))]


def test_a_cli_that_just_talks() -> None:
    spec = declare("talker", {"prompt": "arg"})
    assert invoked(spec, "--help me").argv == ("talker", "--", "--help me")
    assert invoked(spec, "--help me").stdin == b""
    assert text_of(decode(spec.decoder(), [b"words"], Exit(0))) == "words"
    assert (spec.streams_tokens, spec.can_resume, spec.can_be_ephemeral) == (True, False, True)


def test_a_cli_that_writes_one_document() -> None:
    spec = declare("doc", {"output": "json", "fields": {"text": "answer"}, "prompt": "arg", "prompt_args": ["-p={}"]})
    assert invoked(spec, "-x").argv == ("doc", "-p=-x")
    assert text_of(decode(spec.decoder(), [b'{"answer": "42"}'], Exit(0))) == "42"
    assert not spec.streams_tokens


def test_the_example_of_the_module_is_valid() -> None:
    doc = sys.modules[declare.__module__].__doc__ or ""
    mapping = yaml.safe_load(doc[doc.index("custom:") : doc.index("Every mistake")])["custom"]
    mapping.pop("fields")
    mapping.pop("prompt_args")
    assert declare("mycli", mapping).args == ("run", "--json")


def test_a_rule_asks_for_the_value_true() -> None:
    rules = yaml.safe_load("""
      - {event: message, when: {type: text}, fields: {text: t}}
      - {event: tool_result, when: {bad: true}, fields: {id: id, is_error: bad}}
      - {event: done, when: {type: result, is_error: false}}
      - {event: error, when: {type: result, is_error: true}, fields: {message: m}}
    """)
    spec = declare("mycli", {"output": "jsonl", "rules": rules})

    def end(is_error: bool) -> object:
        lines = [{"type": "text", "t": "x"}, {"type": "result", "is_error": is_error, "m": "no"}]
        return decode(spec.decoder(), [json.dumps(line).encode() + b"\n" for line in lines], Exit(0))[-1]

    assert end(False) == Finished(0)
    assert isinstance(end(True), Failed)


RULES = [{"event": "text", "fields": {"text": "t"}}]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"arg": []}, "arg: no such key"),
        ({"args": "run"}, "args: expected a list of strings, got 'run'"),
        ({"args": [1]}, "args: expected a list of strings"),
        ({"args": [""]}, "args: expected a list of strings"),
        ({"prompt": "file"}, "prompt: expected stdin | arg, got 'file'"),
        ({"prompt_args": ["{}"]}, "prompt_args: '{}' stands for the prompt, which travels through stdin"),
        ({"prompt": "arg", "prompt_args": ["-p"]}, "prompt_args: expected one '{}'"),
        ({"prompt": "arg", "prompt_args": ["{}", "{}"]}, "prompt_args: expected one '{}'"),
        ({"prompt": "arg", "prompt_args": ["-p", "{}"]}, "prompt_args: a prompt that begins with a dash would be read as a flag"),
        ({"options": []}, "options: expected a mapping"),
        ({"options": {"modle": ["x"]}}, "options.modle: no such option"),
        ({"options": {"model": "--model={}"}}, "options.model: expected a list of arguments"),
        ({"options": {"model": {"args": []}}}, "options.model.args: no such key"),
        ({"options": {"model": {"argv": [], "values": {"a": []}}}}, "options.model: expected either values, or argv and env"),
        ({"options": {"model": {"env": {"X": 1}}}}, "options.model.env: expected a mapping of names to strings"),
        ({"options": {"system_prompt": ["--system", "{}"]}}, "options.system_prompt.argv: a value that begins with a dash"),
        ({"options": {"approval_mode": {"values": {"auto": 5}}}}, "options.approval_mode.values.auto: expected a list of arguments"),
        ({"resume": ["--continue"]}, "resume: expected '{}' in it"),
        ({"output": "xml"}, "output: expected text | json | jsonl, got 'xml'"),
        ({"output": ["json"]}, "output: expected text | json | jsonl"),
        ({"fields": {"text": "x"}}, "fields: is for `output: json`"),
        ({"rules": RULES}, "rules: is for `output: jsonl`"),
        ({"output": "json"}, "fields: expected `text`"),
        ({"output": "json", "fields": {"text": "x", "txt": "y"}}, "fields.txt: no such key"),
        ({"output": "json", "fields": {"text": 5}}, "fields: expected a mapping of names to strings"),
        ({"output": "jsonl"}, "rules: expected a list of rules"),
        ({"output": "jsonl", "rules": {}}, "rules: expected a list of rules"),
        ({"output": "jsonl", "rules": ["x"]}, "rules[0]: expected a mapping"),
        ({"output": "jsonl", "rules": [{"event": "say"}]}, "rules[0].event: expected started | text"),
        ({"output": "jsonl", "rules": [{"when": {}}]}, "rules[0].event: expected started | text"),
        ({"output": "jsonl", "rules": [*RULES, {"event": "text"}]}, "rules[1].fields: expected `text`"),
        ({"output": "jsonl", "rules": [{"event": "text", "fields": {"text": "t", "id": "i"}}]}, "rules[0].fields.id: no such key"),
        (
            {"output": "jsonl", "rules": [{"event": "text", "fields": {"text": "t"}, "when": {"a": [1]}}]},
            "rules[0].when.a: expected a value to compare with, or {exists: true}",
        ),
        *(
            ({"output": "jsonl", "rules": [*RULES, rule]}, f"rules[1].{message}")
            for rule, message in (
                ({"event": "done", "when": {"a": {"is": 1}}}, "when.a.is: no such key"),
                ({"event": "done", "when": {"a": {"exists": "yes"}}}, "when.a.exists: expected true or false"),
                ({"event": "done", "add": True}, "add: is for `event: usage`"),
                ({"event": "usage", "add": "yes"}, "add: expected true or false"),
                (
                    {"event": "usage", "when": {"usage": True}, "fields": {"input_tokens": "x + usage.in"}},
                    "when.usage: is ambiguous: `fields.input_tokens` reads usage.in",
                ),
                (
                    {"event": "tool_call", "when": {"tool": True}, "fields": {"name": "tool"}},
                    "when.tool: is ambiguous: `fields.name` reads tool",
                ),
            )
        ),
        (
            {"output": "jsonl", "rules": [*RULES, {"event": "usage"}, {"event": "usage", "add": True}]},
            "rules[2].add: either every `usage` rule adds or none",
        ),
        ({"output": "jsonl", "rules": [{"event": "done"}]}, "rules: expected one that gives the answer"),
        ({"streams_tokens": "yes"}, "streams_tokens: expected true or false"),
        ({"interrupt_signal": "SIGKILL"}, "interrupt_signal: expected SIGTERM | SIGINT"),
        ({"install_hint": 5}, "install_hint: expected a string"),
        ({"fixed_env": {"": "x"}}, "fixed_env: expected a mapping of names to strings"),
        ({"vendor_env": "X"}, "vendor_env: expected a list of strings"),
    ],
)
def test_mistakes_are_told_with_their_key(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        declare("mycli", mapping)
    assert caught.value.message.startswith(message), caught.value.message
