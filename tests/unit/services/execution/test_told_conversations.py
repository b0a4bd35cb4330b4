"""How a process is told a conversation of several messages, on recordings of the real ones: what is sent when, and what is made of the
answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.clis.claude import spec as claude
from services.clis.claude.conversation import ClaudeConversation
from services.clis.claude.messages import to_lines
from services.clis.codex import spec as codex
from services.clis.codex.connection import CodexConversation
from services.clis.codex.messages import INJECTED_BYTES, to_input, to_items
from services.clis.command import invoke
from services.clis.conversation import Conversation
from services.clis.spec import BackendSpec, Invocation
from services.decoding.decoder import Exit
from services.events import Failed, Finished, Started, Text
from services.history import Call, Image, Message, Result, said
from services.history import Text as Said
from services.requests import RunRequest

RECORDINGS = Path(__file__).parents[3] / "recordings"

ANSWERED = Message("user", (Result("call_B", (Said("of b"),)), Result("call_A", (), is_error=True), Said("five?")))
HISTORY = (
    said("user", "one"),
    said("assistant", "two"),
    said("user", "three"),
    Message("assistant", (Said("four"), Call("call_A", "look", '{"at": 1}'), Call("call_B", "look", "{}"))),
    ANSWERED,
)
"""As it was told when the recordings were made."""

SPECS = {"claude": claude.SPEC, "codex": codex.SPEC}
MODELS = {"claude": "claude-sonnet-4-5", "codex": "gpt-5"}
RECORDED = sorted(path.relative_to(RECORDINGS) for path in RECORDINGS.glob("*/*/warm-*history.jsonl"))

Line = dict[str, Any]


def invoked(spec: BackendSpec, *history: Message, **request: Any) -> Invocation:
    options = {"model": MODELS[spec.name], "system_prompt": "S"}
    asked = RunRequest(prompt="x", backend=spec.name, history=history, ephemeral=True, options=options, **request)
    return invoke(spec, asked, cwd="/workspace", environ={}, run_dir="/tmp/run")


def exchanged(path: Path) -> list[tuple[str, Line]]:
    lines = map(json.loads, (RECORDINGS / path).read_text().splitlines())
    return [(line["dir"], line["msg"]) for line in lines]


def sent(conversation: Conversation) -> list[Line]:
    return [json.loads(line) for line in conversation.outgoing().splitlines()]


def without_ids(line: Line) -> Line:
    """The assistant's ids are new in every run."""
    if line.get("type") != "assistant":
        return line
    assert line["message"]["id"] == f"msg_{line['uuid'].replace('-', '')}"
    return {**line, "uuid": "", "message": {**line["message"], "id": ""}}


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("path", RECORDED, ids=str)
def test_each_message_is_sent_when_the_one_before_it_was_taken(path: Path, cut: bool) -> None:
    spec = SPECS[path.parts[0]]
    conversation = spec.conversation(invoked(spec, *HISTORY))
    ready, events = sent(conversation), []
    for direction, line in exchanged(path):
        if direction == ">":
            assert ready, f"not sent in time: {line}"
            assert without_ids(ready.pop(0)) == without_ids(line)
            continue
        assert not ready, "sent too early"
        data = orjson.dumps(line) + b"\n"
        for piece in [data[i : i + 1] for i in range(len(data))] if cut else [data]:
            events += conversation.receive(piece)
        ready = sent(conversation)
    assert conversation.is_complete
    events += conversation.finish(Exit(0))
    assert len([event for event in events if isinstance(event, Started)]) == 1
    assert "".join(event.text for event in events if isinstance(event, Text)) == "tok0 tok1 tok2"
    end = events[-1]
    assert isinstance(end, Finished)
    assert end.usage
    assert (end.usage.input_tokens, end.usage.output_tokens) == (100, 3)


def test_there_are_recordings_of_the_oldest_and_the_newest() -> None:
    assert {path.parts[:2] for path in RECORDED} == {
        (name, version) for name, spec in SPECS.items() if spec.versions for version in (spec.versions.oldest, spec.versions.newest)
    }


# -- Claude Code --


def line_of(message: Message) -> Line:
    (line, _), *_ = to_lines([message, said("user", "x")] if message.role == "assistant" else [message])
    return dict(json.loads(line))


def lines_heard() -> list[Line]:
    return [line for direction, line in exchanged(Path("claude/2.1.332/warm-history.jsonl")) if direction == "<"]


def test_neighbours_of_one_role_are_one_line() -> None:
    lines = [
        (json.loads(line), waits) for line, waits in to_lines([said("user", "a"), said("user", "b"), said("assistant", "c"), ANSWERED])
    ]
    assert [(line["type"], line.get("shouldQuery"), waits) for line, waits in lines] == [
        ("user", False, True),
        ("assistant", None, False),
        ("user", None, False),
    ]
    assert [block["text"] for block in lines[0][0]["message"]["content"]] == ["a", "b"]


def test_assistants_lines_have_ids_of_their_own() -> None:
    lines = [line_of(said("assistant", "same")) for _ in range(2)]
    assert len({line["uuid"] for line in lines} | {line["message"]["id"] for line in lines}) == 4


@pytest.mark.parametrize(
    ("arguments", "input"),
    [('{"a": 1}', {"a": 1}), ("", {}), ("[1]", {"input": "[1]"}), ("*** Patch", {"input": "*** Patch"}), ('{"a":', {"input": '{"a":'})],
)
def test_arguments_are_an_object(arguments: str, input: Line) -> None:
    (block,) = line_of(Message("assistant", (Call("a", "look", arguments),)))["message"]["content"]
    assert block["input"] == input


def test_an_old_version_that_answers_every_message_is_refused_before_its_first_word() -> None:
    conversation = ClaudeConversation(invoked(claude.SPEC, *HISTORY))
    sent(conversation)
    answering = [line for line in lines_heard() if line["type"] == "stream_event"]
    assert [event for line in answering for event in conversation.receive(orjson.dumps(line) + b"\n")] == []
    assert sent(conversation) == []
    assert conversation.is_complete
    (end,) = conversation.finish(Exit(0))
    assert isinstance(end, Failed)
    assert "answers every message of the conversation" in end.message
    assert "install a version from 2.1.197" in end.message


def test_an_error_before_the_last_message_ends_the_run_as_what_it_is() -> None:
    conversation = ClaudeConversation(invoked(claude.SPEC, *HISTORY))
    sent(conversation)
    said_no = {
        "type": "result",
        "subtype": "error_during_execution",
        "is_error": True,
        "errors": ["No conversation found with session ID: x"],
    }
    conversation.receive(orjson.dumps(said_no) + b"\n")
    assert (conversation.is_complete, sent(conversation)) == (True, [])
    (end,) = conversation.finish(Exit(1))
    assert isinstance(end, Failed)
    assert "No conversation found" in end.message


def test_a_process_that_ends_in_between_is_no_answer() -> None:
    conversation = ClaudeConversation(invoked(claude.SPEC, *HISTORY))
    sent(conversation)
    for line in lines_heard()[:4]:
        conversation.receive(orjson.dumps(line) + b"\n")
    (end,) = conversation.finish(Exit(1, stderr_tail="killed"))
    assert isinstance(end, Failed)
    assert conversation.is_retryable


def test_thinking_is_off_only_where_a_turn_goes_on_after_calls() -> None:
    plain, goes_on = invoked(claude.SPEC, *HISTORY[:3]), invoked(claude.SPEC, *HISTORY)
    assert (plain.ignored, goes_on.ignored) == ((), ("thinking",))
    assert [line["request_id"] for line in sent(ClaudeConversation(plain)) if line["type"] == "control_request"] == ["initialize"]
    assert [line["request_id"] for line in sent(ClaudeConversation(goes_on)) if line["type"] == "control_request"] == [
        "initialize",
        "thinking",
    ]
    assert plain.env == goes_on.env  # the same warm process serves both


# -- Codex --


def test_a_single_message_is_the_turn_s_input() -> None:
    image = Image("image/png", b"x")
    assert to_input(Message("user", (Said("a"), image, Said("b")))) == [
        {"type": "text", "text": "a"},
        {"type": "image", "url": "data:image/png;base64,eA=="},
        {"type": "text", "text": "b"},
    ]
    assert to_input(ANSWERED) is None


def test_large_conversations_are_injected_piece_by_piece() -> None:
    messages = [said("user", "x" * (INJECTED_BYTES // 2)), said("assistant", "y"), said("user", "z" * INJECTED_BYTES), said("user", "end")]
    pieces = list(to_items(messages))
    assert [len(piece) for piece in pieces] == [3, 1]
    assert [item["role"] for piece in pieces for item in piece] == ["user", "assistant", "user", "user"]


def test_images_and_texts_of_a_result_are_its_parts() -> None:
    (items,) = to_items([Message("user", (Result("a", (Said("one"), Image("image/png", b"x"))), Result("b"), Said("and")))])
    assert [item.get("output") for item in items] == [
        [{"type": "input_text", "text": "one"}, {"type": "input_image", "image_url": "data:image/png;base64,eA=="}],
        "",
        None,
    ]


def test_what_codex_does_not_take_is_its_own_words() -> None:
    conversation = CodexConversation(invoked(codex.SPEC, *HISTORY))
    answers = iter(line for direction, line in exchanged(Path("codex/0.171.0/warm-appserver-history.jsonl")) if direction == "<")
    while "thread/inject_items" not in (asked := {line["method"]: line for line in sent(conversation)}):
        conversation.receive(orjson.dumps(next(answers)) + b"\n")
    refusal = {"id": asked["thread/inject_items"]["id"], "error": {"code": -32600, "message": "items[0] is not a valid response item"}}
    conversation.receive(orjson.dumps(refusal) + b"\n")
    assert conversation.is_complete
    assert sent(conversation) == []
    (end,) = conversation.finish(Exit(0))
    assert isinstance(end, Failed)
    assert "not a valid response item" in end.message
