"""Threads, which this server does not keep: refused so that Anthropic's own SDK sends the whole conversation."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic import beta_tool

from tests.clients.anthropic.conftest import House
from tests.clients.anthropic.test_messages import HELLO

CREATE = {"type": "create"}
MESSAGE_OF_OURS = {"type": "continue", "previous_message_id": "msg_0123456789abcdef01234567"}
MESSAGE_OF_OTHERS = {"type": "continue", "previous_message_id": "msg_01XFDUDYJgAACzvnptvVoYEL"}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("thread", "status", "details"),
    [
        (CREATE, 400, {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}),
        (MESSAGE_OF_OURS, 400, {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}),
        (MESSAGE_OF_OTHERS, 404, {"error_code": "thread_not_found"}),
    ],
)
def test_a_thread_is_refused_before_anything_starts(
    house: House, path: str, stream: bool, thread: dict[str, str], status: int, details: dict[str, Any]
) -> None:
    body = {"model": "claude", "max_tokens": 9, "messages": HELLO, "stream": stream, "thread": thread}
    before = len(house.cli.reports())
    answer = house.server.client.post(f"/anthropic{path}", body)
    assert (answer.status, answer.json["error"]["details"]) == (status, details)
    assert len(house.cli.reports()) == before


@pytest.mark.parametrize("thread", [{"type": "fork"}, {}, "x"])
def test_a_thread_of_another_form_is_not_valid(house: House, thread: Any) -> None:
    body = {"model": "demo", "max_tokens": 9, "messages": HELLO, "thread": thread}
    answer = house.server.client.post("/anthropic/v1/messages", body)
    assert answer.status == 400
    assert "thread" in answer.json["error"]["message"]


def test_no_thread_is_no_thread(house: House) -> None:
    body = {"model": "demo", "max_tokens": 9, "messages": HELLO, "thread": None}
    assert house.server.client.post("/anthropic/v1/messages", body).status == 200


def test_the_sdk_s_thread_goes_on_with_the_whole_conversation(house: House) -> None:
    with house.client() as client:
        thread = client.beta.messages.thread(model="demo", max_tokens=100, unsupported_request_behavior="continue_unthreaded")
        thread.send({"role": "user", "content": "my name is Ada"})
        answer = thread.send({"role": "user", "content": "and my name?"})
    assert "my name is Ada" in answer.content[0].text  # type: ignore[union-attr]


def test_the_sdk_s_thread_raises_its_own_error_where_its_user_wants_that(house: House) -> None:
    with house.client() as client, pytest.raises(anthropic.BadRequestError) as raised:
        client.beta.messages.thread(model="demo", max_tokens=100).send(HELLO[0])
    assert raised.value.error_code == "thread_unsupported_request"


@beta_tool
def weather(place: str) -> str:
    """The weather of a place."""
    return f"rain in {place}"


def test_the_sdk_s_tool_runner_gets_its_answer(house: House) -> None:
    with house.client() as client:
        runner = client.beta.messages.tool_runner(
            model="demo", max_tokens=100, tools=[weather], messages=HELLO, extra_headers={"X-Clinvk-Tools": "ignore"}
        )
        assert "You said" in runner.until_done().content[0].text  # type: ignore[union-attr]
