"""How each surface is asked for one or several runs, and what its answer says of each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.api.errors import STATUS
from tests.parts.client import Arrival, Stream
from tests.parts.native import events, of_type
from tests.parts.native import text as text_of


class Part(Protocol):
    @property
    def backend(self) -> str: ...
    @property
    def prompt(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Told:
    """What the caller is told of one run. ``error`` None: that it answered ``text``."""

    text: str = ""
    error: str | None = None
    code: str | None = None
    """Our code, where the surface has it."""
    status: int = 200
    retries: str | None = None
    """`x-should-retry`."""


Tells = Callable[[Stream, list[str]], list[Told]]
"""Reads an answer to its end; everything read is added to the list. Raises AssertionError where it is not well formed."""


@dataclass(frozen=True, slots=True)
class Way:
    name: str
    path: str
    body: Callable[[Sequence[Part]], dict[str, Any]]
    tells: Tells
    headers: dict[str, str] = field(default_factory=dict)
    runs: tuple[int, int] = (1, 1)
    is_stream: bool = False
    is_chain: bool = False
    is_resumed: bool = False
    """Whether ``path`` is of a session, which is made by a first turn."""
    statuses: dict[str, int] = field(default_factory=lambda: dict(STATUS))


def whole(find: Callable[[Any], list[Told]]) -> Tells:
    """An answer in one piece. ``find`` reads a 200; an error of any surface says itself."""

    def tells(stream: Stream, seen: list[str]) -> list[Told]:
        body = stream.response.read()
        seen.append(body.decode())
        answer = Arrival(0, seen[-1]).json
        assert stream.headers["X-Request-ID"], "no request id"
        return find(answer) if stream.status == 200 else [refusal(stream, answer)]

    return tells


def refusal(stream: Stream, answer: Any) -> Told:
    error = answer["error"]
    code = error["code"] if answer.get("meta") else None
    return Told("", error["message"], code, stream.status, stream.headers["x-should-retry"])


def streamed(read: Callable[[Stream], Iterable[Arrival]], find: Callable[[list[Arrival]], list[Told]]) -> Tells:
    def tells(stream: Stream, seen: list[str]) -> list[Told]:
        if stream.status != 200:
            return whole(lambda _: [])(stream, seen)
        arrivals = []
        for arrival in read(stream):
            arrivals.append(arrival)
            seen.append(arrival.data)
        return find(arrivals)

    return tells


def native_result(answer: dict[str, Any]) -> Told:
    return Told(answer["output"], answer["error"], answer.get("error_code"))


def native_events(arrivals: Iterable[Arrival]) -> list[Told]:
    found = events(arrivals)
    return [of_events(found)]


def of_events(found: list[dict[str, Any]]) -> Told:
    last = found[-1]
    failed = last["content"] if last["type"] == "error" else {}
    return Told(text_of(found), failed.get("message"), failed.get("code"))


def merged(member: str) -> Callable[[list[Arrival]], list[Told]]:
    """The events of several runs, then the result: both must say the same of each run."""

    def find(arrivals: list[Arrival]) -> list[Told]:
        found = [arrival.json for arrival in arrivals]
        assert [event["sequence"] for event in found] == list(range(1, len(found) + 1))
        result = found.pop()
        assert (result["type"], of_type(found, "result")) == ("result", [])
        told = [native_result(one) for one in result["content"]["results"]]
        for index, one in enumerate(told):
            of_run = [event for event in found if event[member] == index]
            ends = [event["type"] in ("done", "error") for event in of_run]
            assert ends == [False] * (len(ends) - 1) + [True], f"ends of run {index}: {ends}"
            assert of_events(of_run) == one
        return told

    return find


def chat_stream(arrivals: list[Arrival]) -> list[Told]:
    *before, last = arrivals
    chunks = [arrival.json for arrival in before]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk.get("choices", ()) if choice["finish_reason"]]
    assert not [chunk for chunk in chunks if "error" in chunk], "something follows an error"
    if last.data == "[DONE]":
        assert reasons == ["stop"]
        return [Told(text)]
    assert reasons == [], "an error after a finish_reason"
    return [Told(text, last.json["error"]["message"])]


def responses_stream(arrivals: list[Arrival]) -> list[Told]:
    found = [arrival.json for arrival in arrivals]
    assert [arrival.name for arrival in arrivals] == [event["type"] for event in found]
    text = "".join(event["delta"] for event in of_type(found, "response.output_text.delta"))
    ends = [event["type"] for event in of_type(found, "response.completed", "response.failed", "response.incomplete")]
    assert ends == [found[-1]["type"]], ends
    if ends == ["response.completed"]:
        assert not of_type(found, "error")
        return [Told(text)]
    (error,) = of_type(found, "error")
    return [Told(text, error["message"])]


def messages_stream(arrivals: list[Arrival]) -> list[Told]:
    found = [arrival.json for arrival in arrivals]
    assert [arrival.name for arrival in arrivals] == [event["type"] for event in found]
    deltas = [event["delta"] for event in of_type(found, "content_block_delta")]
    text = "".join(delta["text"] for delta in deltas if delta["type"] == "text_delta")
    ends = of_type(found, "message_stop", "error")
    assert ends == found[-1:], ends
    assert len(of_type(found, "message_delta")) == (ends[0]["type"] == "message_stop")
    return [Told(text, ends[0]["error"]["message"] if ends[0]["type"] == "error" else None)]


def prompt(parts: Sequence[Part]) -> dict[str, Any]:
    return {"backend": parts[0].backend, "prompt": parts[0].prompt}


def resume(parts: Sequence[Part]) -> dict[str, Any]:
    return {"prompt": parts[0].prompt}


def several(field: str, **more: Any) -> Callable[[Sequence[Part]], dict[str, Any]]:
    return lambda parts: {field: [{"backend": part.backend, "prompt": part.prompt} for part in parts], **more}


def compare(parts: Sequence[Part]) -> dict[str, Any]:
    return {"prompt": parts[0].prompt, "backends": [part.backend for part in parts]}


def chat(parts: Sequence[Part]) -> dict[str, Any]:
    return {"model": parts[0].backend, "max_tokens": 1000, "messages": [{"role": "user", "content": parts[0].prompt}]}


def responses(parts: Sequence[Part]) -> dict[str, Any]:
    return {"model": parts[0].backend, "store": False, "input": parts[0].prompt}


def streaming(body: Callable[[Sequence[Part]], dict[str, Any]], **more: Any) -> Callable[[Sequence[Part]], dict[str, Any]]:
    return lambda parts: body(parts) | ({"stream": True} | more)


def results(answer: Any) -> list[Told]:
    return [native_result(one) for one in answer["results"]]


def output_text(answer: Any) -> str:
    return "".join(part["text"] for item in answer["output"] if item["type"] == "message" for part in item["content"])


SSE = {"Accept": "text/event-stream"}
NDJSON = {"Accept": "application/x-ndjson"}
CLAUDE = {**STATUS, "backend_overloaded": 529}
RESUME = "/api/v1/sessions/{}/resume"
CHAT, RESPONSES, MESSAGES = "/openai/v1/chat/completions", "/openai/v1/responses", "/anthropic/v1/messages"

WAYS = (
    Way("prompt", "/api/v1/prompt", prompt, whole(lambda answer: [native_result(answer)])),
    Way(
        "prompt ndjson",
        "/api/v1/prompt",
        lambda parts: prompt(parts) | {"output_format": "stream-json", "ephemeral": True},
        streamed(Stream.lines, native_events),
        is_stream=True,
    ),
    Way("prompt sse", "/api/v1/prompt", prompt, streamed(Stream.events, native_events), SSE, is_stream=True),
    Way("resume", RESUME, resume, whole(lambda answer: [native_result(answer)]), is_resumed=True),
    Way("resume sse", RESUME, resume, streamed(Stream.events, native_events), SSE, is_stream=True, is_resumed=True),
    Way("parallel", "/api/v1/parallel", several("tasks", max_parallel=3), whole(results), runs=(2, 4)),
    Way("parallel sse", "/api/v1/parallel", several("tasks"), streamed(Stream.events, merged("task")), SSE, (2, 4), is_stream=True),
    Way("chain", "/api/v1/chain", several("steps"), whole(results), runs=(2, 3), is_chain=True),
    Way("chain ndjson", "/api/v1/chain", several("steps"), streamed(Stream.lines, merged("step")), NDJSON, (2, 3), True, True),
    Way("compare", "/api/v1/compare", compare, whole(results)),
    Way("compare sse", "/api/v1/compare", compare, streamed(Stream.events, merged("task")), SSE, is_stream=True),
    Way("chat", CHAT, chat, whole(lambda answer: [Told(answer["choices"][0]["message"]["content"])])),
    Way("chat stream", CHAT, streaming(chat), streamed(Stream.events, chat_stream), is_stream=True),
    Way("responses", RESPONSES, responses, whole(lambda answer: [Told(output_text(answer))])),
    Way("responses stream", RESPONSES, streaming(responses), streamed(Stream.events, responses_stream), is_stream=True),
    Way("messages", MESSAGES, chat, whole(lambda answer: [Told(answer["content"][0]["text"])]), statuses=CLAUDE),
    Way("messages stream", MESSAGES, streaming(chat), streamed(Stream.events, messages_stream), is_stream=True, statuses=CLAUDE),
)
