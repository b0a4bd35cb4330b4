"""Whatever a CLI says in a conversation, it ends in the grammar of a run; and what one thread's messages are is no other thread's affair."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.clis.claude.conversation import ClaudeConversation, ClaudeHandshake
from services.clis.codex import spec as codex
from services.clis.codex.connection import CodexConversation
from services.clis.codex.turn import CodexTurn
from services.clis.command import invoke
from services.clis.conversation import Conversation
from services.clis.gemini import spec as gemini
from services.clis.gemini.deferred_stdin import DeferredConversation
from services.clis.spec import Invocation
from services.decoding.decoder import Exit
from services.events import Event, Failed, Finished, is_terminal
from services.requests import RunRequest
from tests.properties.test_decoders import exits, lines, with_another_value
from tests.unit.services.decoding.recorded import check_grammar, recording
from tests.unit.services.execution.test_warm_protocols import (
    begin,
    claude_run,
    codex_turn,
    encoded,
    heard,
    notifications,
    ready_connection,
    sent,
    text,
)

THREAD = "01a1fbd5-0000-7000-8000-000000000000"


def codex_run(**more: Any) -> Invocation:
    return invoke(codex.SPEC, RunRequest(backend="codex", prompt="hello", **more), cwd="/", environ={}, run_dir="/tmp/run")


def gemini_run() -> Invocation:
    return invoke(gemini.SPEC, RunRequest(backend="gemini", prompt="hello"), cwd="/", environ={}, run_dir="/tmp/run")


def next_claude_turn() -> ClaudeConversation:
    first = ClaudeConversation(claude_run(), is_initialized=True)
    first.receive(encoded(heard("claude/2.1.197/warm-control.jsonl")))
    return first.next(claude_run())


CONVERSATIONS: dict[str, tuple[Callable[[], Conversation], list[dict[str, Any]]]] = {
    "claude": (lambda: ClaudeConversation(claude_run(), is_initialized=True), heard("claude/2.1.197/warm-control.jsonl")),
    "claude, to be initialised": (
        lambda: ClaudeConversation(claude_run(system_prompt="S"), is_initialized=False),
        heard("claude/2.1.197/warm-initialize.jsonl"),
    ),
    "claude, a next turn": (next_claude_turn, heard("claude/2.1.197/warm-control.jsonl")),
    "codex": (lambda: CodexConversation(codex_run(ephemeral=True)), heard("codex/0.169.0/warm-appserver-basic.jsonl")),
    "codex, resumed": (lambda: CodexConversation(codex_run(resume=THREAD)), heard("codex/0.169.0/warm-appserver-resume.jsonl")),
    "gemini": (
        lambda: DeferredConversation(gemini_run()),
        [json.loads(line) for line in recording("gemini/tool-yolo").stdout.splitlines()],
    ),
}
ANY = pytest.mark.parametrize("name", CONVERSATIONS)


def converse(conversation: Conversation, messages: Iterable[dict[str, Any]], exit: Exit) -> list[Event]:
    events: list[Event] = []
    for message in messages:
        for line in conversation.outgoing().splitlines() if not isinstance(conversation, DeferredConversation) else ():
            assert isinstance(orjson.loads(line), dict)
        batch = conversation.receive(json.dumps(message).encode() + b"\n")
        assert not any(map(is_terminal, batch))
        events += batch
    conversation.outgoing()
    end = conversation.finish(exit)
    assert [is_terminal(event) for event in end] == [False] * (len(end) - 1) + [True]
    events += end
    return events


@ANY
def test_a_conversation_as_it_was_recorded_ends_well_where_nothing_is_changed(name: str) -> None:
    make, messages = CONVERSATIONS[name]
    check_grammar(converse(make(), messages, Exit(0)))


@ANY
@settings(max_examples=150, deadline=None)
@given(made_up=st.lists(lines, max_size=4), data=st.data(), exit=exits)
def test_any_message_at_any_time(name: str, made_up: list[dict[str, Any]], data: st.DataObject, exit: Exit) -> None:
    make, messages = CONVERSATIONS[name]
    at = data.draw(st.integers(0, len(messages)))
    converse(make(), [*messages[:at], *made_up, *messages[at:]], exit)


@ANY
@settings(max_examples=250, deadline=None)
@given(data=st.data(), exit=exits)
def test_a_recorded_message_with_a_value_of_another_type(name: str, data: st.DataObject, exit: Exit) -> None:
    make, messages = CONVERSATIONS[name]
    at = data.draw(st.integers(0, len(messages) - 1))
    odd = with_another_value(data, deepcopy(messages[at]))
    converse(make(), [*messages[:at], odd, *messages[at + 1 :]], exit)


@settings(max_examples=150, deadline=None)
@given(made_up=st.lists(lines, max_size=4), parameters=st.none() | st.just({"systemPrompt": ["S"]}))
def test_any_answer_to_the_greeting(made_up: list[dict[str, Any]], parameters: dict[str, Any] | None) -> None:
    handshake = ClaudeHandshake(parameters)
    for line in made_up:
        handshake.receive(json.dumps(line).encode() + b"\n")
    assert isinstance(handshake.refusal, str)


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_an_odd_message_of_one_thread_fails_its_own_run_only(data: st.DataObject) -> None:
    connection, odd, sound = ready_connection(), codex_turn(), codex_turn()
    connection.add(odd)
    (start,) = sent(connection)
    answers = [{"id": start["id"], "result": {"thread": {"id": "thread-1"}, "model": "m"}}]
    answers += [{"id": start["id"] + 1, "result": {"turn": {"id": "turn"}}}, *notifications("odd", "thread-1")]
    at = data.draw(st.integers(0, len(answers) - 1))
    body = "result" if "result" in answers[at] else "params"
    answers[at] = answers[at] | {body: with_another_value(data, deepcopy(answers[at][body]))}
    for message in answers[:1]:
        connection.receive(json.dumps(message).encode() + b"\n")
    connection.outgoing()
    begin(connection, sound, "thread-2")
    said: dict[CodexTurn, list[Event]] = {odd: [], sound: []}
    for message in [*answers[1:], *notifications("two", "thread-2")]:
        for turn, batch, _ in connection.receive(json.dumps(message).encode() + b"\n"):
            said[turn] += batch
        connection.outgoing()
    assert text(said[sound]) == "two0 two1 two2 two3"
    assert isinstance(sound.finish(Exit(0))[-1], Finished)
    assert is_terminal(odd.finish(Exit(0))[-1])


@pytest.mark.parametrize(
    ("number", "result", "has_tried"), [(0, {"thread": {}}, False), (1, {"turn": {"id": 7}}, True)], ids=["thread", "turn"]
)
def test_an_answer_that_lacks_what_comes_next_is_said_to_be_of_another_version(
    number: int, result: dict[str, Any], has_tried: bool
) -> None:
    connection, turn = ready_connection(), codex_turn()
    connection.add(turn)
    for count, answer in enumerate([{"thread": {"id": "t"}}, result] if number else [result]):
        (asked,) = sent(connection)
        assert asked["method"] == ("thread/start", "turn/start")[count]
        connection.receive(encoded([{"id": asked["id"], "result": answer}]))
    assert (turn.is_complete, turn.is_misunderstood, turn.has_tried) == (True, True, has_tried)
    (end,) = turn.finish(Exit(0))
    assert isinstance(end, Failed)
    assert "without an id: it speaks another version of its protocol" in end.message
