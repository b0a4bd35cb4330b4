"""Conversations of several messages, with scripted CLIs: what is refused before anything starts, and what becomes of a CLI that does not
take a message."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli
from tests.parts.processes import eventually
from tests.parts.server import Server

TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three?"},
]
PATHS = {"chat": "/openai/v1/chat/completions", "responses": "/openai/v1/responses", "messages": "/anthropic/v1/messages"}


def body(surface: str, messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    said = {"input": messages} if surface == "responses" else {"messages": messages, "max_tokens": 100}
    return {"model": "claude", **said, **more}


def called(*ids: str) -> dict[str, Any]:
    calls = [{"id": id, "type": "function", "function": {"name": "look", "arguments": "{}"}} for id in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": "seen"}


@pytest.mark.parametrize("surface", PATHS)
def test_last_message_of_the_assistant_is_refused_before_anything_starts(fake_server: Server, fake_cli: FakeCli, surface: str) -> None:
    answer = fake_server.client.post(PATHS[surface], body(surface, TALK[:2]))
    assert answer.status == 400
    assert "the last message is the assistant's; end with one of the user's" in answer.json["error"]["message"]
    assert not fake_cli.reports()


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([called("a", "b"), result("a"), TALK[2]], "call 'b' has no result before the next message"),
        ([called("a"), result("a"), result("a"), TALK[2]], "a second result: 'a'"),
        ([called("a"), result("a"), result("c"), TALK[2]], "a result without a call: 'c'"),
    ],
    ids=["missing", "doubled", "foreign"],
)
def test_call_without_exactly_one_result_is_named_before_anything_starts(
    fake_server: Server, fake_cli: FakeCli, messages: list[dict[str, Any]], says: str
) -> None:
    answer = fake_server.client.post(PATHS["chat"], body("chat", [TALK[0], *messages]))
    assert (answer.status, answer.json["error"]["param"]) == (400, "messages")
    assert says in answer.json["error"]["message"]
    assert not fake_cli.reports()


@pytest.mark.parametrize("surface", PATHS)
def test_each_message_is_told_in_its_role(fake_server: Server, fake_cli: FakeCli, surface: str) -> None:
    answer = fake_server.client.post(PATHS[surface], body(surface, TALK))
    assert answer.status == 200, answer.body
    (report,) = fake_cli.reports()
    told = [(message["role"], [block["text"] for block in message["content"]]) for message in report["history"]]
    assert (told, report["prompt"]) == ([("user", ["one"]), ("assistant", ["two"])], "three?")


def test_cli_that_does_not_take_a_message_is_stopped_at_the_limit_of_silence(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server({"backends": {"claude": fake_cli.backend("--unmoved")}, "server": {"idle_output_timeout_secs": 1}})
    answer = one.client.post(PATHS["chat"], body("chat", TALK))
    assert answer.status == 504
    assert "server.idle_output_timeout_secs" in answer.json["error"]["message"]
    assert eventually(lambda: not one.runs())


def test_client_that_leaves_before_all_is_told_leaves_nothing(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server({"backends": {"claude": fake_cli.backend("--unmoved")}})
    with one.client.send("POST", PATHS["chat"], body("chat", TALK, stream=True)):
        assert eventually(lambda: bool(one.runs()))
    assert eventually(lambda: not one.runs())


def test_app_server_that_refuses_messages_says_why_and_serves_on(server: ServerFactory, fake_cli: FakeCli) -> None:
    backend = fake_cli.app_server("--refuses=thread/inject_items", warm={"max": 1})
    one = server({"default_backend": "codex", "backends": {"codex": backend}})
    for _ in range(3):
        answer = one.client.post(PATHS["chat"], body("chat", TALK, model="codex"))
        assert answer.status == 502
        assert "unknown method thread/inject_items" in answer.json["error"]["message"]
        single = one.client.post(PATHS["chat"], body("chat", TALK[2:], model="codex"))
        assert single.json["choices"][0]["message"]["content"] == "You said: three?"


def test_app_server_is_told_all_at_once(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server({"default_backend": "codex", "backends": {"codex": fake_cli.app_server()}})
    messages = [*TALK[:2], {"role": "developer", "content": "be kind"}, TALK[2]]
    answer = one.client.post(PATHS["chat"], body("chat", messages, model="codex"))
    assert answer.json["choices"][0]["message"]["content"] == "You said: three?"
    (report,) = fake_cli.reports()
    assert [(item["role"], item["content"][0]["text"]) for item in report["injected"]] == [
        ("user", "one"),
        ("assistant", "two"),
        ("developer", "be kind"),
        ("user", "three?"),
    ]
    assert report["turn"]["input"] == []
