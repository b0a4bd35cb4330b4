from __future__ import annotations

import json

import pytest

from services.clis.claude.decoder import ClaudeDecoder
from services.decoding.decoder import Exit
from services.events import Denial, Failed, Finished, Started, Text, Thinking, ToolCall, ToolResult, UsageUpdate
from services.usage import Usage
from tests.unit.services.decoding.recorded import FOLDER, decode, failed, finished, run, text_of

EIGHT = "tok0 tok1 tok2 tok3 tok4 tok5 tok6 tok7"
FIVE = "tok0 tok1 tok2 tok3 tok4"


def say(*lines: dict[str, object]) -> list[object]:
    return decode(ClaudeDecoder(), [json.dumps(line).encode() + b"\n" for line in lines], Exit(0))


def delta(text: str) -> dict[str, object]:
    return event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def event(**fields: object) -> dict[str, object]:
    return {"type": "stream_event", "event": fields, "parent_tool_use_id": None}


def assistant(id: str, *content: dict[str, object], model: str = "claude-x") -> dict[str, object]:
    return {"type": "assistant", "message": {"id": id, "model": model, "content": list(content)}, "parent_tool_use_id": None}


def text_block(text: str) -> dict[str, object]:
    return {"type": "text", "text": text}


def start(id: str) -> dict[str, object]:
    return event(type="message_start", message={"id": id, "usage": {}})


OPEN = event(type="content_block_start", index=0, content_block={"type": "text", "text": ""})
RESULT: dict[str, object] = {"type": "result", "subtype": "success", "is_error": False, "result": "", "usage": {}}


def test_deltas_are_not_repeated_by_the_assistant_line() -> None:
    events = run("claude/partial")
    assert text_of(events) == EIGHT
    assert [event.text for event in events if isinstance(event, Thinking)] == ["hmm0", " hmm1", " hmm2"]
    assert events[0] == Started("70f18ad9-0162-4499-98c6-461bf1ca5ea0", "claude-sonnet-4-5")
    assert events[-1] == Finished(0, "end_turn", Usage(100, 11), 0.000465)
    assert all(event.is_partial for event in events if isinstance(event, Text))


def test_usage_grows_with_the_stream_to_that_of_the_result() -> None:
    updates = [event.usage for event in run("claude/partial") if isinstance(event, UsageUpdate)]
    assert updates == [Usage(100, 1), Usage(100, 11)]
    assert [event.usage for event in run("claude/partial-tool") if isinstance(event, UsageUpdate)][-1] == finished(
        run("claude/partial-tool")
    ).usage


def test_works_without_partial_messages() -> None:
    events = run("claude/stream-json")
    assert [event for event in events if isinstance(event, Text)] == [Text(FIVE, 0, is_partial=False)]


def test_tools_have_their_whole_input_and_their_output() -> None:
    events = run("claude/partial-tool")
    call = next(event for event in events if isinstance(event, ToolCall))
    result = next(event for event in events if isinstance(event, ToolResult))
    assert (call.name, call.input) == ("Bash", {"command": "echo hi", "description": "scripted by the test"})
    assert result == ToolResult(call.id, "hi")
    assert text_of(events) == "first second third"


def test_a_subagent_shows_its_tools_and_keeps_its_words() -> None:
    events = run("claude/partial-subagent")
    assert text_of(events) == "main answer"
    assert [event.name for event in events if isinstance(event, ToolCall)] == ["Agent", "Bash"]


@pytest.mark.parametrize("name", ["claude/json-schema", "claude/partial-json-schema"])
def test_structured_output_is_the_answer_and_no_tool(name: str) -> None:
    events = run(name)
    assert text_of(events) == '{"name":"bob"}'
    assert finished(events).structured_output == {"name": "bob"}
    assert not any(isinstance(event, ToolCall | ToolResult) for event in events)


def test_json_that_was_told_is_not_told_again() -> None:
    events = say(assistant("1", text_block('{"a": 1}')), RESULT | {"result": '{"a":1}', "structured_output": {"a": 1}})
    assert text_of(events) == '{"a": 1}'


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("err-401-retries0", "not_logged_in", "Failed to authenticate. API Error: 401 fake upstream says 401"),
        ("err-403", "not_logged_in", "Failed to authenticate. API Error: 403 fake upstream says 403"),
        ("err-400", "invalid_prompt", "API Error: 400 fake upstream says 400"),
        ("err-429-retries0", "rate_limited", "API Error: Request rejected (429) · fake upstream says 429"),
        ("noauth", "not_logged_in", "Not logged in · Please run /login"),
        ("max-turns", "backend", "Reached maximum number of turns (1)"),
        ("partial-budget", "backend", "Reached maximum budget ($0.0001)"),
        ("resume-missing", "unknown_session", "No conversation found with session ID: 99999999-2222-4333-8444-555555555555"),
        ("sigint", "backend", "the run was interrupted"),
        ("midstream-error-nofallback", "overloaded", "API Error: Overloaded"),
    ],
)
def test_an_error_that_looks_like_an_answer_is_a_failure(name: str, kind: str, message: str) -> None:
    events = run(f"claude/{name}")
    assert (failed(events).kind, failed(events).message) == (kind, message)
    assert message not in text_of(events)


@pytest.mark.parametrize(
    ("name", "kind"), [("err-404-model", "unknown_model"), ("err-529-retries0", "overloaded"), ("err-500-retries0", "backend")]
)
def test_failures_are_told_apart(name: str, kind: str) -> None:
    assert failed(run(f"claude/{name}")).kind == kind


def test_a_turn_limit_has_the_usage_and_cost_of_what_was_done() -> None:
    end = failed(run("claude/max-turns"))
    assert (end.exit_code, end.usage, end.cost_usd) == (1, Usage(100, 5), 0.000375)


def test_a_local_commands_output_is_handed_on() -> None:
    assert text_of(run("claude/slash-unknown")) == "Unknown command: /nosuchthing"
    assert isinstance(run("claude/slash-cost")[-1], Finished)


@pytest.mark.parametrize("name", ["midstream-error", "midstream-cut"])
def test_a_message_fetched_again_is_told_once(name: str) -> None:
    events = run(f"claude/{name}")
    assert text_of(events) == "tok0 tok1 tok2 tok3 tok4 tok5"
    assert finished(events).usage == Usage(100, 6), "the result's usage is zero here; modelUsage has it"


def test_a_message_fetched_again_in_other_words_is_no_answer() -> None:
    events = say(start("1"), OPEN, delta("One "), delta("two"), assistant("2", text_block("Zero")), RESULT | {"result": "Zero"})
    assert text_of(events) == "One two"
    assert "the retry returned different text" in failed(events).message


def test_a_stream_that_begins_again_is_told_once() -> None:
    events = say(
        start("1"),
        OPEN,
        delta("One "),
        delta("two"),
        start("2"),
        OPEN,
        delta("One"),
        delta(" two three"),
        event(type="message_stop"),
        RESULT,
    )
    assert text_of(events) == "One two three"
    assert isinstance(events[-1], Finished)


def test_the_output_limit_ends_an_answer_and_not_a_run() -> None:
    events = run("claude/partial-max-tokens")
    assert finished(events).stop_reason == "max_tokens"
    assert text_of(events) == "|".join([FIVE] * 4)
    assert "API Error" not in text_of(events)


@pytest.mark.parametrize(("name", "code", "words"), [("sigterm", 143, "SIGTERM"), ("sigkill-in-tool", 137, "SIGKILL")])
def test_a_killed_cli_says_how_it_ended(name: str, code: int, words: str) -> None:
    end = failed(run(f"claude/{name}"))
    assert end.exit_code == code
    assert words in end.message


def test_a_run_that_never_got_through_says_why() -> None:
    end = failed(run("claude/err-429-default-retries"))
    assert end.kind == "rate_limited"
    assert "tried 5 times" in end.message


def test_usage_counts_the_cache_as_input() -> None:
    events = say(
        assistant("1", text_block("x")),
        RESULT | {"usage": {"input_tokens": 10, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 7, "output_tokens": 5}},
    )
    assert finished(events).usage == Usage(107, 5, 90, 0, 7)


@pytest.mark.parametrize(
    ("reason", "stop"),
    [("end_turn", "end_turn"), ("max_tokens", "max_tokens"), ("refusal", "refusal"), ("tool_use", "end_turn"), (None, "end_turn")],
)
def test_stop_reasons(reason: str | None, stop: str) -> None:
    assert finished(say(assistant("1", text_block("x")), RESULT | {"stop_reason": reason})).stop_reason == stop


def test_work_without_words_is_fine_and_nothing_at_all_is_not() -> None:
    worked = assistant("1", {"type": "tool_use", "id": "t", "name": "Bash", "input": {}})
    assert isinstance(say(worked, RESULT)[-1], Finished)
    assert isinstance(say(RESULT)[-1], Failed)
    assert isinstance(say(assistant("1", text_block("  \n")), RESULT)[-1], Failed)


def test_messages_and_text_blocks_have_numbers_of_their_own() -> None:
    events = say(assistant("1", text_block("a")), assistant("1", text_block("b")), assistant("2", text_block("c")), RESULT)
    assert text_of(events) == "a|b|c"


def test_the_results_text_counts_where_no_message_came() -> None:
    assert text_of(say(RESULT | {"result": "all of it"})) == "all of it"


@pytest.mark.parametrize(
    ("name", "tool", "reason"),
    [
        ("perm-denied", "Write", "Claude requested permissions to write to /workspace/new-1795226549.txt, but you haven't granted it yet."),
        ("perm-plan2", "Write", "Cannot write to /workspace/newp-1795226550.txt while in plan mode."),
    ],
)
def test_a_denied_tool_is_named_with_the_reason_that_its_result_gives(name: str, tool: str, reason: str) -> None:
    assert finished(run(f"claude/{name}")).denied_tools == (Denial(tool, reason),)


def test_a_tool_that_failed_is_not_denied() -> None:
    events = run("claude/perm-default")
    assert any(event.is_error for event in events if isinstance(event, ToolResult))
    assert finished(events).denied_tools == ()


def test_a_denial_of_an_earlier_turn_of_the_process_is_not_told_again() -> None:
    denial = {"tool_name": "Write", "tool_use_id": "toolu_earlier", "tool_input": {}}
    events = say(assistant("m", text_block("hi")), RESULT | {"permission_denials": [denial]})
    assert finished(events).denied_tools == ()


def test_a_denied_tool_of_the_newest_release_is_named_too() -> None:
    lines = (FOLDER / "claude/2.1.332/warm-denied.jsonl").read_text().splitlines()
    heard = [entry["msg"] for line in lines if (entry := json.loads(line))["dir"] == "<"]
    (denial,) = finished(say(*heard)).denied_tools
    assert (denial.tool, denial.reason.partition(".")[0]) == ("Bash", "touch in '/workspace/perm1' needs approval")
