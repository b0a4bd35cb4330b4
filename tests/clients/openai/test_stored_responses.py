"""Responses that are stored: run in the background, polled, followed, cancelled, retrieved and deleted with OpenAI's own SDK."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from tests.clients.openai.conftest import House
from tests.clients.openai.test_responses import ask
from tests.parts.clis import do
from tests.parts.processes import eventually

UNFINISHED = ("queued", "in_progress")


def polled(client: openai.OpenAI, id: str) -> Response:
    """As OpenAI's guide does it."""
    assert eventually(lambda: client.responses.retrieve(id).status not in UNFINISHED)
    return client.responses.retrieve(id)


class Gate:
    """Holds a scripted CLI between two words."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def prompt(self, about: str) -> str:
        return do(["say", "one "], ["wait_for", str(self._path)], ["say", "two"], about=about)

    def open(self) -> None:
        self._path.touch()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


@contextmanager
def running(client: openai.OpenAI, gate: Gate, about: str, **more: Any) -> Iterator[Response]:
    """A background response whose CLI has said the first of two words."""
    response = ask(client, gate.prompt(about), background=True, **more)
    with client.responses.retrieve(response.id, stream=True) as stream:
        next(event for event in stream if event.type == "response.output_text.delta")
    yield response


def events_of(client: openai.OpenAI, id: str, **more: Any) -> list[Any]:
    return list(client.responses.retrieve(id, stream=True, **more))


def test_a_background_response_is_answered_at_once_and_polled_to_its_end(client: openai.OpenAI, gate: Gate) -> None:
    with running(client, gate, "poll me", metadata={"a": "b"}, instructions="Be brief.") as queued:
        assert (queued.status, queued.background, queued.output, queued.usage) == ("queued", True, [], None)
        gate.open()
        final = polled(client, queued.id)
    assert (final.status, final.output_text, final.error) == ("completed", "one two", None)
    assert final.usage is not None
    assert final.usage.output_tokens == 7
    assert (final.id, final.created_at, final.metadata, final.instructions) == (queued.id, queued.created_at, {"a": "b"}, "Be brief.")


def test_a_background_stream_that_breaks_off_is_continued_after_the_last_event(client: openai.OpenAI, gate: Gate) -> None:
    with ask(client, gate.prompt("break off"), background=True, stream=True) as stream:
        seen = []
        for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
    assert [event.type for event in seen[:3]] == ["response.created", "response.queued", "response.in_progress"]
    id, last = seen[0].response.id, seen[-1].sequence_number
    assert client.responses.retrieve(id).status == "in_progress"
    gate.open()
    rest = events_of(client, id, starting_after=last)
    assert [event.sequence_number for event in (*seen, *rest)] == list(range(last + 1 + len(rest)))
    assert (rest[-1].type, rest[-1].response.output_text) == ("response.completed", "one two")
    assert [event.to_dict() for event in events_of(client, id)] == [event.to_dict() for event in (*seen, *rest)]
    assert rest[-1].response == client.responses.retrieve(id)


def test_the_stream_helper_resumes_a_response(client: openai.OpenAI) -> None:
    response = ask(client, do(["tokens", 20]), background=True)
    with client.responses.stream(response_id=response.id, starting_after=3) as stream:
        numbers = [event.sequence_number for event in stream]
        assert stream.get_final_response().output_text == " ".join(f"tok{i}" for i in range(20))
    assert numbers[0] == 4


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_foreground_response_is_retrieved_and_replayed_as_it_was(client: openai.OpenAI, stream: bool) -> None:
    answer = ask(client, do(["say", "I look. "], ["tool", "ls", "x"], ["say", "hello"]), stream=stream)
    events = list(answer) if stream else []
    final = events[-1].response if stream else answer
    assert client.responses.retrieve(final.id) == final
    replayed = events_of(client, final.id)
    assert [event.sequence_number for event in replayed] == list(range(len(replayed)))
    assert replayed[-1].response == final
    assert events_of(client, final.id, starting_after=replayed[-1].sequence_number) == []
    if stream:
        assert replayed == events


def test_what_is_not_stored_is_not_found(house: House, client: openai.OpenAI) -> None:
    passing = ask(client, "not for you", store=False)
    keyed = ask(client, "not for you either", store=False, extra_headers={"Idempotency-Key": "passing"})
    unknown = ask(client, "unknown").id[:-2] + "xx"
    for id in (passing.id, keyed.id, unknown, "resp_123"):
        for call in (client.responses.retrieve, client.responses.delete, client.responses.cancel, client.responses.input_items.list):
            with pytest.raises(openai.NotFoundError, match="not found"):
                call(id)


def test_a_response_of_a_cli_without_sessions_is_stored_but_not_continued(client: openai.OpenAI) -> None:
    answer = ask(client, "say it", "echo")
    assert answer.store is True
    assert client.responses.retrieve(answer.id).output_text == answer.output_text
    with pytest.raises(openai.BadRequestError) as raised:
        ask(client, "go on", "echo", previous_response_id=answer.id)
    assert raised.value.code == "previous_response_not_found"


def test_a_running_response_is_cancelled_once_with_its_processes(house: House, client: openai.OpenAI, gate: Gate) -> None:
    with running(client, gate, "cancel me") as response:
        cancelled = client.responses.cancel(response.id)
        assert (cancelled.status, cancelled.error, cancelled.output_text) == ("cancelled", None, "one ")
        assert eventually(lambda: not house.server.runs())
    assert client.responses.cancel(response.id) == client.responses.retrieve(response.id) == cancelled
    last = events_of(client, response.id)[-1]
    assert (last.type, last.response) == ("response.failed", cancelled)


def test_a_completed_background_response_stays_so(client: openai.OpenAI) -> None:
    final = polled(client, ask(client, background=True).id)
    assert client.responses.cancel(final.id) == final


def test_a_foreground_response_cannot_be_cancelled(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        client.responses.cancel(ask(client).id)


def test_a_failed_run_is_a_failed_response(client: openai.OpenAI) -> None:
    response = polled(client, ask(client, do(["say", "so far"], ["fail", "API Error: 429 rate limit", 429]), background=True).id)
    assert response.status == "failed"
    assert response.error is not None
    assert response.error.code == "rate_limit_exceeded"
    with pytest.raises(openai.APIError, match="rate limit"):
        events_of(client, response.id)


def test_a_limit_of_tokens_makes_an_incomplete_response(client: openai.OpenAI) -> None:
    response = polled(client, ask(client, "[[demo tokens=50 delay_ms=0]]", "demo", max_output_tokens=3, background=True).id)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def test_a_background_response_is_continued_in_its_session(house: House, client: openai.OpenAI) -> None:
    first = polled(client, ask(client, "the first in the background", background=True).id)
    second = ask(client, "the second in the background", previous_response_id=first.id, background=True)
    assert polled(client, second.id).previous_response_id == first.id
    ask(client, "another second", previous_response_id=first.id)
    ask(client, [{"type": "item_reference", "id": first.output[0].id or ""}, {"role": "user", "content": "a third second"}])
    for about in ("the second in the background", "another second", "a third second"):
        (report,) = house.processes(about)
        assert any(arg.startswith("--resume=") for arg in report["argv"]), about
        assert report["prompt"] == about


def test_a_response_that_has_not_ended_cannot_be_continued(client: openai.OpenAI, gate: Gate) -> None:
    with running(client, gate, "not yet") as response, pytest.raises(openai.ConflictError) as raised:
        ask(client, "too early", previous_response_id=response.id)
    assert raised.value.param == "previous_response_id"


@pytest.mark.parametrize("background", [False, True])
def test_what_cannot_be_continued_is_refused_at_once(client: openai.OpenAI, background: bool) -> None:
    first = ask(client, "hello", "demo")
    ask(client, "hello", "demo", previous_response_id=first.id)
    with pytest.raises(openai.BadRequestError, match="cannot copy"):
        ask(client, "hello", "demo", previous_response_id=first.id, background=background)


def test_a_session_has_one_response_at_a_time(house: House, client: openai.OpenAI, gate: Gate) -> None:
    session = house.server.client.post("/api/v1/sessions", {"backend": "claude"}).json["id"]
    named = {"X-Clinvk-Session": session}
    with running(client, gate, "first turn", extra_headers=named) as response, pytest.raises(openai.ConflictError):
        ask(client, "second turn", background=True, extra_headers=named)
    gate.open()
    polled(client, response.id)
    polled(client, ask(client, "second turn", background=True, previous_response_id=response.id).id)
    turns = house.server.client.get(f"/api/v1/sessions/{session}/turns").json["turns"]
    assert [turn["output"] for turn in turns] == ["one two", "You said: second turn"]


@pytest.mark.parametrize("background", [False, True])
def test_a_deleted_response_is_not_found_and_not_continued(house: House, client: openai.OpenAI, background: bool) -> None:
    response = polled(client, ask(client, f"delete me {background}", background=background).id)
    kept = ask(client, "go on", previous_response_id=response.id)
    raw = client.responses.with_raw_response.delete(response.id)
    assert raw.http_response.json() == {"id": response.id, "object": "response", "deleted": True}
    for call in (client.responses.retrieve, client.responses.delete, client.responses.cancel, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            call(response.id)
    reference = {"type": "item_reference", "id": response.output[0].id}
    for more in ({"previous_response_id": response.id}, {"prompt": [reference, {"role": "user", "content": "x"}]}):
        for later in (False, True):
            with pytest.raises(openai.BadRequestError):
                ask(client, **more, background=later)
    assert ask(client, "go on", previous_response_id=kept.id).status == "completed"


def test_a_running_response_is_cancelled_before_it_is_deleted(house: House, client: openai.OpenAI, gate: Gate) -> None:
    with running(client, gate, "delete me as well") as response:
        client.responses.delete(response.id)
        assert eventually(lambda: not house.server.runs())


def test_the_input_is_listed_as_items_with_ids(client: openai.OpenAI) -> None:
    answer = ask(client, [
        {"role": "developer", "content": "Be brief."},
        {"type": "function_call", "call_id": "call_1", "name": "look_up", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
        {"role": "assistant", "content": "the answer"},
        {"type": "message", "id": "msg_mine", "role": "user", "content": [{"type": "input_text", "text": "and now?"}]},
    ])  # fmt: skip
    items: Any = list(client.responses.input_items.list(answer.id, order="asc", limit=2))
    assert [item.type for item in items] == ["message", "function_call", "function_call_output", "message", "message"]
    assert items[0].content[0].text == "Be brief."
    assert (items[1].name, items[2].output, items[3].content[0].type) == ("look_up", "42", "output_text")
    assert items[4].id == "msg_mine"
    assert len({item.id for item in items}) == 5
    assert [item.id for item in client.responses.input_items.list(answer.id)] == [item.id for item in reversed(items)]
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.input_items.list(answer.id, after="msg_nothing")
    assert raised.value.param == "after"


@pytest.mark.parametrize("background", [False, True])
def test_a_string_of_input_is_one_message(client: openai.OpenAI, background: bool) -> None:
    (item,) = client.responses.input_items.list(ask(client, "hello", background=background).id)
    assert item.type == "message"
    assert (item.role, item.content[0].text) == ("user", "hello")  # type: ignore[union-attr]


@pytest.mark.parametrize("number", ["x", "-1", "1.5", 2**53 + 1, 10**30])
def test_a_number_of_no_event_is_refused(house: House, client: openai.OpenAI, number: object) -> None:
    path = f"/openai/v1/responses/{ask(client).id}?stream=true&starting_after={number}"
    answer = house.server.client.get(path)
    assert (answer.status, answer.json["error"]["param"]) == (400, "starting_after")


def test_a_repeated_key_gets_the_same_response(house: House, client: openai.OpenAI) -> None:
    key = {"Idempotency-Key": "twice"}
    first = ask(client, "only once", background=True, extra_headers=key)
    final = polled(client, first.id)
    again = client.responses.with_raw_response.create(model="claude", input="only once", background=True, extra_headers=key)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.parse() == final
    with pytest.raises(openai.ConflictError):
        ask(client, "another", background=True, extra_headers=key)
    foreground = [ask(client, "once more", extra_headers={"Idempotency-Key": "foreground"}) for _ in range(2)]
    assert foreground[0] == foreground[1]
    assert len(house.processes("once more")) == len(house.processes("only once")) == 1


def test_every_answer_names_the_run(house: House, client: openai.OpenAI) -> None:
    raw = client.responses.with_raw_response
    created = [raw.create(model="claude", input="name it", background=background) for background in (False, True)]
    for answer in created:
        run_id = answer.headers["x-clinvk-run-id"]
        polled(client, answer.parse().id)
        assert raw.retrieve(answer.parse().id).headers["x-clinvk-run-id"] == run_id
        run = house.server.client.get(f"/api/v1/runs/{run_id}").json
        assert (run["kind"], run["status"], run["result"]["id"]) == ("response", "completed", answer.parse().id)
    assert created[1].headers["x-clinvk-backend"] == "claude"
    unstored = raw.create(model="claude", input="name it", store=False)
    assert unstored.headers["x-clinvk-run-id"].startswith("run_")


def test_the_native_events_of_a_response_are_all_of_them(house: House, client: openai.OpenAI) -> None:
    answer = client.responses.with_raw_response.create(model="claude", input="events of")
    events = house.server.client.get(f"/api/v1/runs/{answer.headers['x-clinvk-run-id']}/events").body.decode()
    assert events.startswith("event: response.created\n")
    assert events.count("event: response.completed\n") == 1
