"""The pieces that the decoders share."""

from __future__ import annotations

import pytest

from services.decoding.decoder import Exit
from services.decoding.exit_messages import ended_without_result, last_words
from services.decoding.fields import count_of, dig, flat_text, to_json
from services.decoding.lines import JsonLines, LineSplitter, to_object
from services.decoding.replay import StreamReplay
from services.failure_kinds import classify, human


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ('[API Error: {"error":{"code":401,"message":"bad key","status":"UNAUTHENTICATED"}}]', "API Error: 401 bad key"),
        ('{"error": {"message": "too much", "type": "invalid_request_error", "code": null}}', "too much"),
        ('{"error":{"code":400,"message":"{\\n  \\"error\\": {\\"code\\": 400, \\"message\\": \\"inner\\"}}"}}', "400 inner"),
        ("[API Error: slow down]\nPlease wait", "API Error: slow down\nPlease wait"),
        ('{"detail": "no"} trailing', "no trailing"),
        ("nothing to unwrap {here}", "nothing to unwrap {here}"),
        ('{"other": 1}', '{"other": 1}'),
        ("{" * 2000, "{" * 2000),
        ("", ""),
    ],
)
def test_messages_are_taken_out_of_their_json(message: str, told: str) -> None:
    assert human(message) == told


@pytest.mark.parametrize(
    ("message", "status", "kind"),
    [
        ("prompt is too long: 300000 tokens > 200000 maximum", 400, "prompt_too_long"),
        ("API Error: 400 something else", None, "invalid_prompt"),
        ("models/gemini-9 is not found for API version v1beta", None, "unknown_model"),
        ("unexpected status 529", None, "overloaded"),
        ("it just broke", None, "backend"),
        ("it just broke", 413, "prompt_too_long"),
    ],
)
def test_kinds(message: str, status: int | None, kind: str) -> None:
    assert classify(message, status) == kind


def test_last_words_are_without_chatter_colours_and_stack_traces() -> None:
    stderr = (
        "Reading additional input from stdin...\n\x1b[31mError: boom\x1b[0m\n    at f (file:1:2)\n"
        "[STARTUP] Phase 'x' was started\n\nRipgrep is not available. Falling back\n"
    )
    assert last_words(stderr) == "Error: boom"


@pytest.mark.parametrize(
    ("code", "how"),
    [
        (None, "the CLI was stopped before it had finished"),
        (0, "the CLI ended before it had finished its answer, though with exit code 0"),
        (1, "the CLI failed with exit code 1"),
        (143, "the CLI was ended by SIGTERM before it had finished"),
        (255, "the CLI failed with exit code 255"),
    ],
)
def test_how_it_ended(code: int | None, how: str) -> None:
    assert ended_without_result(Exit(code)).message == how


def test_messages_have_a_limit() -> None:
    assert len(ended_without_result(Exit(1, "x" * 100_000)).message) < 2100
    assert len(ended_without_result(Exit(1), "x" * 100_000).message) < 2100


def test_half_of_a_surrogate_pair_does_not_lose_the_line() -> None:
    assert to_object(b'{"a": "x\\ud83d", "b": "\\ud83d\\ude00"}') == {"a": "x?", "b": "😀"}
    assert to_object(b'{"a": "\\ud83d') is None


def test_noise_is_kept_for_the_message_and_bounded() -> None:
    lines = JsonLines()
    assert lines.feed(b'warning: x\n{"a":1}\n[1]\n' + b"y" * 5000 + b"\n") == [{"a": 1}]
    assert lines.noise == "y" * 1999
    assert lines.flush() == []


def test_lines_are_cut_at_newlines_alone() -> None:
    text = '{"a":"x\u2028y\u2029\x85z\\n"}'
    assert LineSplitter().feed(text.encode() + b"\n") == [text.encode()]


@pytest.mark.parametrize(
    ("value", "count"), [(5, 5), (5.9, 5), (-1, 0), (True, 0), ("7", 0), (None, 0), (float("inf"), 0), (float("nan"), 0), ([], 0)]
)
def test_counts(value: object, count: int) -> None:
    assert count_of(value) == count


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        ([{"type": "text", "text": "a"}, {"type": "image", "source": {}}, "b"], "a\n[image]\nb"),
        ({"a": 1}, '{"a":1}'),
        (7, "7"),
    ],
)
def test_flat_text(content: object, text: str) -> None:
    assert flat_text(content) == text


def test_paths() -> None:
    value = {"a": [{"b": 1}, {"b": 2}], "c": {"x": {"n": 3}, "y": {"n": 4}}}
    assert list(dig(value, "a.*.b")) == [1, 2]
    assert list(dig(value, "c.*.n")) == [3, 4]
    assert list(dig(value, "a.1.b")) == [2]
    assert list(dig(value, "a.9.b")) == list(dig(value, "a.b")) == list(dig(value, "x.y")) == list(dig(value, "a.1.b.c")) == []


def test_json_that_is_nested_too_deep_is_no_error() -> None:
    value: list[object] = []
    for _ in range(500):
        value = [value]
    assert to_json(value) == ""


def test_a_retelling_in_other_pieces() -> None:
    retelling = StreamReplay()
    assert [retelling.new(piece) for piece in ("One", " two")] == ["One", " two"]
    retelling.restart()
    assert [retelling.new(piece) for piece in ("O", "ne t", "wo three", " four")] == ["", "", " three", " four"]
    retelling.close()
    assert not retelling.differs
