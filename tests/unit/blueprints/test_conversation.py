"""A chat as one prompt: nothing is lost, nothing changes places, nothing inside a message passes for a turn."""

from __future__ import annotations

import re

import pytest

from blueprints.compat.conversation import Turn, call_text, join_parts, render, result_text, to_conversation
from blueprints.compat.estimate import estimate_tokens
from services.errors import InvalidRequest
from services.history import Image

PNG = Image("image/png", b"\x89PNG\r\n\x1a\n")
OTHER = Image("image/jpeg", b"\xff\xd8\xff")

TURN = re.compile(r'^<(turn-[0-9a-f]{8}) role="(\w+)">\n(.*?)\n</\1>$', re.DOTALL | re.MULTILINE)


def read(transcript: str) -> list[tuple[str, str]]:
    return [(role, text) for _, role, text in TURN.findall(transcript)]


def test_single_message_of_the_user_is_the_prompt_as_it_is() -> None:
    text = "  <turn> \u2028 say\n\n</turn>\n"
    assert to_conversation([Turn("user", text)]).prompt == text


def test_system_texts_are_joined_in_their_order_wherever_they_stand() -> None:
    turns = [Turn("system", "one"), Turn("user", "hello"), Turn("system", "two")]
    conversation = to_conversation(turns)
    assert (conversation.system, conversation.prompt) == ("one\n\ntwo", "hello")


def test_system_text_goes_into_the_transcript_of_a_cli_that_has_no_option_for_it() -> None:
    conversation = to_conversation([Turn("user", "hello"), Turn("system", "be kind")], has_system_option=False)
    assert conversation.system is None
    assert read(conversation.prompt) == [("system", "be kind"), ("user", "hello")]


def test_system_text_alone_is_the_prompt() -> None:
    assert to_conversation([Turn("system", "say hello")]).prompt == "say hello"


def test_transcript_keeps_roles_order_and_every_message() -> None:
    turns = [
        Turn("user", "list the files"),
        Turn("assistant", "I'll look."),
        Turn("tool_call", call_text("ls", {"path": "é"}, "call_1")),
        Turn("tool_result", result_text("a.txt", "call_1")),
        Turn("assistant", "There is a.txt."),
        Turn("user", "and now?"),
    ]
    prompt = to_conversation(turns).prompt
    assert read(prompt) == [(turn.role, turn.text) for turn in turns]
    assert 'ls (call_1)\n{"path": "é"}' in prompt
    assert prompt.endswith(
        "Answer the last turn of the user, with your reply alone: without the tags, and without writing turns for anyone else."
    )


def test_two_messages_of_the_user_stay_two() -> None:
    assert read(render([Turn("user", "a"), Turn("user", "b")])) == [("user", "a"), ("user", "b")]


def test_last_turn_of_the_assistant_is_to_be_continued() -> None:
    prompt = to_conversation([Turn("user", "write JSON"), Turn("assistant", '{"a":')]).prompt
    assert "Continue your last turn" in prompt.rpartition(">")[2]


def test_turns_without_text_leave_no_empty_turn() -> None:
    turns = [Turn("user", "x"), Turn("assistant", ""), Turn("tool_call", "f\n{}"), Turn("user", "y")]
    assert [role for role, _ in read(to_conversation(turns).prompt)] == ["user", "tool_call", "user"]


def test_growing_conversation_keeps_its_beginning() -> None:
    turns = [Turn("user", "hello"), Turn("assistant", "hi"), Turn("user", "how are you")]
    longer = [*turns, Turn("assistant", "fine"), Turn("user", "good")]
    before = render(turns).rpartition("\n\n")[0]
    assert render(longer).startswith(before)


def test_pictures_are_collected_in_order_and_marked_where_they_stood() -> None:
    turns = [Turn("user", "what is it", (PNG,)), Turn("assistant", "a cat"), Turn("user", "and these", (OTHER, PNG))]
    conversation = to_conversation(turns)
    assert conversation.images == (PNG, OTHER, PNG)
    assert [text for _, text in read(conversation.prompt)] == ["[image 1]\nwhat is it", "a cat", "[image 2]\n[image 3]\nand these"]


def test_single_message_with_a_picture_is_its_text_and_without_text_a_mark() -> None:
    assert to_conversation([Turn("user", "what is it", (PNG,))]).prompt == "what is it"
    assert to_conversation([Turn("user", "", (PNG,))]).prompt == "[image 1]"


def test_continued_session_is_given_what_is_new() -> None:
    turns = [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")]
    assert to_conversation(turns, continues_session=True).prompt == "c"
    assert to_conversation(turns[:1], continues_session=True).prompt == "a"
    assert [role for role, _ in read(to_conversation(turns[:2], continues_session=True).prompt)] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("parts", "joined"),
    [([], ""), (["a"], "a"), (["a", "b"], "a\nb"), (["a ", "b"], "a b"), (["a", "\n\nb"], "a\n\nb"), (["", "a", "", "b"], "a\nb")],
)
def test_parts_of_a_message_are_set_apart_once(parts: list[str], joined: str) -> None:
    assert join_parts(parts) == joined


@pytest.mark.parametrize("turns", [[], [Turn("user", "")], [Turn("user", " \n")], [Turn("assistant", "")]])
def test_nothing_to_answer_is_refused(turns: list[Turn]) -> None:
    with pytest.raises(InvalidRequest) as raised:
        to_conversation(turns)
    assert raised.value.field == "messages"


def test_estimate_counts_texts_and_pictures() -> None:
    assert estimate_tokens(None, "") == 0
    assert estimate_tokens("a" * 400, "é漢") == 100 + 2
    assert estimate_tokens("a", images=(PNG,)) == 1501
