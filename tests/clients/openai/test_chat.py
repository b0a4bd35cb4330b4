"""Chat completions through OpenAI's own SDK, over a real socket."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.clients.openai.conftest import House
from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do, told

HELLO: Any = [{"role": "user", "content": "hello"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def ask(client: openai.OpenAI, prompt: str = "hello", model: str = "claude", **more: Any) -> Any:
    return client.chat.completions.create(**{"model": model, "messages": [{"role": "user", "content": prompt}], **more})


def joined(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_plain_call(client: openai.OpenAI) -> None:
    answer = ask(client, do(["say", "hello "], ["say", "world"]))
    assert answer.choices[0].message.content == "hello world"
    assert (answer.object, answer.model, answer.choices[0].finish_reason) == ("chat.completion", "claude", "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (16, 7, 23)
    assert answer.usage.prompt_tokens_details.cached_tokens == 5
    assert answer.id.startswith("chatcmpl-")


def test_stream_has_the_same_text_and_the_grammar_of_chunks(client: openai.OpenAI) -> None:
    chunks = list(ask(client, do(["tokens", 200], ["say", " é漢字🙂\u2028end"]), stream=True))
    assert joined(chunks) == " ".join(f"tok{i}" for i in range(200)) + " é漢字🙂\u2028end"
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert not any(chunk.usage for chunk in chunks)


def test_include_usage_ends_the_stream_with_a_chunk_of_its_own(client: openai.OpenAI) -> None:
    *chunks, last = ask(client, stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (16, 7)
    assert not any(chunk.usage for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)


def test_bytes_of_a_stream_are_data_lines_and_done(house: House) -> None:
    body = {"model": "claude", "messages": HELLO, "stream": True}
    with house.server.client.open("POST", "/openai/v1/chat/completions", body) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["x-clinvk-backend"] == "claude"
        lines = [line for line in stream.response.read().decode().split("\n\n") if not line.startswith(":")]
    assert lines[-2:] == ["data: [DONE]", ""]
    assert all(line.startswith("data: ") for line in lines[:-1])


def test_silence_is_filled_with_comments(house: House) -> None:
    body = {"model": "claude", "messages": [{"role": "user", "content": do(["init"], ["wait", 1], ["say", "late"])}], "stream": True}
    with house.server.client.open("POST", "/openai/v1/chat/completions", body) as stream:
        raw = stream.response.read().decode()
    assert raw.count(": keep-alive\n\n") >= 2
    assert "late" in raw


def test_stream_helper_gives_the_final_completion(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": do(["tokens", 20])}]
    with client.chat.completions.stream(model="claude", messages=messages, stream_options={"include_usage": True}) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert final.choices[0].message.content == " ".join(f"tok{i}" for i in range(20))
    assert final.choices[0].finish_reason == "stop"
    assert final.usage is not None
    assert final.usage.completion_tokens == 7
    assert kinds.count("content.delta") >= 20
    assert kinds[-1] == "chunk" or "content.done" in kinds


def test_fifty_at_once_each_get_their_own_answer(house: House) -> None:
    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(base_url=house.url, api_key="any", max_retries=0) as client:

            async def one(number: int) -> str:
                messages: Any = [{"role": "user", "content": do(["say", f"I am {number}. "], ["tokens", 5, 0.001])}]
                if number % 2:
                    answer = await client.chat.completions.create(model="claude", messages=messages)
                    return answer.choices[0].message.content or ""
                chunks = [chunk async for chunk in await client.chat.completions.create(model="claude", messages=messages, stream=True)]
                return joined(chunks)

            return await asyncio.gather(*map(one, range(50)))

    assert asyncio.run(all_of_them()) == [f"I am {number}. tok0 tok1 tok2 tok3 tok4" for number in range(50)]


def test_raw_response_tells_who_answered_and_what_was_ignored(client: openai.OpenAI) -> None:
    create = client.chat.completions.with_raw_response.create
    raw = create(model="claude", messages=HELLO, temperature=0.5, seed=7, logprobs=True, user="me", metadata={"a": "b"})
    assert raw.headers["x-clinvk-backend"] == "claude"
    assert raw.headers["x-clinvk-ignored"] == "temperature, seed, logprobs"
    assert re.fullmatch(r"req_\w+", raw.headers["x-request-id"])
    assert "x-clinvk-estimated" not in raw.headers
    assert raw.parse().choices[0].logprobs is None


def test_usage_that_nobody_told_is_an_estimate_and_says_so(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="echo", messages=[{"role": "user", "content": "x" * 400}])
    usage = raw.parse().usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (100, 100)
    assert raw.headers["x-clinvk-estimated"] == "usage"
    *_, last = ask(client, "x" * 400, "echo", stream=True, stream_options={"include_usage": True})
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.estimated) == (100, 100, True)


def test_model_in_the_answer_is_what_was_asked(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt-4", messages=HELLO)
    assert raw.parse().model == "gpt-4"
    assert raw.headers["x-clinvk-backend"] == "demo"


def test_conversation_keeps_roles_order_and_every_message(house: House, client: openai.OpenAI) -> None:
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "first question"}]},
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"q": "x"}'}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "it is 42"}]},
        {"role": "assistant", "content": "the answer"},
        {"role": "developer", "content": [{"type": "text", "text": "Be polite."}]},
        {"role": "user", "content": "second question", "name": "ada"},
    ]
    client.chat.completions.create(model="claude", messages=messages)
    (report,) = house.processes("second question")
    prompt = told(report)
    places = [prompt.index(text) for text in ("first question", "look_up", '{"q": "x"}', "it is 42", "the answer", "second question")]
    assert places == sorted(places)
    assert "Be brief." not in prompt
    assert house.initialized("second question")[0]["systemPrompt"] == ["Be brief.\n\nBe polite."]


def test_single_message_is_passed_as_it_is(house: House, client: openai.OpenAI) -> None:
    ask(client, "--help me\nwith this: é")
    assert [report["prompt"] for report in house.processes("with this")] == ["--help me\nwith this: é"]


def test_a_misspelled_field_is_named_and_the_one_that_was_meant(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="demo", messages=HELLO, extra_body={"max_token": 5, "temprature": 0})
    assert raw.headers["x-clinvk-ignored"] == "max_token, temprature"
    assert "'temprature', did you mean 'temperature'?" in raw.headers["x-clinvk-hint"]


def test_nulls_empty_lists_and_unknown_fields_are_fine(house: House) -> None:
    body = {
        "model": "claude",
        "messages": [{"role": "user", "content": "hello", "name": None, "cache_control": {"type": "ephemeral"}, "not_yet": 1}],
        **{key: [] for key in ("tools", "functions", "stop")},
        **dict.fromkeys(("n", "seed", "temperature", "max_tokens", "response_format", "tool_choice", "stream_options", "reasoning_effort")),
        "stream": None,
        "parallel_tool_calls": True,
        "logit_bias": {},
        "field_of_tomorrow": {"a": 1},
    }
    answer = house.server.client.post("/openai/v1/chat/completions?api-version=1", body)
    assert answer.status == 200, answer.body
    assert not {"x-clinvk-ignored", "x-clinvk-hint"} & {name.lower() for name in answer.headers}


def test_body_of_the_responses_api_is_understood_here_too(house: House) -> None:
    """Cursor sends such ones to the chat route."""
    body = {"model": "claude", "input": [{"role": "user", "content": [{"type": "input_text", "text": "from cursor"}]}], "tools": []}
    answer = house.server.client.post("/openai/v1/chat/completions", {**body, "instructions": "Be brief.", "reasoning": {"effort": "low"}})
    assert answer.json["choices"][0]["message"]["content"] == "You said: from cursor"


def test_options_reach_the_cli(house: House, client: openai.OpenAI) -> None:
    ask(client, "with options", model="claude/opus", reasoning_effort="high", max_completion_tokens=77)
    (report,) = house.processes("with options")
    assert {"--model=opus", "--effort=high", "--no-session-persistence"} <= set(report["argv"])
    assert "CLAUDE_CODE_MAX_OUTPUT_TOKENS" in report["env"]


@pytest.mark.parametrize("stop", ["END", ["nope", "END"]])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_stop_cuts_the_text_and_ends_the_cli(client: openai.OpenAI, stop: Any, stream: bool) -> None:
    prompt = do(["say", "one two E"], ["say", "ND three"], ["hang"])
    answer = ask(client, prompt, stop=stop, stream=stream)
    if stream:
        chunks = list(answer)
        assert (joined(chunks), chunks[-1].choices[0].finish_reason) == ("one two ", "stop")
    else:
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("one two ", "stop")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_limit_of_tokens_is_finish_reason_length(client: openai.OpenAI, stream: bool) -> None:
    answer = ask(client, "[[demo tokens=50 delay_ms=0]]", "demo", max_tokens=3, stream=stream)
    choice = list(answer)[-1].choices[0] if stream else answer.choices[0]
    assert choice.finish_reason == "length"


def test_agents_own_tools_are_no_calls_for_the_client(client: openai.OpenAI) -> None:
    prompt = do(["say", "I look."], ["tool", "ls", "a.txt"], ["say", "Found."])
    answer = ask(client, prompt)
    assert answer.choices[0].message.content == "I look.\n\nFound."
    assert answer.choices[0].message.tool_calls is None
    assert joined(ask(client, prompt, stream=True)) == "I look.\n\nFound."


class Step(BaseModel):
    text: str
    number: int


def test_parse_gives_an_object_of_the_asked_class(house: House, client: openai.OpenAI) -> None:
    wanted = {"text": "é", "number": 7}
    prompt = do(["say", "I think of one. "], ["tool", "ls", "x"], ["say", json.dumps(wanted)], about="parse this")
    messages: Any = [{"role": "user", "content": prompt}]
    parsed = client.chat.completions.parse(model="claude", messages=messages, response_format=Step)
    assert parsed.choices[0].message.parsed == Step(**wanted)
    with client.chat.completions.stream(model="claude", messages=messages, response_format=Step) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Step(**wanted)
    assert ["jsonSchema" in initialize for initialize in house.initialized("parse this")] == [True, True]


def test_json_object_is_asked_for_in_the_system_prompt(house: House, client: openai.OpenAI) -> None:
    ask(client, "json please", model="echo", response_format={"type": "json_object"})
    answer = ask(client, "json please", model="echo", response_format={"type": "json_object"})
    assert "one JSON object" in answer.choices[0].message.content  # `echo` has no system prompt: it stands in the transcript


def test_session_header_makes_the_answer_a_turn_of_that_session(house: House, client: openai.OpenAI) -> None:
    session = house.server.client.post("/api/v1/sessions", {"backend": "claude"}).json["id"]
    headers = {"X-Clinvk-Session": session}
    messages: Any = [*HELLO, {"role": "assistant", "content": "hi there"}, {"role": "user", "content": "go on with it"}]
    first = client.chat.completions.create(model="claude", messages=messages, extra_headers=headers)
    messages += [first.choices[0].message.to_dict(), {"role": "user", "content": "and go on"}]
    second = client.chat.completions.create(model="claude", messages=messages, extra_headers=headers)
    (begun,) = house.processes("go on with it")
    (resumed,) = house.processes("and go on")
    assert "hi there" in told(begun)  # the session knew nothing yet
    assert not resumed["history"]
    assert resumed["prompt"] == "and go on"
    assert not any("--no-session-persistence" in report["argv"] for report in (begun, resumed))
    turns = house.server.client.get(f"/api/v1/sessions/{session}/turns").json["turns"]
    assert [(turn["prompt"], turn["output"]) for turn in turns] == [
        (begun["prompt"], first.choices[0].message.content),
        ("and go on", second.choices[0].message.content),
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_unknown_session_is_not_found(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError, match="session") as raised:
        ask(client, "hello", model="claude", stream=stream, extra_headers={"X-Clinvk-Session": "latest"})
    assert raised.value.param == "X-Clinvk-Session"


def test_workdir_header_is_where_the_cli_runs(house: House, client: openai.OpenAI) -> None:
    ask(client, "where am I", extra_headers={"X-Clinvk-Workdir": str(house.server.workdir)})
    (report,) = house.processes("where am I")
    assert report["cwd"] == str(house.server.workdir)


def test_lost_client_stops_the_cli(house: House) -> None:
    for stream in (False, True):
        body = {"model": "claude", "messages": [{"role": "user", "content": do(["init"], ["hang"])}], "stream": stream}
        before = len(house.cli.reports())
        with house.server.client.send("POST", "/openai/v1/chat/completions", body):
            house.cli.wait_for(before + 1)
    # the fixture insists that nothing is left running


def test_dry_run_answers_with_the_command_line(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server({"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "unified_flags": {"dry_run": True}})
    with openai.OpenAI(base_url=f"{one.url}/openai/v1", api_key="any", max_retries=0) as client:
        assert "--output-format=stream-json" in ask(client).choices[0].message.content
        assert "--output-format=stream-json" in joined(ask(client, stream=True))
    assert fake_cli.reports() == []
