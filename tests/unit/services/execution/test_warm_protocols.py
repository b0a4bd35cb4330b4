"""What is said to a warm process and what is made of its answers, on recordings of the real ones."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.clis.claude import spec as claude
from services.clis.claude.conversation import INTERRUPT, ClaudeConversation, ClaudeHandshake
from services.clis.codex import spec as codex
from services.clis.codex.connection import CodexConnection
from services.clis.codex.turn import CodexTurn
from services.clis.command import invoke
from services.clis.spec import Invocation
from services.decoding.decoder import Exit
from services.events import Event, Failed, Finished, Text
from services.requests import RunRequest

RECORDINGS = Path(__file__).parents[3] / "recordings"


def heard(path: str) -> list[dict[str, Any]]:
    """What the process of a recording said, in its order."""
    lines = map(json.loads, (RECORDINGS / path).read_text().splitlines())
    return [line["msg"] for line in lines if line["dir"] == "<"]


def encoded(messages: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(message) + b"\n" for message in messages)


def sent(conversation: ClaudeConversation | CodexConnection) -> list[dict[str, Any]]:
    return [json.loads(line) for line in conversation.outgoing().splitlines()]


def text(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def claude_run(**options: Any) -> Invocation:
    request = RunRequest(backend="claude", prompt="hello", options=options, ephemeral=True)
    return invoke(claude.SPEC, request, cwd="/", environ={}, run_dir="/tmp/run")


INITIALIZED = heard("claude/2.1.197/warm-initialize.jsonl")


def test_system_prompt_and_schema_go_with_initialize_right_before_the_question() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]}
    stream = ClaudeConversation(claude_run(system_prompt="S", json_schema=schema), is_initialized=False)
    asked, question = sent(stream)
    assert asked["request"] == {"subtype": "initialize", "hooks": None, "systemPrompt": ["S"], "jsonSchema": schema}
    assert question["message"]["content"] == [{"type": "text", "text": "hello"}]
    answer, *rest = INITIALIZED
    answer = answer | {"response": answer["response"] | {"request_id": asked["request_id"]}}
    assert stream.receive(encoded([answer])) == []
    assert sent(stream) == []
    stream.receive(encoded(rest))
    assert stream.is_complete
    assert not stream.is_retryable
    (*_, end) = stream.finish(Exit(0))
    assert isinstance(end, Finished)
    assert end.structured_output == {"n": "v"}


@pytest.mark.parametrize(("options", "is_initialized"), [({}, False), ({}, True), ({"system_prompt": "S"}, True)])
def test_process_that_needs_no_set_up_is_asked_at_once(options: dict[str, Any], is_initialized: bool) -> None:
    stream = ClaudeConversation(claude_run(**options), is_initialized=is_initialized)
    assert [message["type"] for message in sent(stream)] == ["user"]


@pytest.mark.parametrize(("version", "name"), [("2.0.1", "Claude Code 2.0.1"), (None, "Claude Code")])
def test_refused_initialize_ends_the_run_and_tells_what_to_install(version: str | None, name: str) -> None:
    stream = ClaudeConversation(replace(claude_run(system_prompt="S"), cli_version=version))
    asked, _ = sent(stream)
    refusal = {"subtype": "error", "request_id": asked["request_id"], "error": "Unsupported control request subtype: initialize"}
    answer = [{"type": "system", "subtype": "init", "session_id": "s", "model": "m"}]
    assert stream.receive(encoded([{"type": "control_response", "response": refusal}, *answer])) == []
    assert (sent(stream), stream.is_complete, stream.is_retryable) == ([], True, True)
    assert stream.finish(Exit(1)) == [
        Failed(
            "backend",
            f"{name} refused to be set up: Unsupported control request subtype: initialize; install a version from 2.1.197 to 2.1.332",
            1,
        )
    ]


def test_turn_whose_answer_has_begun_is_not_for_another_process() -> None:
    """A tool may be what the model asked for, and may have run."""
    stream = ClaudeConversation(claude_run(), is_initialized=True)
    assert stream.is_retryable
    stream.receive(encoded([{"type": "system", "subtype": "init", "session_id": "s", "model": "m"}]))
    assert stream.is_retryable
    stream.receive(
        encoded([{"type": "stream_event", "event": {"type": "message_start", "message": {"id": "m"}}, "parent_tool_use_id": None}])
    )
    assert not stream.is_retryable


def test_process_that_asks_its_client_is_told_that_nobody_is_there() -> None:
    stream = ClaudeConversation(claude_run(), is_initialized=True)
    sent(stream)
    asks = [message for message in heard("claude/2.1.197/warm-control.jsonl") if message["type"] == "control_request"]
    assert asks
    stream.receive(encoded(asks[:1]))
    (answer,) = sent(stream)
    assert answer["response"]["subtype"] == "error"
    assert answer["response"]["request_id"] == asks[0]["request_id"]


def test_interrupt_is_what_the_recorded_process_was_told() -> None:
    lines = map(json.loads, (RECORDINGS / "claude/2.1.197/warm-control.jsonl").read_text().splitlines())
    told = [line["msg"] for line in lines if line["dir"] == ">" and line["msg"].get("request", {}).get("subtype") == "interrupt"]
    assert told[0]["request"] == json.loads(INTERRUPT)["request"]


@pytest.mark.parametrize("parameters", [None, {}, {"systemPrompt": ["S"]}])
def test_greeting_is_answered_whatever_it_asks(parameters: dict[str, Any] | None) -> None:
    handshake = ClaudeHandshake(parameters)
    asked = json.loads(handshake.outgoing())
    assert asked["request"]["subtype"] == ("mcp_status" if parameters is None else "initialize")
    handshake.receive(encoded([{"type": "system"}]))
    assert not handshake.is_complete
    handshake.receive(encoded([{"type": "control_response", "response": {"subtype": "success", "request_id": asked["request_id"]}}]))
    assert (handshake.is_complete, handshake.refusal) == (True, "")


def codex_turn() -> CodexTurn:
    request = RunRequest(backend="codex", prompt="hello", ephemeral=True)
    return CodexTurn(invoke(codex.SPEC, request, cwd="/", environ=dict(os.environ), run_dir="/tmp/run"), {"a.b": "c"})


def ready_connection() -> CodexConnection:
    connection = CodexConnection()
    (asked,) = sent(connection)
    connection.receive(encoded([{"id": asked["id"], "result": {}}]))
    assert sent(connection) == [{"method": "initialized"}]
    return connection


def begin(connection: CodexConnection, turn: CodexTurn, thread: str) -> int:
    """Up to the request for the turn, whose number is returned."""
    connection.add(turn)
    (start,) = sent(connection)
    assert (start["method"], start["params"]["config"]) == ("thread/start", {"a.b": "c"})
    connection.receive(encoded([{"id": start["id"], "result": {"thread": {"id": thread}}}]))
    (asked,) = sent(connection)
    assert (asked["method"], asked["params"]["threadId"]) == ("turn/start", thread)
    return int(asked["id"])


def notifications(word: str, thread: str) -> list[dict[str, Any]]:
    """Those of the first turn of the recording, as if they were another thread's, with ``word`` for its "tok"."""
    messages = heard("codex/0.169.0/warm-appserver-basic.jsonl")
    end = next(number for number, message in enumerate(messages) if message.get("method") == "turn/completed")
    first = [message for message in messages[: end + 1] if "threadId" in message.get("params", {})]
    text = json.dumps(first).replace(first[0]["params"]["threadId"], thread).replace("tok", word)
    return list(json.loads(text))


def test_two_threads_in_one_process_are_told_apart_line_by_line() -> None:
    connection, one, other = ready_connection(), codex_turn(), codex_turn()
    begin(connection, one, "thread-1")
    begin(connection, other, "thread-2")
    said: dict[CodexTurn, list[Event]] = {one: [], other: []}
    for pair in zip(notifications("one", "thread-1"), notifications("two", "thread-2"), strict=True):
        for turn, batch, _ in connection.receive(encoded(pair)):
            said[turn] += batch
    assert (text(said[one]), text(said[other])) == ("one0 one1 one2 one3", "two0 two1 two2 two3")
    assert one.is_complete
    assert other.is_complete
    assert isinstance(one.finish(Exit(0))[-1], Finished)


def test_turn_that_is_not_wanted_any_more_is_not_begun_or_is_interrupted() -> None:
    connection, early, late = ready_connection(), codex_turn(), codex_turn()
    connection.add(early)
    (start,) = sent(connection)
    early.interrupt()
    connection.receive(encoded([{"id": start["id"], "result": {"thread": {"id": "thread-1"}}}]))
    assert (sent(connection), early.is_complete) == ([], True)
    number = begin(connection, late, "thread-2")
    late.interrupt()
    assert sent(connection) == []
    connection.receive(encoded([{"id": number, "result": {"turn": {"id": "turn-2"}}}]))
    (stop,) = sent(connection)
    assert (stop["method"], stop["params"]) == ("turn/interrupt", {"threadId": "thread-2", "turnId": "turn-2"})


def test_error_for_one_turn_is_no_other_s() -> None:
    connection, one, other = ready_connection(), codex_turn(), codex_turn()
    number = begin(connection, one, "thread-1")
    begin(connection, other, "thread-2")
    connection.receive(encoded([{"id": number, "error": {"code": -32600, "message": "no such model"}}]))
    assert (one.is_complete, other.is_complete) == (True, False)
    (end,) = one.finish(Exit(0))
    assert isinstance(end, Failed)
    assert end.message == "no such model"


def test_nothing_reaches_a_turn_that_was_dropped() -> None:
    connection, turn = ready_connection(), codex_turn()
    begin(connection, turn, "thread-1")
    connection.drop(turn)
    assert [message["method"] for message in sent(connection)] == ["thread/unsubscribe"]
    assert connection.receive(encoded(notifications("x", "thread-1"))) == []
