"""What goes out as a stream reads back as what went in, whatever the texts are."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blueprints.anthropic.stream import MessageEncoder
from blueprints.native.translate import EventEncoder
from blueprints.openai.chat.answer import ChunkEncoder
from blueprints.openai.responses.ids import new_id
from blueprints.openai.responses.stream import ResponseEncoder
from services.events import Batch, Event, Failed, Finished, Started, Text, Thinking, ToolCall, ToolProgress, ToolResult, UsageUpdate
from services.usage import Usage
from tests.parts.client import Arrival, Stream
from tests.properties.strategies import json_values, texts

FACTS = {"run_id": "run_1", "backend": "claude", "model": "m", "ignored": [], "elapsed_ms": lambda: 5}

events = st.one_of(
    st.builds(Text, texts, st.integers(0, 3), st.booleans()),
    st.builds(Thinking, texts),
    st.builds(ToolCall, texts, texts, json_values),
    st.builds(ToolProgress, texts, texts, st.floats(0, 1e6)),
    st.builds(ToolResult, texts, texts, st.booleans()),
    st.builds(UsageUpdate, st.builds(Usage, st.integers(0, 1 << 40), st.integers(0, 1 << 40))),
)
ends = st.builds(Finished, usage=st.none() | st.just(Usage(1, 2))) | st.builds(Failed, st.just("backend"), texts)
runs = st.builds(
    lambda start, middle, end: [*start, *middle, end],
    st.lists(st.builds(Started, st.none() | texts, st.none() | texts), max_size=1),
    st.lists(events, max_size=8),
    ends,
)
Encode = Callable[[Batch], bytes]


def in_batches(data: st.DataObject, run: list[Event], encode: Encode) -> bytes:
    """The run's bytes, however its events come together; silence between them as well."""
    out = b""
    rest = list(run)
    while rest:
        count = data.draw(st.integers(0, len(rest)))
        out += encode(rest[:count])
        rest = rest[count:]
        if count == 0:
            out += encode([rest.pop(0)])
    return out


def arrivals(out: bytes) -> list[Arrival]:
    """As a client reads them (of a response it needs nothing but its lines)."""
    stream = Stream.__new__(Stream)
    stream.response = cast(Any, io.BytesIO(out))
    return list(stream.events())


def to_error(failure: Failed) -> dict[str, Any]:
    error = {"message": failure.message, "type": "api_error", "param": None, "code": "backend_error"}
    return {"type": "error", "error": error}


def said(run: list[Event], kind: type[Event]) -> str:
    return "".join(event.text for event in run if isinstance(event, kind))  # type: ignore[union-attr]


@settings(deadline=None)
@given(run=runs, data=st.data(), as_sse=st.booleans())
def test_native_events_read_back(run: list[Event], data: st.DataObject, as_sse: bool) -> None:
    out = in_batches(data, run, EventEncoder(FACTS, as_sse=as_sse))
    if as_sse:
        found = arrivals(out)
        assert [(arrival.name, arrival.id) for arrival in found] == [(a.json["type"], str(a.json["sequence"])) for a in found]
        lines = [arrival.json for arrival in found]
    else:
        assert out.count(b"\n") == len(run)  # one line each, and nothing that some reader takes for the end of one
        lines = [json.loads(line) for line in out.split(b"\n")[:-1]]
    assert not [byte for byte in out if byte < 32 and byte != 10]
    assert [line["sequence"] for line in lines] == list(range(1, len(run) + 1))
    for event, line in zip(run, lines, strict=True):
        match event:
            case Text() | Thinking():
                assert line["content"] == event.text
            case ToolCall():
                assert line["content"] == {"id": event.id, "name": event.name, "input": event.input}
            case ToolProgress():
                assert line["content"] == {"id": event.id, "tool": event.name, "elapsed_secs": event.elapsed_s}
            case ToolResult():
                assert line["content"]["output"] == event.output
            case Failed():
                assert line["content"]["message"] == event.message


def chat_encoder() -> Encode:
    return ChunkEncoder("m", include_usage=True, prompt_tokens=1, to_error=to_error)


def responses_encoder() -> Encode:
    facts = {"object": "response", "model": "m", "background": False}
    return ResponseEncoder(
        facts,
        new_id=lambda prefix, _: new_id(b"secret", prefix, "claude", None, owner="ada"),
        prompt_tokens=1,
        to_error=to_error,
        error_codes={"backend": "server_error"},
    )


def messages_encoder() -> Encode:
    return MessageEncoder("m", input_tokens=1, has_thinking=True, to_error=to_error)


def chat_text(found: list[Arrival]) -> str:
    chunks = [arrival.json for arrival in found if arrival.data != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))


def responses_text(found: list[Arrival]) -> str:
    return "".join(arrival.json["delta"] for arrival in found if arrival.name == "response.output_text.delta")


def messages_text(found: list[Arrival]) -> str:
    deltas = [arrival.json["delta"] for arrival in found if arrival.name == "content_block_delta"]
    return "".join(delta["text"] for delta in deltas if delta["type"] == "text_delta")


ENCODERS: dict[str, tuple[Callable[[], Encode], Callable[[list[Arrival]], str], set[str]]] = {
    "chat": (chat_encoder, chat_text, {"[DONE]"}),
    "responses": (responses_encoder, responses_text, {"response.completed", "response.failed"}),
    "messages": (messages_encoder, messages_text, {"message_stop", "error"}),
}


@pytest.mark.parametrize("surface", ENCODERS)
@settings(deadline=None)
@given(run=runs, data=st.data())
def test_compatible_streams_read_back_and_have_one_end(surface: str, run: list[Event], data: st.DataObject) -> None:
    make, text_of, ends_of = ENCODERS[surface]
    out = in_batches(data, run, make())
    assert not [byte for byte in out if byte < 32 and byte != 10]
    found = arrivals(out)
    kinds = [arrival.data if surface == "chat" else arrival.json["type"] for arrival in found]
    assert kinds == [arrival.name or arrival.data for arrival in found]
    failed = isinstance(run[-1], Failed)
    if surface == "chat" and failed:
        assert "error" in found[-1].json
        assert not [kind for kind in kinds if kind in ends_of]
    else:
        assert [kind for kind in kinds if kind in ends_of] == kinds[-1:]
    assert text_of(found) == said(run, Text)
    if failed:
        assert cast(Failed, run[-1]).message in [arrival.json["error"]["message"] for arrival in found if arrival.json.get("error")]
