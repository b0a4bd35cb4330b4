from __future__ import annotations

import json

import pytest

from services.clis.gemini.decoder import GeminiDecoder
from services.decoding.decoder import Exit
from services.events import Denial, Failed, Finished, Started, Text, ToolCall, ToolResult
from services.usage import Usage
from tests.unit.services.decoding.recorded import decode, failed, finished, run, text_of


def test_a_stream_is_told_once_and_without_the_users_line() -> None:
    events = run("gemini/stream")
    assert text_of(events) == "tok0 tok1 tok2 tok3 tok4 tok5 tok6 tok7"
    assert events[0] == Started("8283c110-0ca5-4a08-a690-3b6b0bec3fc4", "gemini-2.5-flash")
    assert events[-1] == Finished(0, usage=Usage(100, 11, 0, 3))


def test_cached_tokens_are_part_of_the_input_and_thoughts_of_the_total() -> None:
    assert finished(run("gemini/stream-json")).usage == Usage(100, 20, 90, 12)


def test_text_after_a_tool_is_another_block() -> None:
    events = run("gemini/tool-yolo")
    calls = [event for event in events if isinstance(event, ToolCall | ToolResult)]
    assert [type(event) for event in calls] == [ToolCall, ToolResult]
    assert calls[0].input == {"command": "echo hi", "description": "d"}
    assert calls[1].output == "hi"
    assert {event.block for event in events if isinstance(event, Text)} == {1}


def test_a_refused_tool_is_an_error_of_the_tool_alone() -> None:
    events = run("gemini/tool-default")
    result = next(event for event in events if isinstance(event, ToolResult))
    assert result.is_error
    assert finished(events).denied_tools == (Denial("run_shell_command", result.output),)


def test_a_write_outside_the_plan_is_denied() -> None:
    (denial,) = finished(run("gemini/tool-plan")).denied_tools
    assert (denial.tool, denial.reason[:37]) == ("write_file", "Access denied: plan path (/workspace/")


@pytest.mark.parametrize("name", ["tool-yolo", "tool-allowed", "tool-read"])
def test_a_tool_that_ran_is_not_denied(name: str) -> None:
    assert finished(run(f"gemini/{name}")).denied_tools == ()


@pytest.mark.parametrize(
    ("name", "kind", "message", "code"),
    [
        ("err-401", "not_logged_in", "API Error: 401 fake upstream says 401", 145),
        ("err-400", "invalid_prompt", "API Error: 400 fake upstream says 400", 144),
        ("err-403", "backend", "API Error: 403 fake upstream says 403", 147),
        ("err-404-model", "unknown_model", "API Error: fake upstream says 404", 1),
        ("midstream-error", "backend", "Model stream ended without a finish reason.", 0),
    ],
)
def test_failures_speak_for_people_also_with_exit_code_0(name: str, kind: str, message: str, code: int) -> None:
    end = failed(run(f"gemini/{name}"))
    assert (end.kind, end.message, end.exit_code) == (kind, message, code)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("err-429-maxattempts1", "rate_limited"),
        ("err-500-maxattempts1", "backend"),
        ("noauth", "not_logged_in"),
        ("noauth-nosettings", "not_logged_in"),
        ("resume-missing", "unknown_session"),
        ("max-turns-setting", "backend"),
        ("untrusted", "backend"),
    ],
)
def test_failures_are_told_apart(name: str, kind: str) -> None:
    assert failed(run(f"gemini/{name}")).kind == kind


@pytest.mark.parametrize("name", ["sigterm", "sigint", "sigterm-in-tool", "sigint-in-tool"])
def test_exit_code_0_without_a_result_is_a_failure(name: str) -> None:
    end = failed(run(f"gemini/{name}"))
    assert end.exit_code == 0
    assert "[STARTUP]" not in end.message
    assert "256-color" not in end.message


def test_a_result_without_an_answer_is_a_failure() -> None:
    line = json.dumps({"type": "result", "status": "success", "stats": {}}).encode()
    assert isinstance(decode(GeminiDecoder(), [line], Exit(0))[-1], Failed)
