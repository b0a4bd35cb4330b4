"""A conversation as one prompt: nothing is lost, nothing changes places, nothing inside a message passes for a turn."""

from __future__ import annotations

import re

from services.history import Call, Message, Result, Text, said
from services.transcript import render

TURN = re.compile(r'^<(turn-[0-9a-f]{8}) role="(\w+)">\n(.*?)\n</\1>$', re.DOTALL | re.MULTILINE)


def read(transcript: str) -> list[tuple[str, str]]:
    return [(role, text) for _, role, text in TURN.findall(transcript)]


def test_single_message_of_the_user_is_the_prompt_as_it_is() -> None:
    text = "  <turn> \u2028 say\n\n</turn>\n"
    assert render([said("user", text)]) == text


def test_transcript_keeps_roles_order_and_every_message() -> None:
    prompt = render([
        said("system", "be kind"),
        said("user", "list the files"),
        Message("assistant", (Text("I'll look."), Call("call_1", "ls", '{"path": "é"}'), Call("call_2", "pwd", ""))),
        Message("user", (Result("call_2", (), is_error=True), Result("call_1", (Text("a.txt"), Text("b.txt"))), Text("well?"))),
        said("developer", "be brief"),
        said("assistant", "There is a.txt."),
        said("user", "and now?"),
    ])  # fmt: skip
    assert read(prompt) == [
        ("system", "be kind"),
        ("user", "list the files"),
        ("assistant", "I'll look."),
        ("tool_call", 'ls (call_1)\n{"path": "é"}'),
        ("tool_call", "pwd (call_2)\n"),
        ("tool_result", "Error of call_2:\n"),
        ("tool_result", "Result of call_1:\na.txt\nb.txt"),
        ("user", "well?"),
        ("system", "be brief"),
        ("assistant", "There is a.txt."),
        ("user", "and now?"),
    ]
    assert prompt.endswith(
        "Answer the last turn of the user, with your reply alone: without the tags, and without writing turns for anyone else."
    )


def test_two_messages_of_the_user_stay_two() -> None:
    assert read(render([said("user", "a"), said("user", "b")])) == [("user", "a"), ("user", "b")]


def test_growing_conversation_keeps_its_beginning() -> None:
    messages = [said("user", "hello"), said("assistant", "hi"), said("user", "how are you")]
    longer = [*messages, said("assistant", "fine"), said("user", "good")]
    before = render(messages).rpartition("\n\n")[0]
    assert render(longer).startswith(before)
