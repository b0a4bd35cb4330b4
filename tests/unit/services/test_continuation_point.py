"""Which requests meet at a point of a conversation: those that are the same to the letter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.history import Call, Image, Message, Result, Text, said
from services.requests import RunRequest
from services.sessions.conversation_digest import point_of

REQUEST = RunRequest(prompt="x", backend="claude", options={"model": "sonnet", "system_prompt": "Be kind."}, caller="ada")
ASKED = [said("user", "one", Image("image/png", b"1"))]
GONE_ON = [*ASKED, said("assistant", "answer"), said("user", "two")]


def before(spoken: list[Message] = GONE_ON, cwd: str = "/project", **changes: Any) -> bytes | None:
    point = point_of(replace(REQUEST, history=tuple(spoken), **changes), cwd)
    assert point is not None
    return point.before


def after() -> bytes:
    point = point_of(replace(REQUEST, history=tuple(ASKED)), "/project")
    assert point is not None
    return point.after("answer")


def test_the_request_that_goes_on_from_an_answer_meets_it() -> None:
    assert before() == after()
    assert before(options={**REQUEST.options, "max_tokens": 5}, stop=("x",), request_id="r", timeout_s=3.0, ephemeral=True) == after()


@pytest.mark.parametrize("changes", [
    {"caller": "bob"},
    {"owner": "bob"},
    {"backend": "codex"},
    {"cwd": "/project/"},
    {"options": {"model": "opus", "system_prompt": "Be kind."}},
    {"options": {"model": "sonnet", "system_prompt": "Be kind"}},
    {"options": {"model": "sonnet", "system_prompt": "Be kind.", "effort": "low"}},
    {"options": {"model": "sonnet"}},
    {"extra": ("--tools=",)},
    {"spoken": [said("user", "one"), *GONE_ON[1:]]},
    {"spoken": [said("user", "one", Image("image/png", b"2")), *GONE_ON[1:]]},
    {"spoken": [said("user", "one", Image("image/jpeg", b"1")), *GONE_ON[1:]]},
    {"spoken": [*ASKED, said("assistant", "answer "), GONE_ON[2]]},
    {"spoken": [*ASKED, Message("user", (Text("answer"),)), GONE_ON[2]]},
    {"spoken": [*ASKED, said("assistant", "ans"), said("assistant", "wer"), GONE_ON[2]]},
    {"spoken": [said("user", "zero"), *GONE_ON]},
    {"spoken": [*GONE_ON, said("assistant", "answer"), said("user", "three")]},
    {"spoken": ASKED},
])  # fmt: skip
def test_anything_else_does_not(changes: dict[str, Any]) -> None:
    assert before(**changes) != after()


def test_several_messages_since_the_answer_are_all_new() -> None:
    point = point_of(replace(REQUEST, history=(*GONE_ON, said("user", "three"))), "/project")
    assert point is not None
    assert (point.before, [message.text for message in point.latest]) == (after(), ["two", "three"])


def test_an_assistant_s_last_word_is_no_point() -> None:
    assert point_of(replace(REQUEST, history=tuple(GONE_ON[:2])), "/project") is None


def test_calls_and_results_since_the_answer_are_new_as_well() -> None:
    rest = [Message("assistant", (Call("a", "look", "{}"),)), Message("user", (Result("a", (Text("x"),)),))]
    points = [
        point_of(replace(REQUEST, history=(*GONE_ON, rest[0], last)), "/project") for last in (rest[1], Message("user", (Result("a"),)))
    ]
    assert all(point and point.before == after() for point in points)
    assert len({point.after("so") for point in points if point}) == 2


def test_halves_of_surrogate_pairs_are_no_obstacle() -> None:
    assert before([said("user", "\ud800"), said("assistant", "a"), said("user", "b")]) is not None
