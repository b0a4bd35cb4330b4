from __future__ import annotations

import json

import pytest

from services.decoding.decoder import Exit
from services.decoding.json_document import DocumentDecoder
from services.decoding.text import PlainDecoder
from services.events import Failed, Finished, Started, Text
from services.usage import Usage
from tests.unit.services.decoding.recorded import decode, failed, finished, run, text_of


def test_plain_text_streams_and_never_cuts_a_character() -> None:
    text = "héllo 😀 wörld\n"
    events = decode(PlainDecoder(), (bytes([byte]) for byte in text.encode()), Exit(0))
    assert text_of(events) == text
    assert events[-1] == Finished(0)


def test_plain_bytes_that_are_no_text_are_marked() -> None:
    assert text_of(decode(PlainDecoder(), [b"a\xff\xfeb\xf0\x9f"], Exit(0))) == "a\ufffd\ufffdb\ufffd"


@pytest.mark.parametrize(
    ("output", "exit", "message"),
    [
        (b"", Exit(0), "the CLI ended without an answer"),
        (b" \n", Exit(0), "the CLI ended without an answer"),
        (b"half an ans", Exit(1, "boom: no network\n"), "the CLI failed with exit code 1: boom: no network"),
        (b"error: bad key", Exit(3), "the CLI failed with exit code 3: error: bad key"),
        (b"half", Exit(143), "the CLI was ended by SIGTERM before it had finished: half"),
        (b"half", Exit(None), "the CLI was stopped before it had finished: half"),
    ],
)
def test_plain_failures(output: bytes, exit: Exit, message: str) -> None:
    assert failed(decode(PlainDecoder(), [output], exit)).message == message


def test_documents_of_claude_and_gemini() -> None:
    claude, gemini = run("claude/json"), run("gemini/json")
    assert text_of(claude) == text_of(gemini) == "tok0 tok1 tok2 tok3 tok4"
    assert finished(claude).usage == Usage(107, 5, 90, 0, 7)
    assert finished(gemini).usage == Usage(100, 20, 90, 12)
    assert finished(claude).cost_usd == pytest.approx(0.00015825)
    assert gemini[0] == Started("49191964-f45f-4773-9962-09d41e9b7c6d")


FIELDS = {
    "text": "out.text",
    "error": "error.message",
    "is_error": "failed",
    "status": "error.code",
    "stop_reason": "why",
    "input_tokens": "a + b",
}


def read(document: object, exit: Exit = Exit(0), before: str = "") -> list[object]:  # noqa: B008 frozen
    return decode(DocumentDecoder(FIELDS), [before.encode(), json.dumps(document).encode()], exit)


def test_a_document_after_a_banner() -> None:
    assert text_of(read({"out": {"text": "hi"}}, before="Warning: {old}\nWelcome [you]\n")) == "hi"


@pytest.mark.parametrize(
    ("document", "kind", "message"),
    [
        ({"out": {"text": "looks fine"}, "failed": True}, "backend", "looks fine"),
        ({"error": {"message": "slow down", "code": 429}}, "rate_limited", "slow down"),
        ({"out": {"text": ""}}, "backend", "the CLI ended without an answer"),
        ({}, "backend", "the CLI ended without an answer"),
        ({"out": 5}, "backend", "the CLI ended without an answer"),
    ],
)
def test_a_document_that_is_no_answer(document: object, kind: str, message: str) -> None:
    end = failed(read(document))
    assert (end.kind, end.message) == (kind, message)


def test_a_document_is_no_answer_after_a_failed_exit() -> None:
    assert failed(read({"out": {"text": "partly"}}, Exit(2))).exit_code == 2


def test_a_document_is_no_answer_after_an_unknown_exit() -> None:
    end = failed(read({"out": {"text": "whole"}, "a": 3}, Exit(None)))
    assert (end.usage, end.exit_code) == (Usage(3), None)
    assert "exit code is unknown" in end.message


@pytest.mark.parametrize("output", [b"", b"no json", b'{"out": {"text": "cut', b"42", b"\xff\xfe"])
def test_garbled_documents_fail_whatever_the_exit_code(output: bytes) -> None:
    assert isinstance(decode(DocumentDecoder(FIELDS), [output], Exit(0))[-1], Failed)


def test_numbers_from_several_paths_are_added_and_wrong_ones_left_out() -> None:
    assert finished(read({"out": {"text": "x"}, "a": 3, "b": 4})).usage == Usage(7)
    assert finished(read({"out": {"text": "x"}, "a": "many", "b": 4})).usage == Usage(4)
    assert finished(read({"out": {"text": "x"}})).usage is None
    assert finished(read({"out": {"text": "x"}, "why": "length"})).stop_reason == "max_tokens"


def test_plain_pieces_are_partial() -> None:
    assert PlainDecoder().feed(b"x") == [Text("x")]
