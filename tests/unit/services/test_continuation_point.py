"""Which requests meet at a point of a conversation: those that are the same to the letter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.history import Image
from services.requests import RunRequest
from services.sessions.conversation_digest import point_of
from services.sessions.transcript import Turn

REQUEST = RunRequest(prompt="x", backend="claude", options={"model": "sonnet", "system_prompt": "Be kind."}, caller="ada")
ASKED = [Turn("user", "one", (Image("image/png", b"1"),))]
GONE_ON = [*ASKED, Turn("assistant", "answer"), Turn("user", "two")]


def before(said: list[Turn] = GONE_ON, cwd: str = "/project", **changes: Any) -> bytes | None:
    point = point_of(replace(REQUEST, **changes), cwd, said)
    assert point is not None
    return point.before


def after() -> bytes:
    point = point_of(REQUEST, "/project", ASKED)
    assert point is not None
    return point.after("answer")


def test_the_request_that_goes_on_from_an_answer_meets_it() -> None:
    assert before() == after()
    assert before(options={**REQUEST.options, "max_tokens": 5}, stop=("x",), request_id="r", timeout_s=3.0, ephemeral=True) == after()


@pytest.mark.parametrize("changes", [
    {"caller": "bob"},
    {"backend": "codex"},
    {"cwd": "/project/"},
    {"options": {"model": "opus", "system_prompt": "Be kind."}},
    {"options": {"model": "sonnet", "system_prompt": "Be kind"}},
    {"options": {"model": "sonnet", "system_prompt": "Be kind.", "effort": "low"}},
    {"options": {"model": "sonnet"}},
    {"extra": ("--tools=",)},
    {"said": [Turn("user", "one"), *GONE_ON[1:]]},
    {"said": [Turn("user", "one", (Image("image/png", b"2"),)), *GONE_ON[1:]]},
    {"said": [Turn("user", "one", (Image("image/jpeg", b"1"),)), *GONE_ON[1:]]},
    {"said": [*ASKED, Turn("assistant", "answer "), GONE_ON[2]]},
    {"said": [*ASKED, Turn("tool_call", "answer"), GONE_ON[2]]},
    {"said": [*ASKED, Turn("assistant", "ans"), Turn("assistant", "wer"), GONE_ON[2]]},
    {"said": [Turn("user", "zero"), *GONE_ON]},
    {"said": [*GONE_ON, Turn("assistant", "answer"), Turn("user", "three")]},
    {"said": ASKED},
])  # fmt: skip
def test_anything_else_does_not(changes: dict[str, Any]) -> None:
    assert before(**changes) != after()


def test_several_messages_since_the_answer_are_all_new() -> None:
    point = point_of(REQUEST, "/project", [*GONE_ON, Turn("user", "three")])
    assert point is not None
    assert (point.before, [turn.text for turn in point.latest]) == (after(), ["two", "three"])


def test_an_assistant_s_last_word_is_no_point() -> None:
    assert point_of(REQUEST, "/project", GONE_ON[:2]) is None
    assert point_of(REQUEST, "/project", []) is None


def test_halves_of_surrogate_pairs_are_no_obstacle() -> None:
    assert before([Turn("user", "\ud800"), Turn("assistant", "a"), Turn("user", "b")]) is not None
