"""Responses through OpenAI's own SDK, over a real socket."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from blueprints.openai.responses.ids import RESPONSE, new_id, session_of
from services.access.scope import EVERYONE
from tests.clients.openai.conftest import House
from tests.parts.clis import do, told

SESSION = "5f0c9c1e-0000-4000-8000-00000000000a"


def ask(client: openai.OpenAI, prompt: Any = "hello", model: str = "claude", **more: Any) -> Any:
    return client.responses.create(**{"model": model, "input": prompt, **more})


def test_plain_call(client: openai.OpenAI) -> None:
    answer = ask(client, do(["say", "hello "], ["say", "world"]), metadata={"a": "b"})
    assert answer.output_text == "hello world"
    assert (answer.object, answer.model, answer.status, answer.error) == ("response", "claude", "completed", None)
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (16, 7, 23)
    assert answer.usage.input_tokens_details.cached_tokens == 5
    assert answer.metadata == {"a": "b"}


def test_stream_keeps_the_grammar_and_ends_with_the_same_response(client: openai.OpenAI) -> None:
    events = list(ask(client, do(["tokens", 50], ["say", " é漢字🙂\u2028end"]), stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert kinds[-4:] == ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    said = " ".join(f"tok{i}" for i in range(50)) + " é漢字🙂\u2028end"
    assert "".join(event.delta for event in events[4:-4]) == said
    last = events[-1].response
    assert (last.output_text, last.status, last.usage.output_tokens) == (said, "completed", 7)
    assert last.id == events[0].response.id
    assert {event.item_id for event in events[3:-2]} == {last.output[0].id}


def test_every_event_is_named_as_its_type(house: House) -> None:
    body = {"model": "claude", "input": "hello", "stream": True}
    with house.server.client.open("POST", "/openai/v1/responses", body) as stream:
        arrivals = list(stream.events())
    assert [arrival.name for arrival in arrivals] == [arrival.json["type"] for arrival in arrivals]
    assert not any("[DONE]" in arrival.data for arrival in arrivals)


def test_stream_helper_gives_the_final_response(client: openai.OpenAI) -> None:
    with client.responses.stream(model="claude", input=do(["tokens", 20])) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text == " ".join(f"tok{i}" for i in range(20))


class Step(BaseModel):
    text: str
    number: int


def test_parse_gives_an_object_of_the_asked_class(house: House, client: openai.OpenAI) -> None:
    wanted = {"text": "é", "number": 7}
    prompt = do(["say", "I think. "], ["tool", "ls", "x"], ["say", json.dumps(wanted)], about="respond and parse")
    assert client.responses.parse(model="claude", input=prompt, text_format=Step).output_parsed == Step(**wanted)
    with client.responses.stream(model="claude", input=prompt, text_format=Step) as stream:
        assert stream.get_final_response().output_parsed == Step(**wanted)
    assert ["jsonSchema" in initialize for initialize in house.initialized("respond and parse")] == [True, True]


def test_input_of_items_keeps_roles_order_and_every_item(house: House, client: openai.OpenAI) -> None:
    items: Any = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "question one"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": "function_call", "call_id": "call_1", "name": "look_up", "arguments": '{"q": "x"}', "status": "completed"},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "it is 42"}]},
        {"type": "local_shell_call", "call_id": "call_2", "action": {"command": ["ls"]}, "id": "ls_1", "status": "completed"},
        {"type": "local_shell_call_output", "id": "call_2", "output": "a.txt"},
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "content": [{"type": "output_text", "text": "the answer"}],
        },
        {"role": "user", "content": "question two"},
    ]
    ask(client, items, instructions="Be polite.")
    (report,) = house.processes("question two")
    prompt = told(report)
    texts = ("question one", "look_up", '{"q": "x"}', "it is 42", "local_shell", "ls", "a.txt", "the answer", "question two")
    places = [prompt.index(text) for text in texts]
    assert places == sorted(places)
    assert "Be brief." not in prompt
    assert "Be polite." not in prompt
    assert {"Be brief.", "Be polite."} == {*house.initialized("question two")[0]["systemPrompt"][0].split("\n\n")}


def secret_of(house: House) -> bytes:
    return bytes.fromhex((house.server.clinvk_home / "server-secret").read_text())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_id_that_another_server_signed_gets_the_answer_of_an_unknown_one(client: openai.OpenAI, stream: bool) -> None:
    def answer(previous: str) -> Any:
        with pytest.raises(openai.BadRequestError) as raised:
            ask(client, previous_response_id=previous, stream=stream)
        return raised.value.status_code, str(raised.value.body).replace(previous, "ID")

    foreign = new_id(bytes(32), RESPONSE, "claude", SESSION, owner="local")
    assert answer(foreign) == answer("resp_" + "A" * (len(foreign) - 5))


def test_previous_response_continues_the_cli_s_own_session(house: House, client: openai.OpenAI) -> None:
    first = ask(client, "remember the first")
    session = session_of(secret_of(house), EVERYONE, first.id, RESPONSE)
    assert session is not None
    second = ask(client, "and now the second", previous_response_id=first.id)
    (report,) = house.processes("and now the second")
    assert report["prompt"] == "and now the second"
    assert f"--resume={session.id}" in report["argv"]
    assert "--no-session-persistence" not in report["argv"]
    assert second.previous_response_id == first.id
    assert second.id != first.id


def test_stream_s_id_can_be_continued(house: House, client: openai.OpenAI) -> None:
    with client.responses.stream(model="demo", input="remember") as stream:
        first = stream.get_final_response()
    with client.responses.stream(model="demo", input="go on", previous_response_id=first.id) as stream:
        assert stream.get_final_response().status == "completed"


def test_response_that_was_a_turn_of_a_session_is_continued_in_it(house: House, client: openai.OpenAI) -> None:
    session = house.server.client.post("/api/v1/sessions", {"backend": "demo"}).json["id"]
    first = ask(client, "one", model="demo", extra_headers={"X-Clinvk-Session": session})
    ask(client, "two", model="demo", previous_response_id=first.id)
    turns = house.server.client.get(f"/api/v1/sessions/{session}/turns").json["turns"]
    assert [turn["prompt"] for turn in turns] == ["one", "two"]


def test_store_false_keeps_nothing_and_cannot_be_continued(house: House, client: openai.OpenAI) -> None:
    answer = ask(client, "forget this at once", store=False)
    assert "--no-session-persistence" in house.processes("forget this at once")[0]["argv"]
    assert answer.store is False
    with pytest.raises(openai.BadRequestError) as raised:
        ask(client, previous_response_id=answer.id)
    assert (raised.value.code, raised.value.param) == ("previous_response_not_found", "previous_response_id")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("previous", ["resp_123", "nonsense", "../../etc/passwd", "resp_" + "A" * 300])
def test_unknown_previous_response_is_not_found(client: openai.OpenAI, previous: str, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        ask(client, previous_response_id=previous, stream=stream)
    assert raised.value.code == "previous_response_not_found"


def test_session_cannot_be_continued_by_another_backend(house: House, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="demo") as raised:
        ask(client, model="claude", previous_response_id=new_id(secret_of(house), RESPONSE, "demo", SESSION, owner="local"))
    assert raised.value.param == "model"


def test_reference_to_an_item_continues_the_session_that_it_left(house: House, client: openai.OpenAI) -> None:
    """The Vercel AI SDK sends them in the place of every earlier answer."""
    items: list[Any] = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "the first of three"}]
    for prompt in ("the second of three", "the third of three"):
        answer = ask(client, items)
        items += [{"type": "item_reference", "id": answer.output[0].id}, {"role": "user", "content": prompt}]
    ask(client, items)
    (first,) = house.processes("the first of three")
    (last,) = house.processes("the third of three")
    assert "--no-session-persistence" not in first["argv"]
    assert last["prompt"] == "the third of three"
    assert any(arg.startswith("--resume=") for arg in last["argv"])
    assert house.initialized("the third of three")[0]["systemPrompt"] == ["Be kind."]


@pytest.mark.parametrize("id", ["msg_1", None, "resp_x"])
def test_reference_to_an_unknown_item_is_not_found(client: openai.OpenAI, id: str | None) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        ask(client, [{"type": "item_reference", "id": id}, {"role": "user", "content": "x"}])
    assert raised.value.param == "input[0].id"


def test_name_that_nobody_claims_goes_on_with_the_session_s_backend(house: House, client: openai.OpenAI) -> None:
    first = ask(client, "somebody")
    raw = client.responses.with_raw_response.create(model="some-model", input="whoever it was", previous_response_id=first.id)
    assert raw.headers["x-clinvk-backend"] == "claude"


def test_options_reach_the_cli_and_the_rest_is_named(house: House, client: openai.OpenAI) -> None:
    raw = client.responses.with_raw_response.create(
        model="claude/opus", input="options of a response", reasoning={"effort": "low", "summary": "auto"}, max_output_tokens=99,
        temperature=0.1, include=["reasoning.encrypted_content"], truncation="auto", text={"verbosity": "low"}, parallel_tool_calls=False,
        prompt_cache_key="x", user="me",
    )  # fmt: skip
    assert raw.headers["x-clinvk-ignored"] == "temperature, include, text.verbosity, truncation"
    assert raw.headers["x-clinvk-backend"] == "claude"
    (report,) = house.processes("options of a response")
    assert {"--model=opus", "--effort=low"} <= set(report["argv"])
    assert "CLAUDE_CODE_MAX_OUTPUT_TOKENS" in report["env"]
    raw = client.responses.with_raw_response.create(model="echo", input="x", max_output_tokens=9, reasoning={"effort": "low"})
    assert set(raw.headers["x-clinvk-ignored"].split(", ")) == {"max_output_tokens", "reasoning.effort"}
    assert raw.headers["x-clinvk-estimated"] == "usage"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_limit_of_tokens_makes_an_incomplete_response(client: openai.OpenAI, stream: bool) -> None:
    answer = ask(client, "[[demo tokens=50 delay_ms=0]]", "demo", max_output_tokens=3, stream=stream)
    if stream:
        last = list(answer)[-1]
        assert last.type == "response.incomplete"
        answer = last.response
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "background that is not stored": ({"background": True, "store": False}, "background"),
    "webhook of a foreground response": ({"extra_body": {"webhook": {"url": "https://example.com"}}}, "webhook"),
    "conversation": ({"conversation": "conv_1"}, "conversation"),
    "prompt template": ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    "tools": ({"tools": [{"type": "function", "name": "f", "parameters": {}, "strict": True}]}, "tools"),
    "no input": ({"input": []}, "input"),
    "no text": ({"input": [{"role": "user", "content": " "}]}, "input"),
    "input of a wrong type": ({"input": 3}, "input"),
    "item of a wrong type": ({"input": [3]}, "input[0]"),
    "unknown item": ({"input": [{"type": "hologram", "id": "x"}]}, "input[0]"),
    "file": ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]}, "input[0].content[0]"),
    "image by id": ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "x"}]}]}, "input[0].content[0].image_url"),
    "schema that the backend cannot honour": (
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}}},
        "text.format",
    ),
    "unknown effort": ({"reasoning": {"effort": "enormous"}}, "reasoning.effort"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", REFUSED)
def test_refusal_names_the_parameter(client: openai.OpenAI, name: str, stream: bool) -> None:
    asked, param = REFUSED[name]
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(**{"model": "demo", "input": "hello", **asked}, stream=stream)
    assert raised.value.param == param


def test_failed_run_is_raised_and_never_repeated(house: House) -> None:
    with house.client(max_retries=5) as client, pytest.raises(openai.InternalServerError) as raised:
        ask(client, do(["fail", "it broke", 500], about="fail a response"))
    assert raised.value.status_code == 502
    assert len(house.processes("fail a response")) == 1


def test_failure_within_a_stream_is_raised(house: House) -> None:
    seen: list[str] = []
    prompt = do(["say", "so far"], ["fail", "it broke", 500], about="fail in a stream")
    with house.client(max_retries=5) as client, pytest.raises(openai.APIError, match="it broke") as raised:
        seen.extend(event.type for event in ask(client, prompt, stream=True))
    assert seen[-1] == "response.output_item.done"
    assert raised.value.code == "backend_error"
    assert len(house.processes("fail in a stream")) == 1


def test_failed_stream_ends_with_error_and_response_failed(house: House) -> None:
    body = {"model": "claude", "input": do(["fail", "API Error: 429 rate limit", 429]), "stream": True}
    with house.server.client.open("POST", "/openai/v1/responses", body) as stream:
        arrivals = [arrival.json for arrival in stream.events()]
    assert [arrival["type"] for arrival in arrivals] == ["response.created", "response.in_progress", "error", "response.failed"]
    assert [arrival["sequence_number"] for arrival in arrivals] == [0, 1, 2, 3]
    failed = arrivals[-1]["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "rate_limit_exceeded")
