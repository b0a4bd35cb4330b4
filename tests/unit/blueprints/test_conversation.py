"""A conversation as it is arranged for a CLI: what is the system prompt, what stays where it stood, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blueprints.compat.conversation import Conversation, to_conversation
from blueprints.compat.estimate import estimate_tokens
from services.clis.claude.spec import SPEC as CLAUDE
from services.clis.codex.spec import SPEC as CODEX
from services.clis.spec import BackendSpec
from services.errors import InvalidRequest
from services.history import Call, Image, Message, Result, Text, join_texts, said

PNG = Image("image/png", b"\x89PNG\r\n\x1a\n")
OTHER = Image("image/jpeg", b"\xff\xd8\xff")
NO_SYSTEM = replace(CLAUDE, options={})


def arranged(*messages: Message, spec: BackendSpec = CLAUDE, continues_session: bool = False, also_system: str = "") -> Conversation:
    return to_conversation(messages, spec, field="messages", also_system=also_system, continues_session=continues_session)


def calls(*ids: str) -> Message:
    return Message("assistant", tuple(Call(id, "look", "{}") for id in ids))


def results(*ids: str, text: str = "") -> Message:
    return Message("user", (*(Result(id, (Text(f"of {id}"),)) for id in ids), *((Text(text),) if text else ())))


LATER = (said("system", "one"), said("developer", "two"), said("user", "hello"), said("system", "three"), said("user", "well?"))


def test_system_texts_are_joined_in_their_order_wherever_they_stand() -> None:
    conversation = arranged(*LATER, also_system="four")
    assert conversation.system == "one\n\ntwo\n\nthree\n\nfour"
    assert conversation.messages == (said("user", "hello"), said("user", "well?"))


def test_later_system_texts_stay_where_the_cli_can_have_them() -> None:
    conversation = arranged(*LATER, spec=CODEX, also_system="four")
    assert (conversation.system, conversation.messages) == ("one\n\ntwo\n\nfour", LATER[2:])


def test_system_text_is_the_first_message_of_a_cli_that_has_no_option_for_it() -> None:
    conversation = arranged(said("user", "hello"), said("system", "be kind"), spec=NO_SYSTEM)
    assert (conversation.system, conversation.messages) == (None, (said("system", "be kind"), said("user", "hello")))


@pytest.mark.parametrize("spec", [CLAUDE, CODEX, NO_SYSTEM], ids=["claude", "codex", "none"])
def test_system_text_alone_is_what_is_asked(spec: BackendSpec) -> None:
    assert arranged(said("system", "say hello"), spec=spec) == Conversation(None, (said("user", "say hello"),))


def test_messages_without_content_are_left_out() -> None:
    messages = (said("user", "x"), said("assistant", ""), said("user", "y"))
    assert arranged(*messages).messages == (messages[0], messages[2])


def test_images_are_collected_in_order() -> None:
    conversation = arranged(said("user", "what", PNG), calls("a"), Message("user", (Result("a", (OTHER,)), PNG)))
    assert conversation.images == (PNG, OTHER, PNG)


def test_continued_session_is_given_what_it_lacks() -> None:
    a, b, c = said("user", "a"), said("assistant", "b"), said("user", "c")
    assert arranged(a, b, c, continues_session=True).messages == (c,)
    assert arranged(a, continues_session=True).messages == (a,)
    assert arranged(a, b, c, calls("1"), results("1"), continues_session=True).messages == (c, calls("1"), results("1"))


def test_what_is_recorded_is_what_is_asked() -> None:
    assert arranged(said("user", "a"), said("assistant", "b"), said("user", "c"), said("user", "d", PNG)).prompt == "c\n\n[image]\nd"
    assert arranged(said("user", "a"), calls("1"), results("1", text="well?")).prompt == "a\n\nof 1\nwell?"


@pytest.mark.parametrize(
    "messages",
    [
        (calls("a", "b"), results("b", "a")),
        (calls("a", "b"), results("a"), results("b")),
        (calls("a"), calls("b"), results("a", "b", text="and now?")),
        (calls("a"), results("a"), calls("b"), results("b"), said("user", "well?")),
        (calls("a"), said("assistant", "I look"), results("a")),
    ],
    ids=["any order", "a message each", "neighbours", "twice", "a text between"],
)
def test_each_call_with_one_result_is_fine(messages: tuple[Message, ...]) -> None:
    assert arranged(said("user", "go"), *messages).messages == (said("user", "go"), *messages)


@pytest.mark.parametrize(
    ("messages", "what"),
    [
        ((calls("a", "b"), results("a"), said("user", "well?")), "call 'b' has no result before the next message"),
        ((calls("a", "b"), results("a", text="well?")), "call 'b' has no result before the next message"),
        ((calls("a", "b"), results("a"), said("assistant", "so"), results("b")), "call 'b' has no result before the next message"),
        ((calls("a"), said("system", "x"), results("a")), "call 'a' has no result before the next message"),
        ((calls("a"),), "call 'a' has no result before the next message"),
        ((calls("a"), results("a", "a")), "a second result: 'a'"),
        ((calls("a"), results("a"), said("assistant", "so"), results("a")), "a second result: 'a'"),
        ((results("c"),), "a result without a call: 'c'"),
        ((calls("a"), results("a", "c")), "a result without a call: 'c'"),
        ((calls("a", "a"), results("a")), "there are two calls with the id 'a'"),
    ],
)
def test_call_without_exactly_one_result_is_refused_by_its_id(messages: tuple[Message, ...], what: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^messages: {what}") as raised:
        arranged(said("user", "go"), *messages)
    assert raised.value.field == "messages"


def test_calls_without_ids_get_some_and_their_results_in_their_order() -> None:
    conversation = arranged(said("user", "go"), calls("", ""), results(""), results(""), said("user", "well?"))
    _, called, first, second, _ = conversation.messages
    ids = [call.id for call in called.calls]
    assert [result.call_id for message in (first, second) for result in message.results] == ids
    assert len({*ids}) == 2


@pytest.mark.parametrize("spec", [CLAUDE, CODEX], ids=["claude", "codex"])
def test_last_message_of_the_assistant_is_refused(spec: BackendSpec) -> None:
    with pytest.raises(InvalidRequest, match="messages: the last message is the assistant's; end with one of the user's"):
        arranged(said("user", "write JSON"), said("assistant", '{"a":'), spec=spec)


@pytest.mark.parametrize("messages", [(), (said("user", ""),), (said("user", " \n"),), (said("assistant", ""),)])
def test_nothing_to_answer_is_refused(messages: tuple[Message, ...]) -> None:
    with pytest.raises(InvalidRequest) as raised:
        arranged(*messages)
    assert raised.value.field == "messages"


@pytest.mark.parametrize(
    ("texts", "joined"),
    [([], ""), (["a"], "a"), (["a", "b"], "a\nb"), (["a ", "b"], "a b"), (["a", "\n\nb"], "a\n\nb"), (["", "a", "", "b"], "a\nb")],
)
def test_texts_of_a_message_are_set_apart_once(texts: list[str], joined: str) -> None:
    assert join_texts(texts) == joined


def test_estimate_counts_texts_and_pictures() -> None:
    assert estimate_tokens(None, "") == 0
    assert estimate_tokens("a" * 400, "é漢") == 100 + 2
    assert estimate_tokens("a", images=(PNG,)) == 1501
