"""Streams: the grammar as the SDK reads it, the first token at once, keep-alives, one honest end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from blueprints.anthropic.stream import MessageEncoder
from services.events import Batch, Failed, Finished, Started, Text, Thinking, ToolCall, UsageUpdate
from services.usage import Usage
from tests.clients.anthropic.conftest import House
from tests.clients.anthropic.test_messages import HELLO, text
from tests.parts.clis import do
from tests.parts.processes import eventually

ASKED: dict[str, Any] = {"model": "claude", "max_tokens": 100}


def user(prompt: str) -> Any:
    return [{"role": "user", "content": prompt}]


def test_events_come_in_the_order_of_the_grammar(client: anthropic.Anthropic) -> None:
    prompt = do(["say", "I'll "], ["say", "look."], ["tool", "ls", "a.txt"], ["say", "Found."])
    events = list(client.messages.create(**ASKED, stream=True, messages=user(prompt)))
    kinds = [event.type for event in events]
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start, end = events[0], events[-2]
    assert start.type == "message_start"
    assert start.message.model == "claude"
    assert isinstance(start.message.usage.input_tokens, int)
    assert end.type == "message_delta"
    assert (end.delta.stop_reason, end.usage.output_tokens, end.usage.input_tokens, end.usage.cache_read_input_tokens) == (
        "end_turn",
        7,
        11,
        5,
    )


def test_frames_are_named_and_stand_alone(house: House) -> None:
    body = {**ASKED, "stream": True, "messages": user("hello")}
    with house.server.client.open("POST", "/anthropic/v1/messages", body) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        assert stream.headers["X-Clinvk-Backend"] == "claude"
        arrivals = list(stream.events())
    assert all(arrival.name == arrival.json["type"] for arrival in arrivals)
    assert arrivals[-1].name == "message_stop"


def test_stream_helper_gives_the_whole_message_in_the_end(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model="demo", max_tokens=100, messages=HELLO) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    whole = client.messages.create(model="demo", max_tokens=100, messages=HELLO)
    assert said == text(final) == text(whole)
    assert (final.usage, final.stop_reason) == (whole.usage, whole.stop_reason)


def test_async_stream_helper_works_fifty_times_at_once(house: House) -> None:
    async def all_at_once() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=house.url, api_key="any", max_retries=0) as client:

            async def one(number: int) -> str:
                async with client.messages.stream(model="demo", max_tokens=100, messages=user(f"number {number}")) as stream:
                    return await stream.get_final_text()

            return await asyncio.gather(*(one(number) for number in range(50)))

    answers = asyncio.run(all_at_once())
    assert all(f"You said: number {number}" in answer for number, answer in enumerate(answers))


def test_first_token_does_not_wait_for_the_second(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**ASKED, messages=user(do(["say", "one"], ["hang"]))) as stream:
        assert next(iter(stream.text_stream)) == "one"


def test_client_that_leaves_stops_the_cli(house: House, client: anthropic.Anthropic) -> None:
    with client.messages.stream(**ASKED, messages=user(do(["say", "one"], ["hang"]))) as stream:
        next(iter(stream.text_stream))
        assert house.server.runs()
    assert eventually(lambda: not house.server.runs())


def test_silence_is_filled_with_pings(house: House) -> None:
    body = {**ASKED, "stream": True, "messages": user(do(["say", "one"], ["wait", 1], ["say", " two"]))}
    with house.server.client.open("POST", "/anthropic/v1/messages", body) as stream:
        arrivals = list(stream.events())
    assert sum(arrival.name == "ping" for arrival in arrivals) >= 2
    assert "".join(arrival.json["delta"]["text"] for arrival in arrivals if arrival.name == "content_block_delta") == "one two"


def test_client_that_leaves_before_the_first_word_stops_the_cli(house: House) -> None:
    body = {**ASKED, "stream": True, "messages": user(do(["init"], ["hang"], about="no word"))}
    with house.server.client.send("POST", "/anthropic/v1/messages", body):
        assert eventually(lambda: house.processes("no word"))
    assert eventually(lambda: not house.server.runs())


def test_silence_before_the_first_word_begins_the_answer(house: House) -> None:
    body = {**ASKED, "stream": True, "messages": user(do(["init"], ["hang"]))}
    with house.server.client.open("POST", "/anthropic/v1/messages", body) as stream:
        names = [arrival.name for arrival, _ in zip(stream.events(), range(3), strict=False)]
    assert names == ["message_start", "ping", "ping"]


def test_stop_sequence_ends_a_stream(client: anthropic.Anthropic) -> None:
    prompt = do(["say", "one two"], ["say", " thr"], ["say", "ee four"], ["hang"])
    with client.messages.stream(**ASKED, stop_sequences=["three"], messages=user(prompt)) as stream:
        final = stream.get_final_message()
    assert (text(final), final.stop_reason, final.stop_sequence) == ("one two ", "stop_sequence", "three")


def test_error_is_the_last_event(house: House) -> None:
    body = {**ASKED, "stream": True, "messages": user(do(["say", "one"], ["fail", "the model is on strike"]))}
    with house.server.client.open("POST", "/anthropic/v1/messages", body, {"X-Request-ID": "mine"}) as stream:
        *before, last = stream.events()
    assert (last.name, last.json) == (
        "error",
        {"type": "error", "error": {"type": "api_error", "message": "the model is on strike"}, "request_id": "mine"},
    )
    assert "message_stop" not in [arrival.name for arrival in before]


def test_text_is_never_cut_by_a_line_separator(client: anthropic.Anthropic) -> None:
    said = "a\u2028b\r\nc\n\nd\u0085é漢🙂"
    with client.messages.stream(**ASKED, messages=user(do(["say", said]))) as stream:
        assert stream.get_final_text() == said


# -- the encoder alone --


def encoded(*batches: Batch, **options: Any) -> list[dict[str, Any]]:
    settings: dict[str, Any] = {"input_tokens": 3, "has_thinking": True, "to_error": lambda failure: {"type": "error"}} | options
    encode = MessageEncoder("m", **settings)
    frames = b"".join(encode(batch) for batch in batches).decode().split("\n\n")[:-1]
    return [json.loads(frame.split("\ndata: ", 1)[1]) for frame in frames]


def accumulated(events: list[dict[str, Any]]) -> Any:
    read = TypeAdapter(RawMessageStreamEvent)
    snapshot = None
    for event in events:
        snapshot = accumulate_event(event=read.validate_python(event), current_snapshot=snapshot, json_bufs={})  # type: ignore[arg-type]
    return snapshot


THOUGHT: list[Batch] = [
    [Started("s", "m"), Thinking("let me")],
    [Thinking(" think"), ToolCall("1", "Bash", {})],
    [UsageUpdate(Usage(input_tokens=9)), Text("so: ")],
    [Thinking("hm"), Text("yes"), Finished(usage=Usage(10, 5, 2, 3, 1))],
]


def test_thinking_is_told_in_blocks_of_its_own() -> None:
    message = accumulated(encoded(*THOUGHT))
    assert [(block.type, getattr(block, "thinking", None) or block.text) for block in message.content] == [
        ("thinking", "let me think"),
        ("text", "so: "),
        ("thinking", "hm"),
        ("text", "yes"),
    ]
    assert message.content[0].signature
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens, message.usage.cache_creation_input_tokens) == (7, 2, 1)
    assert message.usage.output_tokens_details.thinking_tokens == 3


def test_thinking_that_was_not_asked_for_is_left_out() -> None:
    """``content[0].text`` is how most programs read an answer."""
    message = accumulated(encoded(*THOUGHT, has_thinking=False))
    assert [(block.type, block.text) for block in message.content] == [("text", "so: yes")]


def test_usage_is_estimated_where_there_is_none() -> None:
    message = accumulated(encoded([Text("a" * 40)], [Finished()]))
    assert (message.usage.input_tokens, message.usage.output_tokens) == (3, 10)


def test_failure_before_anything_is_the_error_alone() -> None:
    assert [event["type"] for event in encoded([Failed("backend", "no")])] == ["error"]


def test_silence_before_anything_begins_the_message() -> None:
    assert [event["type"] for event in encoded([], [Text("x"), Failed("backend", "no")])] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "error",
    ]
