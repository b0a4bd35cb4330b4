"""Responses that are continued more than once, or must keep nothing: each goes on from what its own predecessors have said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.clients.openai.conftest import House
from tests.clients.openai.test_responses import ask
from tests.parts.clis import do
from tests.parts.processes import eventually


def known(house: House, about: str) -> list[str]:
    """What the session of the process that was told ``about`` holds of the user's words."""
    (path,) = [path for path in house.cli.transcripts if about in path.read_text()]
    return [line["user"] for line in map(json.loads, path.read_text().splitlines()) if "user" in line]


def resumed(house: House, about: str) -> str:
    (report,) = house.processes(about)
    return next(arg.partition("=")[2] for arg in report["argv"] if arg.startswith("--resume="))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_second_continuation_goes_on_from_the_response_and_not_from_the_first(house: House, client: openai.OpenAI, stream: bool) -> None:
    def go_on(prompt: str, previous: Any = None) -> Any:
        answer = ask(client, prompt, stream=stream, previous_response_id=previous and previous.id)
        return next(event.response for event in answer if event.type == "response.completed") if stream else answer

    name = f"tree-{stream}"
    root = go_on(f"{name} root")
    left = go_on(f"{name} left", root)
    right = go_on(f"{name} right", root)
    go_on(f"{name} left leaf", left)
    go_on(f"{name} right leaf", right)
    go_on(f"{name} third", root)
    assert known(house, f"{name} left leaf") == [f"{name} root", f"{name} left", f"{name} left leaf"]
    assert known(house, f"{name} right leaf") == [f"{name} root", f"{name} right", f"{name} right leaf"]
    assert known(house, f"{name} third") == [f"{name} root", f"{name} third"]
    assert len({resumed(house, f"{name} {end}") for end in ("left leaf", "right leaf", "third")}) == 3
    assert resumed(house, f"{name} left leaf") == Path(*[p for p in house.cli.transcripts if f"{name} left" in p.read_text()]).stem


def test_a_continuation_that_failed_is_no_part_of_the_next_attempt(house: House, client: openai.OpenAI) -> None:
    root = ask(client, "attempt root")
    with pytest.raises(openai.InternalServerError):
        ask(client, do(["fail", "it broke", 500], about="attempt failed"), previous_response_id=root.id)
    ask(client, "attempt again", previous_response_id=root.id)
    assert known(house, "attempt again") == ["attempt root", "attempt again"]


def test_items_of_a_response_stand_for_it(house: House, client: openai.OpenAI) -> None:
    root = ask(client, "referred root")
    reference = {"type": "item_reference", "id": root.output[0].id}
    ask(client, "referred left", previous_response_id=root.id)
    ask(client, [reference, {"role": "user", "content": "referred right"}])
    assert known(house, "referred right") == ["referred root", "referred right"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_store_false_goes_on_and_leaves_nothing(house: House, client: openai.OpenAI, stream: bool) -> None:
    name = f"passing-{stream}"
    root = ask(client, f"{name} root")
    before = {path: path.read_bytes() for path in house.cli.transcripts}
    answer = ask(client, f"{name} by", previous_response_id=root.id, store=False, stream=stream)
    if stream:
        answer = list(answer)[-1].response
    assert (answer.output_text, answer.store) == (f"You said: {name} by", False)
    assert resumed(house, f"{name} by")  # in a copy, which is gone
    assert eventually(lambda: {path: path.read_bytes() for path in house.cli.transcripts} == before)
    with pytest.raises(openai.BadRequestError):
        ask(client, previous_response_id=answer.id)
    ask(client, f"{name} on", previous_response_id=root.id)
    assert known(house, f"{name} on") == [f"{name} root", f"{name} on"]


def test_a_client_that_leaves_a_passing_run_leaves_nothing(house: House, client: openai.OpenAI) -> None:
    root = ask(client, "left passing")
    before = house.cli.transcripts
    body = {
        "model": "claude", "input": do(["say", "so far"], ["hang"]), "previous_response_id": root.id, "store": False, "stream": True,
    }  # fmt: skip
    with house.server.client.open("POST", "/openai/v1/responses", body) as stream:
        next(event for event in stream.events() if "so far" in event.data)
    assert eventually(lambda: house.cli.transcripts == before)


def test_a_response_that_is_being_made_cannot_be_continued_yet(house: House, client: openai.OpenAI) -> None:
    body = {"model": "claude", "input": do(["say", "so far"], ["hang"], about="in the making"), "stream": True}
    with house.server.client.open("POST", "/openai/v1/responses", body) as stream:
        events = stream.events()
        id = next(event.json["response"]["id"] for event in events if event.name == "response.created")
        next(event for event in events if "so far" in event.data)
        with pytest.raises(openai.ConflictError) as raised:
            ask(client, "too early", previous_response_id=id)
    assert raised.value.param == "previous_response_id"


def test_a_session_that_is_gone_is_not_found(house: House, client: openai.OpenAI) -> None:
    root = ask(client, "gone by then")
    for path in [path for path in house.cli.transcripts if "gone by then" in path.read_text()]:
        path.unlink()
    with pytest.raises(openai.BadRequestError) as raised:
        ask(client, previous_response_id=root.id)
    assert raised.value.code == "previous_response_not_found"


def test_a_cli_whose_sessions_cannot_be_copied_says_so(client: openai.OpenAI) -> None:
    root = ask(client, "hello", "demo")
    ask(client, "hello", "demo", previous_response_id=root.id)
    with pytest.raises(openai.BadRequestError, match="cannot copy") as raised:
        ask(client, "hello", "demo", previous_response_id=root.id)
    assert raised.value.param == "previous_response_id"


def test_a_turn_of_a_session_is_followed_once(house: House, client: openai.OpenAI) -> None:
    session = house.server.client.post("/api/v1/sessions", {"backend": "demo"}).json["id"]
    named = {"X-Clinvk-Session": session}
    first = ask(client, "one", "demo", extra_headers=named)
    with pytest.raises(openai.BadRequestError, match="store"):
        ask(client, "two", "demo", previous_response_id=first.id, store=False)
    ask(client, "two", "demo", previous_response_id=first.id)
    with pytest.raises(openai.BadRequestError, match="fork"):
        ask(client, "three", "demo", previous_response_id=first.id)
    ask(client, "three", "demo", previous_response_id=first.id, extra_headers=named)
    turns = house.server.client.get(f"/api/v1/sessions/{session}/turns").json["turns"]
    assert [turn["prompt"] for turn in turns] == ["one", "two", "three"]
