from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from services.clis.codex.decoder import CodexAppServerDecoder
from services.clis.codex.exec_decoder import CodexExecDecoder
from services.clis.codex.items import tool_call, tool_result
from services.decoding.decoder import Exit
from services.events import Denial, Event, Failed, Finished, Text, Thinking, ToolCall, ToolResult, UsageUpdate
from services.usage import Usage
from tests.unit.services.decoding.recorded import FOLDER, check_grammar, decode, failed, finished, recording, run, text_of

FIVE = "tok0 tok1 tok2 tok3 tok4"

# -- exec --


def test_exec_tells_a_turn() -> None:
    events = run("codex/json")
    assert text_of(events) == FIVE
    assert events[-1] == Finished(0, usage=Usage(100, 20, 90, 12))


def test_exec_warnings_are_no_failures() -> None:
    assert "Model metadata" in recording("codex/json").stdout.decode()
    assert isinstance(run("codex/json")[-1], Finished)


def test_exec_shows_commands() -> None:
    events = run("codex/tool-exec")
    assert [event for event in events if isinstance(event, ToolCall | ToolResult)] == [
        ToolCall("item_1", "shell", {"command": "/bin/bash -lc 'echo hi'"}),
        ToolResult("item_1", "hi\n"),
    ]


def test_exec_usage_after_resume_is_the_threads_so_the_earlier_total_is_taken_off() -> None:
    found = recording("codex/resume")
    events = decode(CodexExecDecoder(usage_before=Usage(100, 5)), [found.stdout], found.exit)
    assert finished(events).usage == Usage(100, 5)
    assert finished(run("codex/resume")).usage == Usage(200, 10)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("err-400", "invalid_prompt", "fake upstream says 400"),
        ("err-429-default", "rate_limited", "exceeded retry limit, last status: 429 Too Many Requests"),
        ("midstream-failed", "backend", "stream disconnected before completion: fake failure"),
        ("noauth", "not_logged_in", "Missing environment variable: `OPENAI_API_KEY`."),
    ],
)
def test_exec_failures_speak_for_people(name: str, kind: str, message: str) -> None:
    end = failed(run(f"codex/{name}"))
    assert (end.kind, end.message, end.exit_code) == (kind, message, 1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("err-401", "not_logged_in"),
        ("err-404-model", "unknown_model"),
        ("err-503-retries1", "overloaded"),
        ("resume-missing", "unknown_session"),
    ],
)
def test_exec_failures_are_told_apart(name: str, kind: str) -> None:
    assert failed(run(f"codex/{name}")).kind == kind


def test_exec_refused_before_it_began_says_what_stderr_says() -> None:
    message = failed(run("codex/sandbox-bogus")).message
    assert message.startswith("the CLI failed with exit code 2: error: invalid value 'bogus' for '--sandbox <SANDBOX_MODE>'")
    assert "Reading additional input" not in failed(run("codex/sigterm")).message


def test_usage_that_shrank_was_counted_anew() -> None:
    assert Usage(50, 5) - Usage(100, 9) == Usage(50, 5)


@pytest.mark.parametrize(
    ("item", "name", "input", "output", "is_error"),
    [
        ({"type": "mcpToolCall", "server": "s", "tool": "t", "arguments": {"a": 1}, "result": {"content": [{"text": "ok"}]}}, "s.t", {"a": 1}, "ok", False),
        ({"type": "mcp_tool_call", "server": "s", "tool": "t", "status": "failed", "error": {"message": "no"}}, "s.t", {}, "no", True),
        ({"type": "fileChange", "changes": [{"path": "a"}], "status": "completed"}, "apply_patch", {"changes": [{"path": "a"}]}, "", False),
        ({"type": "webSearch", "query": "q"}, "web_search", {"query": "q"}, "", False),
        ({"type": "commandExecution", "command": "ls", "aggregatedOutput": "no", "exitCode": 2}, "shell", {"command": "ls"}, "no", True),
        ({"type": "dynamicToolCall", "tool": "d", "arguments": 7, "success": False}, "d", 7, "", True),
    ],
)  # fmt: skip
def test_items_of_both_spellings_are_tools(item: dict[str, Any], name: str, input: Any, output: str, is_error: bool) -> None:
    """From the schema that ``codex app-server generate-json-schema`` 0.169.0 writes (ThreadItem); only commands are recorded."""
    item = {"id": "1", **item}
    assert tool_call(item) == ToolCall("1", name, input)
    assert tool_result(item) == ToolResult("1", output, is_error)


# -- app-server --


def messages(name: str) -> list[dict[str, Any]]:
    lines = sorted(FOLDER.glob(f"codex/*/warm-appserver-{name}.jsonl"))[-1].read_text().splitlines()
    return [entry["msg"] for line in lines if (entry := json.loads(line))["dir"] == "<"]


def as_bytes(received: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in received)


def turns(name: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(thread, turn, the turn as completed) of every turn that came to its end."""
    for message in messages(name):
        if message.get("method") == "turn/completed":
            yield message["params"]["threadId"], message["params"]["turn"]["id"], message["params"]["turn"]


def decode_turn(name: str, thread: str, turn: str, before: Usage | None = None) -> list[Event]:
    return decode(CodexAppServerDecoder(thread, turn, before), [as_bytes(messages(name))], Exit(0))


NAMES = sorted(path.stem.removeprefix("warm-appserver-") for path in FOLDER.glob("codex/*/warm-appserver-*.jsonl"))


@pytest.mark.parametrize("name", NAMES)
def test_app_server_tells_every_turn_of_many_threads_apart(name: str) -> None:
    seen = 0
    for thread, turn, completed in turns(name):
        events = decode_turn(name, thread, turn)
        if completed["status"] == "completed":
            assert text_of(events) == "|".join(item["text"] for item in completed["items"] if item["type"] == "agentMessage")
            assert isinstance(events[-1], Finished)
        else:
            assert isinstance(events[-1], Failed)
        seen += 1
    assert seen or name == "eof"


@pytest.mark.parametrize("name", NAMES)
def test_app_server_in_pieces_and_cut_short(name: str) -> None:
    received = messages(name)[:120]
    stream = as_bytes(received)
    whole = decode(CodexAppServerDecoder(), [stream], Exit(0))
    assert decode(CodexAppServerDecoder(), (stream[i : i + 97] for i in range(0, len(stream), 97)), Exit(0)) == whole
    for count in range(len(received)):
        decoder, events = CodexAppServerDecoder(), []
        for message in received[:count]:
            if "method" in message and "id" not in message:
                events += decoder.notification(message["method"], message["params"])
        complete = decoder.is_complete
        events += decoder.finish(Exit(1, "killed"))
        check_grammar(events)
        assert complete or isinstance(events[-1], Failed)


def test_app_server_usage_is_the_difference_to_the_total_before() -> None:
    (thread, first, _), (_, second, _) = list(turns("basic"))[:2]
    assert finished(decode_turn("basic", thread, first)).usage == Usage(100, 9, 90, 2)
    assert finished(decode_turn("basic", thread, second, Usage(100, 9, 90, 2))).usage == Usage(100, 9, 90, 2)
    updates = [event.usage for event in decode_turn("basic", thread, first) if isinstance(event, UsageUpdate)]
    assert updates == [Usage(100, 9, 90, 2)]


def test_app_server_learns_the_total_before_from_a_resumed_thread() -> None:
    thread, turn, _ = next(turns("resume"))
    decoder = CodexAppServerDecoder(thread, turn)
    assert finished(decode(decoder, [as_bytes(messages("resume"))], Exit(0))).usage == Usage(100, 5)
    assert decoder.usage_total == Usage(200, 10)


def test_app_server_turn_with_an_unknown_exit_is_a_failure() -> None:
    thread, turn, _ = next(turns("basic"))
    end = failed(decode(CodexAppServerDecoder(thread, turn), [as_bytes(messages("basic"))], Exit(None)))
    assert end.usage == Usage(100, 9, 90, 2)


def test_app_server_shows_reasoning_and_commands() -> None:
    thread, turn, _ = next(turns("basic"))
    assert [event.text for event in decode_turn("basic", thread, turn) if isinstance(event, Thinking)] == ["hmm0", " hmm1"]
    every = [event for found in turns("basic") for event in decode_turn("basic", *found[:2])]
    calls = [event for event in every if isinstance(event, ToolCall)]
    assert {call.name for call in calls} == {"shell"}
    assert len({call.id for call in calls}) == len(calls), "a call was told twice"
    assert any(isinstance(event, ToolResult) and event.output == "made\n" for event in every)


def test_app_server_failures_and_interruptions() -> None:
    ends = [decode_turn("basic", thread, turn)[-1] for thread, turn, completed in turns("basic") if completed["status"] != "completed"]
    kinds = {end.kind for end in ends if isinstance(end, Failed)}
    assert kinds == {"not_logged_in", "cancelled", "invalid_prompt"}
    assert any("401 Unauthorized: fake upstream says 401" in end.message for end in ends if isinstance(end, Failed))


def test_app_server_message_that_broke_off_is_told_once() -> None:
    """recordings warm-appserver-retry: three tellings of one message, each under an id of its own."""
    thread, turn, _ = next(turns("retry"))
    events = decode_turn("retry", thread, turn)
    assert text_of(events) == "tok0 tok1 tok2"
    assert failed(events).message == "stream disconnected before completion: fake failure"


def notify(*calls: tuple[str, dict[str, Any]]) -> list[Event]:
    decoder, events = CodexAppServerDecoder("T", "1"), []
    for method, params in calls:
        events += decoder.notification(method, {"threadId": "T", "turnId": "1", **params})
    return events + decoder.finish(Exit(0))


def delta(item: str, text: str) -> tuple[str, dict[str, Any]]:
    return "item/agentMessage/delta", {"itemId": item, "delta": text}


def completed(item: str, text: str) -> tuple[str, dict[str, Any]]:
    return "item/completed", {"item": {"type": "agentMessage", "id": item, "text": text}}


RETRY = ("error", {"error": {"message": "Reconnecting... 1/5"}, "willRetry": True})
DONE = ("turn/completed", {"turn": {"id": "1", "status": "completed"}})


@pytest.mark.parametrize(
    ("told", "text", "end"),
    [
        ((delta("a", "One "), RETRY, delta("b", "One two"), completed("b", "One two"), DONE), "One two", Finished),
        ((delta("a", "One "), RETRY, delta("b", "Zero"), completed("b", "Zero"), DONE), "One ", Failed),
        ((delta("a", "One two"), RETRY, delta("b", "One"), completed("b", "One"), DONE), "One two", Failed),
        ((delta("a", "One"), RETRY, delta("b", "O"), RETRY, delta("c", "One!"), completed("c", "One!"), DONE), "One!", Finished),
        ((delta("a", "One"), completed("a", "One"), RETRY, delta("b", "Two"), completed("b", "Two"), DONE), "One|Two", Finished),
        ((completed("a", "whole"), DONE), "whole", Finished),
        ((delta("a", "wh"), completed("a", "whole"), DONE), "whole", Finished),
        ((delta("a", "with a mark"), completed("a", "without"), DONE), "with a mark", Finished),
        ((DONE,), "", Failed),
    ],
)
def test_app_server_tellings(told: tuple[tuple[str, dict[str, Any]], ...], text: str, end: type) -> None:
    events = notify(*told)
    check_grammar(events)
    assert text_of(events) == text
    assert isinstance(events[-1], end), events[-1]


@pytest.mark.parametrize(
    ("info", "kind"),
    [
        ("contextWindowExceeded", "prompt_too_long"),
        ("usageLimitExceeded", "rate_limited"),
        ("serverOverloaded", "overloaded"),
        ("unauthorized", "not_logged_in"),
        ({"httpConnectionFailed": {"httpStatusCode": 429}}, "rate_limited"),
        ({"responseStreamDisconnected": {"httpStatusCode": None}}, "backend"),
        ("somethingNew", "backend"),
        (None, "backend"),
    ],
)
def test_app_server_error_codes(info: Any, kind: str) -> None:
    events = notify(("turn/completed", {"turn": {"id": "1", "status": "failed", "error": {"message": "it broke", "codexErrorInfo": info}}}))
    assert (failed(events).kind, failed(events).message) == (kind, "it broke")


def test_app_server_text_is_partial_until_whole() -> None:
    assert notify(delta("a", "x"), completed("b", "y"), DONE)[:2] == [Text("x", 0), Text("y", 1, is_partial=False)]


def test_a_declined_item_is_a_denied_tool() -> None:
    """recordings warm-appserver-declined: the changes of the first turn are accepted, those of the second declined."""
    ends = [finished(decode_turn("declined", thread, turn)).denied_tools for thread, turn, _ in turns("declined")]
    assert ends[:2] == [(), (Denial("apply_patch", "declined by Codex"),)]
