"""Whole answers, asked for with Anthropic's own SDK over a real socket."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam
from pydantic import BaseModel

from tests.clients.anthropic.conftest import House
from tests.parts.clis import do, told

HELLO: list[MessageParam] = [{"role": "user", "content": "hello"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def text(message: anthropic.types.Message) -> str:
    (block,) = message.content
    assert block.type == "text"
    return block.text


def ask(client: anthropic.Anthropic, prompt: str = "hello", **more: Any) -> anthropic.types.Message:
    asked: dict[str, Any] = {"model": "demo", "max_tokens": 1000, "messages": [{"role": "user", "content": prompt}]} | more
    return client.messages.create(**asked)


@pytest.mark.parametrize("base", ["", "/v1", "/"])
def test_either_base_url_is_answered(house: House, base: str) -> None:
    with house.client(base) as client:
        message = ask(client)
        assert "You said: hello" in text(message)
        assert client.models.retrieve("demo").id == "demo"
        assert client.messages.count_tokens(model="demo", messages=HELLO).input_tokens > 0
        assert client.models.list(limit=1).data


def test_answer_has_the_form_that_the_sdk_types_promise(client: anthropic.Anthropic) -> None:
    message = ask(client)
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", "demo")
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (1, 19)
    assert (message.usage.cache_read_input_tokens, message.usage.cache_creation_input_tokens) == (0, 0)


def test_cached_tokens_are_counted_apart(client: anthropic.Anthropic) -> None:
    usage = ask(client, model="claude").usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (11, 5, 7)


@pytest.mark.parametrize(
    ("asked", "backend"), [("demo", "demo"), ("claude", "claude"), ("claude-of-the-future", "claude"), ("gpt-4", "demo"), ("fast", "demo")]
)
def test_model_repeats_what_was_asked_and_a_header_says_who_answered(client: anthropic.Anthropic, asked: str, backend: str) -> None:
    raw = client.messages.with_raw_response.create(model=asked, max_tokens=10, messages=HELLO)
    assert raw.parse().model == asked
    assert raw.headers["X-Clinvk-Backend"] == backend


def test_headers_carry_the_request_id(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.create(model="demo", max_tokens=10, messages=HELLO, extra_headers={"X-Request-ID": "mine.1"})
    assert raw.headers["request-id"] == raw.headers["X-Request-ID"] == "mine.1"
    assert raw.parse()._request_id == "mine.1"


def test_fifty_calls_at_once_are_all_answered_with_ids_of_their_own(house: House) -> None:
    async def all_at_once() -> list[anthropic.types.Message]:
        async with anthropic.AsyncAnthropic(base_url=house.url, api_key="any", max_retries=0) as client:
            calls = [
                client.messages.create(model="demo", max_tokens=100, messages=[{"role": "user", "content": f"number {i}"}])
                for i in range(50)
            ]
            return await asyncio.gather(*calls)

    messages = asyncio.run(all_at_once())
    assert [f"You said: number {i}" in text(message) for i, message in enumerate(messages)] == [True] * 50
    assert len({message.id for message in messages}) == 50


def test_system_text_of_every_kind_reaches_the_cli_as_its_system_prompt(client: anthropic.Anthropic) -> None:
    system: Any = [{"type": "text", "text": "Speak softly.", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "Twice."}]
    messages: Any = [*HELLO, {"role": "system", "content": "And slowly."}]
    answer = text(client.messages.create(model="demo", max_tokens=1000, system=system, messages=messages))
    assert "You said: hello" in answer
    assert "instructions begin with: Speak softly.\nTwice.\n\nAnd slowly." in answer


def test_conversation_keeps_roles_order_and_every_message(house: House, client: anthropic.Anthropic) -> None:
    messages: Any = [
        {"role": "user", "content": "first, conversation-a"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "second"}]},
        {"role": "user", "content": [{"type": "text", "text": "third"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "fourth"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "fifth"}]}]},
        {"role": "assistant", "content": None},
        {"role": "user", "content": "sixth"},
    ]
    ask(client, model="claude", messages=messages)
    (report,) = [report for report in house.cli.reports() if "conversation-a" in told(report)]
    prompt = told(report)
    places = [prompt.index(word) for word in ("first", "second", "third", "look", "fourth", "toolu_1", "fifth", "sixth")]
    assert places[:5] == sorted(places[:5])
    assert places[6] < places[7]
    assert [message["role"] for message in report["history"]] == ["user", "assistant", "user", "assistant"]
    assert report["prompt"].endswith("sixth")  # in one message with the result before it
    assert "hm" not in prompt


def test_what_clients_send_beside_the_question_is_accepted(client: anthropic.Anthropic) -> None:
    message = ask(
        client,
        extra_query={"beta": "true"},
        extra_headers={"anthropic-beta": "a,b", "anthropic-version": "2023-06-01"},
        metadata={"user_id": "u"},
        tools=[],
        tool_choice={"type": "auto"},
        extra_body={
            "stop_sequences": None,
            "system": None,
            "thinking": None,
            "output_config": None,
            "tools": None,
            "not_yet_invented": {"x": 1},
            "service_tier": "auto",
        },
        messages=[{"role": "user", "content": [{"type": "text", "text": "hello", "cache_control": None, "citations": None, "new": 1}]}],
    )
    assert "You said: hello" in text(message)


def test_options_that_no_cli_takes_are_named(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.create(
        model="demo",
        max_tokens=100,
        messages=HELLO,
        thinking={"type": "enabled", "budget_tokens": 2048},
        extra_body={"temperature": 0.5, "top_k": 3, "top_p": None},
    )
    assert raw.headers["X-Clinvk-Ignored"] == "temperature, top_k, thinking"


def test_max_tokens_is_honoured_where_the_cli_has_the_setting(client: anthropic.Anthropic) -> None:
    message = ask(client, max_tokens=3)
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)


def test_stop_sequence_cuts_the_text_and_stops_the_cli(client: anthropic.Anthropic) -> None:
    message = ask(
        client, do(["say", "one two"], ["say", " thr"], ["say", "ee four"], ["hang"]), model="claude", stop_sequences=["x", "three"]
    )
    assert text(message) == "one two "
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "three")


def test_stop_sequence_at_the_start_leaves_an_empty_text(client: anthropic.Anthropic) -> None:
    assert text(ask(client, do(["say", "stop"], ["hang"]), model="claude", stop_sequences=["stop"])) == ""


def test_usage_of_a_cli_that_tells_none_is_estimated_and_marked(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.create(model="echo", max_tokens=10, messages=[{"role": "user", "content": "a" * 400}])
    message = raw.parse()
    assert text(message) == "a" * 400
    assert (message.usage.input_tokens, message.usage.output_tokens) == (100, 100)
    assert raw.headers["X-Clinvk-Estimated"] == "usage"
    assert "X-Clinvk-Estimated" not in client.messages.with_raw_response.create(model="demo", max_tokens=10, messages=HELLO).headers


def test_token_count_is_an_estimate_and_marked(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.count_tokens(model="demo", messages=[{"role": "user", "content": "a" * 400}], system="b" * 40)
    assert raw.parse().input_tokens == 110
    assert raw.headers["X-Clinvk-Estimated"] == "true"


def test_several_messages_of_an_agent_are_one_text_and_its_tools_are_its_own(client: anthropic.Anthropic) -> None:
    message = ask(client, do(["say", "I'll look."], ["tool", "ls", "a.txt"], ["say", "There is a.txt."]), model="claude")
    assert text(message) == "I'll look.\n\nThere is a.txt."
    assert message.stop_reason == "end_turn"


def test_calls_keep_nothing_unless_a_session_is_named(house: House, client: anthropic.Anthropic) -> None:
    def argv(about: str) -> list[str]:
        (found,) = [report["argv"] for report in house.cli.reports() if about in report["prompt"]]
        return list(found)

    ask(client, "keep nothing", model="claude")
    assert "--no-session-persistence" in argv("keep nothing")
    session = house.server.client.post("/api/v1/sessions", {"backend": "claude"}).json["id"]
    turns: Any = [*HELLO, {"role": "assistant", "content": "hi there"}, {"role": "user", "content": "go on from there"}]
    first = ask(client, model="claude", messages=turns, extra_headers={"X-Clinvk-Session": session})
    assert "--no-session-persistence" not in argv("go on from there")
    assert any("hi there" in told(report) for report in house.cli.reports())  # the session knew nothing yet
    turns += [{"role": "assistant", "content": first.content}, {"role": "user", "content": "and from here"}]
    ask(client, model="claude", messages=turns, extra_headers={"X-Clinvk-Session": session})
    assert any(report["prompt"] == "and from here" for report in house.cli.reports())
    recorded = house.server.client.get(f"/api/v1/sessions/{session}/turns").json["turns"]
    assert [turn["prompt"] for turn in recorded] == ["go on from there", "and from here"]
    with pytest.raises(anthropic.NotFoundError, match="X-Clinvk-Session: there is no session"):
        ask(client, model="claude", extra_headers={"X-Clinvk-Session": "latest"})


def test_working_directory_can_be_named(house: House, client: anthropic.Anthropic) -> None:
    folder = house.server.home
    ask(client, "where am I", model="claude", extra_headers={"X-Clinvk-Workdir": str(folder)})
    assert [report["cwd"] for report in house.cli.reports() if report["prompt"] == "where am I"] == [str(folder)]
    with pytest.raises(anthropic.BadRequestError, match="X-Clinvk-Workdir: workdir"):
        ask(client, extra_headers={"X-Clinvk-Workdir": "/etc"})


class Person(BaseModel):
    name: str


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
def test_structured_output_is_parsed_though_the_agent_talks_before_it(client: anthropic.Anthropic, streams: bool) -> None:
    prompt = do(["say", "I'll look."], ["tool", "ls", "a.txt"], ["say", '{"name":'], ["say", ' "Ada"}'])
    call: dict[str, Any] = {
        "model": "claude",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": prompt}],
        "output_format": Person,
    }
    if streams:
        with client.messages.stream(**call) as stream:
            parsed = stream.get_final_message()
    else:
        parsed = client.messages.parse(**call)
    assert parsed.parsed_output == Person(name="Ada")


def test_effort_and_schema_reach_the_cli(house: House, client: anthropic.Anthropic) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    config: Any = {"effort": "low", "format": {"type": "json_schema", "schema": schema}}
    ask(client, do(["say", "{}"], about="how hard"), model="claude", output_config=config)
    (argv,) = [report["argv"] for report in house.cli.reports() if "how hard" in report["prompt"]]
    assert "--effort=low" in argv
    assert house.initialized("how hard")[0]["jsonSchema"]["properties"] == schema["properties"]
