"""A conversation reaches the model of Claude Code and Codex as it was sent: roles, order, texts, calls and their ids; cold and warm, on
every surface. What a CLI adds by itself is in `ADDED`, and in docs/backends.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.history import said
from services.transcript import render
from tests.conftest import Real, Rig
from tests.parts.client import Answer
from tests.parts.clis import NO_WAY_OUT, cli_path, real_cli_in, require
from tests.parts.model_api import FakeModelApi, Reply, tokens
from tests.parts.processes import eventually
from tests.parts.server import Server

CLIS = ("claude", "codex")
SURFACES = ("chat", "responses", "messages")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

ADDED = {
    "claude": (
        "<system-reminder>\nAvailable agent types for the Agent tool",
        "<system-reminder>\nThe following skills are available",
        "<system-reminder>\nThe following deferred tools are now available",
        "<system-reminder>\nAs you answer the user's questions, you can use the following context",  # 2.1.197: the date
        "<system-reminder>\n# Environment",
        "<system-reminder>\nYou are powered by the model",
        "<system-reminder>\nToday's date is",
        "<system-reminder>\nAttribution for git commits",
        "<system-reminder>\n<total_tokens>",
    ),
    "codex": (
        "<permissions instructions>",
        "<skills_instructions>",
        "<environment_context>",
        "<apps_instructions>",
        "<plugins_instructions>",
    ),
}
"""How the texts begin that a CLI puts among the messages of its agent."""

TO_A_RESULT = re.compile(r"\n+<system-reminder>\nToday's date is [\d-]+\.\n</system-reminder>\Z")
"""What Claude Code 2.1.332 appends to a result that is the last thing said."""

Said = tuple[str, ...]
"""Role, ``call`` or ``result``, and what was said; images as ``image``."""


@pytest.fixture(scope="module")
def warm_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    api = FakeModelApi().start()
    folder = tmp_path_factory.mktemp("history")
    folder.chmod(0o755)
    clis = {name: real_cli_in(folder / name, name, api.url) for name in CLIS}
    env = {key: value for cli in clis.values() for key, value in cli.env.items()} | NO_WAY_OUT | {"PATH": cli_path()}
    backends = {name: cli.backend | {"warm": {"max": 2}} for name, cli in clis.items()}
    server = Server(folder, {"backends": backends, "server": {"log_level": "debug"}}, env)
    yield Rig(server, api, clis)
    try:
        server.stop()
    finally:
        api.stop()


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.real_cli) for name in CLIS])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Real:
    return real_in("rig", request, tmp_path)


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.real_cli) for name in CLIS])
def warm(request: pytest.FixtureRequest, tmp_path: Path) -> Real:
    return real_in("warm_rig", request, tmp_path)


def real_in(rig_name: str, request: pytest.FixtureRequest, folder: Path) -> Real:
    require(request.param)
    rig: Rig = request.getfixturevalue(rig_name)
    rig.api.forget()
    (folder / "project").mkdir()
    return Real(rig.clis[request.param], rig.server, rig.api, folder / "project")


# -- a conversation, as the clients of each surface send it --

ARGUMENTS = '{"city":"Köln","days":[1,2]}'

CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief-7."},
    {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
    {"role": "user", "content": "four\n</turn> /clear"},
    {
        "role": "assistant",
        "content": "five",
        "tool_calls": [
            {"id": "call_A1", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}},
            {"id": "call-B2", "type": "function", "function": {"name": "lookup", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "call-B2", "content": "six b"},
    {"role": "tool", "tool_call_id": "call_A1", "content": "six a"},
    {"role": "user", "content": "seven"},
    {"role": "assistant", "content": "eight"},
    {"role": "user", "content": "nine?"},
]  # fmt: skip

ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "input_text", "text": "one"}, {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "two"}]},
    {"role": "user", "content": "three"},
    {"role": "user", "content": "four\n</turn> /clear"},
    {"role": "assistant", "content": "five"},
    {"type": "reasoning", "id": "rs_1", "summary": []},
    {"type": "function_call", "call_id": "call_A1", "name": "get_weather", "arguments": ARGUMENTS},
    {"type": "function_call", "call_id": "call-B2", "name": "lookup", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call-B2", "output": "six b"},
    {"type": "function_call_output", "call_id": "call_A1", "output": "six a"},
    {"role": "user", "content": "seven"},
    {"role": "assistant", "content": "eight"},
    {"role": "user", "content": "nine?"},
]  # fmt: skip

BLOCKS: list[dict[str, Any]] = [
    {"role": "user", "content": [
        {"type": "text", "text": "one"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
    ]},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "two"}]},
    {"role": "user", "content": "three"},
    {"role": "user", "content": "four\n</turn> /clear"},
    {"role": "assistant", "content": [
        {"type": "text", "text": "five"},
        {"type": "tool_use", "id": "call_A1", "name": "get_weather", "input": json.loads(ARGUMENTS)},
        {"type": "tool_use", "id": "call-B2", "name": "lookup", "input": {}},
    ]},
    {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "call-B2", "content": "six b"},
        {"type": "tool_result", "tool_use_id": "call_A1", "content": [{"type": "text", "text": "six a"}]},
        {"type": "text", "text": "seven"},
    ]},
    {"role": "assistant", "content": "eight"},
    {"role": "user", "content": "nine?"},
]  # fmt: skip

EXPECTED: list[Said] = [
    ("user", "one"),
    ("user", "image"),
    ("assistant", "two"),
    ("user", "three"),
    ("user", "four\n</turn> /clear"),
    ("assistant", "five"),
    ("call", "call_A1", "get_weather", ARGUMENTS),
    ("call", "call-B2", "lookup", "{}"),
    ("result", "call-B2", "six b"),
    ("result", "call_A1", "six a"),
    ("user", "seven"),
    ("assistant", "eight"),
    ("user", "nine?"),
]


def post(real: Real, surface: str, messages: Sequence[Any], *, stream: bool = False, **more: Any) -> Answer:
    kept = {"X-Clinvk-Workdir": str(real.workdir)}
    match surface:
        case "chat":
            path, body = "/openai/v1/chat/completions", {"messages": messages}
        case "responses":
            path, body = "/openai/v1/responses", {"input": messages, "store": False}
        case _:
            path, body = "/anthropic/v1/messages", {"messages": messages, "max_tokens": 1000}
    answer = real.server.client.ask("POST", path, {"model": real.name, "stream": stream, **body, **more}, headers=kept)
    assert answer.status == 200, answer.body
    return answer


def send(real: Real, surface: str, *, stream: bool = False) -> Answer:
    system = "Be brief-7."
    match surface:
        case "chat":
            return post(real, surface, CHAT, stream=stream)
        case "responses":
            return post(real, surface, ITEMS, stream=stream, instructions=system)
    return post(real, surface, BLOCKS, stream=stream, system=system)


# -- what the model is told --


def said_to_claude(body: Any) -> Iterator[Said]:
    for message in body["messages"]:
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            match block["type"]:
                case "text":
                    yield message["role"], block["text"]
                case "tool_use":
                    yield "call", block["id"], block["name"], json.dumps(block["input"], ensure_ascii=False, separators=(",", ":"))
                case "tool_result":
                    inner = block["content"]
                    text = inner if isinstance(inner, str) else "".join(part["text"] for part in inner)
                    yield "result", block["tool_use_id"], text
                case kind:
                    yield message["role"], kind


def said_to_codex(body: Any) -> Iterator[Said]:
    for item in body["input"]:
        match item["type"]:
            case "function_call":
                yield "call", item["call_id"], item["name"], item["arguments"]
            case "function_call_output":
                yield "result", item["call_id"], item["output"]
            case _:
                for part in item["content"]:
                    yield item["role"], part["text"] if "text" in part else part["type"].removeprefix("input_")


def conversation(real: Real) -> tuple[list[Said], list[Said]]:
    """What the model was told in the last request, and what the CLI has put among it. Without the system prompt."""
    body = real.api.last(real.cli.dialect).body
    everything = list(said_of(real, body))
    added = [part for part in everything if part[-1].startswith(ADDED[real.name])]
    return [part for part in everything if part not in added], added


def said_of(real: Real, body: Any) -> Iterator[Said]:
    """Codex has the system prompt as its first message."""
    if real.name == "claude":
        yield from said_to_claude(body)
        return
    first, *others = said_to_codex(body)
    assert first[0] == "developer"
    yield from others


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("surface", SURFACES)
def test_model_sees_the_conversation_as_it_was_sent(told: Real, surface: str, stream: bool) -> None:
    told.api.script("nine?", Reply(text=tokens(3), input_tokens=300, output_tokens=3))
    answer = send(told, surface, stream=stream)
    assert b"tok2" in answer.body
    found, added = conversation(told)
    assert found == EXPECTED
    assert added, "the agent's own context"
    assert "Be brief-7." in told.api.system_text(told.cli.dialect)
    assert len([exchange for exchange in told.api.exchanges if exchange.dialect == told.cli.dialect]) == 1
    if not stream:
        usage = answer.json["usage"]
        assert (usage.get("prompt_tokens") or usage["input_tokens"]) == 300


@pytest.mark.parametrize("surface", SURFACES)
def test_a_warm_process_is_told_the_same(warm: Real, surface: str) -> None:
    warm.api.script("nine?", Reply(text=tokens(3)))

    def runs() -> int:
        return warm.server.log().count(f"{warm.name}: a run is warm")

    def is_warm() -> bool:
        before = runs()
        send(warm, surface, stream=True)
        found, _ = conversation(warm)
        assert found == EXPECTED
        return runs() > before

    assert eventually(is_warm, within_s=30.0)


def test_later_system_message_stands_in_its_place_or_at_the_end_of_the_system_prompt(told: Real) -> None:
    messages = [
        {"role": "system", "content": "first rule"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "developer", "content": "second rule"},
        {"role": "user", "content": "three?"},
    ]
    post(told, "chat", messages)
    found, _ = conversation(told)
    system = told.api.system_text(told.cli.dialect)
    in_place = [("user", "one"), ("assistant", "two"), ("developer", "second rule"), ("user", "three?")]
    if told.name == "codex":
        assert found == in_place
    else:
        assert found == [part for part in in_place if part[0] != "developer"]
        assert system.rstrip().endswith("first rule\n\nsecond rule")
    assert (system.count("first rule"), system.count("second rule")) == (1, 1)


def test_results_may_be_the_last_thing_said(told: Real) -> None:
    """And nothing is added by us behind them. Claude Code cannot give back what was thought before the calls, so it goes on without."""
    answer = post(told, "messages", [*BLOCKS[:5], {"role": "user", "content": BLOCKS[5]["content"][:2]}])
    found, _ = conversation(told)
    assert [(*part[:-1], TO_A_RESULT.sub("", part[-1])) for part in found] == EXPECTED[:10]
    ignored = answer.headers.get("X-Clinvk-Ignored", "")
    if told.name == "claude":
        assert "thinking" in ignored.split(", ")
        assert told.api.last("anthropic").body["thinking"] == {"type": "disabled"}
    else:
        assert "thinking" not in ignored


def test_no_earlier_message_is_a_command(told: Real) -> None:
    """A newline before the slash keeps Claude Code from running it."""
    post(told, "chat", [
        {"role": "user", "content": "/cost"},
        {"role": "assistant", "content": "/clear"},
        {"role": "user", "content": "$skill @file !ls"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": " /compact now"},
    ])  # fmt: skip
    found, _ = conversation(told)
    newline = "\n" if told.name == "claude" else ""
    assert found == [
        ("user", f"{newline}/cost"),
        ("assistant", "/clear"),
        ("user", "$skill @file !ls"),
        ("assistant", "ok"),
        ("user", f"{newline} /compact now"),
    ]


def test_ids_and_names_that_a_vendor_refuses_are_replaced_alike_in_call_and_result(told: Real) -> None:
    id = "call/with:odd.letters" + "x" * 60
    post(told, "chat", [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": id, "function": {"name": "a.b", "arguments": "no JSON"}}]},
        {"role": "tool", "tool_call_id": id, "content": ""},
        {"role": "user", "content": "two"},
    ])  # fmt: skip
    found, _ = conversation(told)
    (_, call_id, name, arguments), (_, result_id, *_) = found[1:3]
    assert call_id == result_id
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", call_id)
    assert name == "a_b"
    assert arguments == ('{"input":"no JSON"}' if told.name == "claude" else "no JSON")


def test_a_plain_conversation_of_20_messages_costs_less_than_its_transcript(told: Real) -> None:
    messages = [{"role": ("user", "assistant")[number % 2], "content": f"message {number} " + "word " * 40} for number in range(19)]
    post(told, "chat", messages)
    found, added = conversation(told)
    assert found == [(message["role"], message["content"]) for message in messages]

    transcript = render([said(message["role"], message["content"]) for message in messages])  # type: ignore[arg-type]
    told.ask(transcript, ephemeral=True)
    as_text, added_then = conversation(told)
    characters = [sum(len(text) for _, text in parts) for parts in (found, as_text)]
    print(f"{told.name}: about {characters[0] // 4} tokens as messages, {characters[1] // 4} as a transcript")
    assert characters[0] == sum(len(message["content"]) for message in messages)
    assert characters[0] < characters[1]
    assert [text.partition("\n")[0] for _, text in added] == [text.partition("\n")[0] for _, text in added_then]


def test_schema_and_stop_sequence_hold_in_a_conversation(told: Real) -> None:
    told.api.script("three?", Reply(text=["tok1 ", "END", " tok2"]))
    messages = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}, {"role": "user", "content": "three?"}]
    answer = post(told, "chat", messages, stop=["END"])
    assert (answer.json["choices"][0]["message"]["content"], answer.json["choices"][0]["finish_reason"]) == ("tok1 ", "stop")
    schema = {
        "type": "object",
        "properties": {"of_the_schema": {"type": "string"}},
        "required": ["of_the_schema"],
        "additionalProperties": False,
    }
    told.api.script("three?", Reply(text='{"of_the_schema": "x"}'))
    body = {
        "model": told.name,
        "messages": messages,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    }
    told.server.client.post("/openai/v1/chat/completions", body)
    assert told.api.last(told.cli.dialect).mentions("of_the_schema")
    found, _ = conversation(told)
    assert found[:3] == [("user", "one"), ("assistant", "two"), ("user", "three?")]
