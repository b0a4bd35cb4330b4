"""Whatever a CLI writes, a decoder answers with the grammar of a run and never raises."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.clis.claude.decoder import ClaudeDecoder
from services.clis.codex.decoder import CodexAppServerDecoder
from services.clis.codex.exec_decoder import CodexExecDecoder
from services.clis.demo.spec import RULES
from services.clis.gemini.decoder import GeminiDecoder
from services.decoding.decoder import Decoder, Exit
from services.decoding.json_document import CLAUDE_JSON, DocumentDecoder
from services.decoding.rules import RulesDecoder
from services.decoding.text import PlainDecoder
from tests.unit.services.decoding.recorded import FOLDER, decode

DECODERS: dict[str, Callable[[], Decoder]] = {
    "claude": ClaudeDecoder,
    "codex_exec": CodexExecDecoder,
    "codex_app_server": CodexAppServerDecoder,
    "gemini": GeminiDecoder,
    "plain": PlainDecoder,
    "document": partial(DocumentDecoder, CLAUDE_JSON),
    "rules": partial(RulesDecoder, RULES),
}

ANY = pytest.mark.parametrize("make", DECODERS.values(), ids=DECODERS)
exits = st.builds(Exit, st.none() | st.integers(0, 255), st.text(max_size=50)) | st.just(Exit(None, was_stopped=True))

# The words that decoders look for, so that made-up lines get past the first question.
WORDS = sorted(
    {
        word
        for path in FOLDER.glob("*/*/*.jsonl")
        if path.stem.partition(".")[0] in ("partial-tool", "json-schema", "tool-exec", "tool-yolo", "err-401", "warm-appserver-resume")
        for line in path.read_text().splitlines()
        for word in line.replace("{", '"').split('"')
        if word.replace("_", "").replace("/", "").replace(".", "").isalpha() and len(word) < 30
    }
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(WORDS)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5), max_leaves=12
)
lines = st.dictionaries(st.sampled_from(WORDS), values, max_size=6) | st.fixed_dictionaries({"type": st.sampled_from(WORDS)})


@ANY
@settings(max_examples=150, deadline=None)
@given(chunks=st.lists(st.binary(max_size=40), max_size=6), exit=exits)
def test_any_bytes(make: Callable[[], Decoder], chunks: list[bytes], exit: Exit) -> None:
    decode(make(), chunks, exit)


@ANY
@settings(max_examples=200, deadline=None)
@given(written=st.lists(lines, max_size=8), exit=exits)
def test_any_json_lines(make: Callable[[], Decoder], written: list[dict[str, Any]], exit: Exit) -> None:
    decode(make(), [json.dumps(line).encode() + b"\n" for line in written], exit)


def with_another_value(data: st.DataObject, line: dict[str, Any]) -> dict[str, Any]:
    """The line with a value of it, at any depth, replaced by any other."""
    at: Any = line
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not (isinstance(at[key], dict | list) and at[key] and data.draw(st.booleans())):
            at[key] = data.draw(values)
            return line
        at = at[key]


RECORDED: dict[str, list[bytes]] = {
    name: [line for path in sorted(FOLDER.glob(pattern)) for line in path.read_bytes().splitlines()]
    for name, pattern in {
        "claude": "claude/*/partial*.stdout.jsonl",
        "codex_exec": "codex/*/tool*.stdout.jsonl",
        "gemini": "gemini/*/tool*.stdout.jsonl",
    }.items()
}


@pytest.mark.parametrize("name", RECORDED)
@settings(max_examples=200, deadline=None)
@given(data=st.data(), exit=exits)
def test_real_lines_in_any_order(name: str, data: st.DataObject, exit: Exit) -> None:
    order = data.draw(st.lists(st.sampled_from(RECORDED[name]), max_size=12))
    decode(DECODERS[name](), [line + b"\n" for line in order], exit)


@pytest.mark.parametrize("name", RECORDED)
@settings(max_examples=150, deadline=None)
@given(data=st.data(), exit=exits)
def test_real_lines_with_a_value_of_another_type(name: str, data: st.DataObject, exit: Exit) -> None:
    line = with_another_value(data, json.loads(data.draw(st.sampled_from(RECORDED[name]))))
    decode(DECODERS[name](), [json.dumps(line).encode() + b"\n"], exit)


@ANY
def test_a_line_of_any_length_is_decoded(make: Callable[[], Decoder]) -> None:
    """`server.line_limit_bytes` alone says how long a line may be, and drivers enforce it."""
    decode(make(), [b'{"a": "', b"x" * (65 << 20), b'"}\n'], Exit(1))
