"""What counts as a hung CLI and what as a tool at work, by events and a clock of the test's own."""

from __future__ import annotations

import pytest

from services.events import Event, Failed, Finished, Started, Text, Thinking, ToolCall, ToolProgress, ToolResult, UsageUpdate
from services.execution.driver import Limits
from services.run_clock import RunClock
from services.usage import Usage
from tests.unit.services.decoding.recorded import Recording, decode, name_of, recordings

IDLE_S = 5.0
BASH, AGENT = ToolCall("1", "Bash", {"command": "make"}), ToolCall("2", "Agent", {})
BASH_DONE, AGENT_DONE = ToolResult("1", "made"), ToolResult("2", "found")


class Run:
    """A run whose CLI wrote its last output at 0; `at` sets what time it is."""

    def __init__(self, *events: Event) -> None:
        self.now = 0.0
        self.clock = RunClock("claude", Limits(idle_output_timeout_s=IDLE_S), lambda: self.now)
        self.clock.observe([Started("s", "m"), *events])

    def at(self, now: float) -> RunClock:
        self.now = now
        return self.clock


def is_idle(run: Run) -> bool:
    return run.at(IDLE_S).idle_failure(0.0) is not None


def test_a_silent_cli_is_idle_once_the_limit_has_passed_and_not_before() -> None:
    run = Run(Text("I will"))
    assert run.at(IDLE_S - 0.01).idle_failure(0.0) is None
    failure = run.at(IDLE_S).idle_failure(0.0)
    assert failure
    assert failure.kind == "timeout"
    assert failure.message == "claude wrote nothing for 5 s (server.idle_output_timeout_secs) with no tool call open, so it was stopped"


def test_output_restarts_the_limit() -> None:
    assert Run().at(10 * IDLE_S).idle_failure(9.5 * IDLE_S) is None


@pytest.mark.parametrize(
    ("events", "idle"),
    [
        ([BASH], False),
        ([BASH, BASH_DONE], True),
        ([BASH, AGENT, BASH_DONE], False),
        ([BASH, AGENT, AGENT_DONE, BASH_DONE], True),
        ([AGENT, BASH, BASH_DONE], False),
        ([BASH, Text("meanwhile"), Thinking("hm"), UsageUpdate(Usage(1, 2))], False),
        ([BASH, ToolResult("other", "")], False),
        ([BASH, ToolResult("", "")], True),
        ([ToolCall("", "Bash", {}), ToolCall("", "Bash", {}), ToolResult("7", "")], False),
        ([ToolCall("", "Bash", {}), ToolCall("", "Bash", {}), ToolResult("7", ""), ToolResult("", "")], True),
        ([BASH, BASH_DONE, BASH], False),
    ],
    ids=[
        "open", "closed", "one of two", "two of two", "a subagent's, the agent still open", "the model goes on in parallel", "another's result",
        "result without id", "calls without ids, one closed", "calls without ids, both closed", "id used again",
    ],
)  # fmt: skip
def test_idle_limit_does_not_apply_while_a_tool_call_is_open(events: list[Event], idle: bool) -> None:
    assert is_idle(Run(*events)) == idle


@pytest.mark.parametrize("event", [Text("done"), UsageUpdate(Usage(1, 2)), BASH_DONE], ids=lambda event: type(event).__name__)
def test_a_call_whose_result_is_never_reported_is_open_until_the_next_event(event: Event) -> None:
    run = Run(ToolCall("1", "Bash", {}, reports_result=False))
    assert not is_idle(run)
    run.clock.observe([event])
    assert is_idle(run)


def test_progress_is_reported_every_30_s_while_a_call_is_open() -> None:
    run = Run(BASH)
    reports = [run.at(second).progress() for second in range(0, 100, 10)]
    assert [report for report in reports if report] == [ToolProgress("1", "Bash", elapsed) for elapsed in (30.0, 60.0, 90.0)]
    run.clock.observe([BASH_DONE])
    assert run.at(200).progress() is None


def test_open_calls_take_turns_in_one_report_every_30_s() -> None:
    run = Run(BASH)
    run.at(10).observe([AGENT])
    reports = [run.at(second).progress() for second in range(0, 130, 5)]
    assert [(report.name, report.elapsed_s) for report in reports if report] == [
        ("Bash", 30.0),
        ("Agent", 50.0),
        ("Bash", 90.0),
        ("Agent", 110.0),
    ]


def test_a_call_that_is_over_within_30_s_reports_nothing() -> None:
    run = Run()
    for start in range(0, 200, 29):
        run.at(start).observe([BASH])
        assert run.at(start + 28).progress() is None
        run.clock.observe([BASH_DONE])


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([], "the run exceeded its time limit of 300 s (server.request_timeout_secs) and was stopped"),
        ([BASH], "the run exceeded its time limit of 300 s (server.request_timeout_secs) with 1 tool call open (Bash) and was stopped"),
        (
            [BASH, AGENT, ToolCall("3", "Bash", {})],
            "the run exceeded its time limit of 300 s (server.request_timeout_secs) with 3 tool calls open (Bash, Agent) and was stopped",
        ),
    ],
)
def test_the_time_limit_names_its_setting_and_what_is_open(events: list[Event], message: str) -> None:
    assert Run(*events).clock.timeout_failure() == Failed("timeout", message)


def test_a_recorded_run_that_ended_well_has_closed_every_call() -> None:
    for recording in recordings():
        events = decode(recording.decoder(), [recording.stdout], recording.exit)
        assert is_idle(Run(*events)) or not isinstance(events[-1], Finished), name_of(recording)


@pytest.mark.parametrize("recording", recordings("*/*/sig*-in-tool"), ids=name_of)
def test_a_recorded_run_that_was_ended_in_a_tool_has_it_open(recording: Recording) -> None:
    lines = recording.stdout.splitlines(keepends=True)
    calls = [0]
    for count in range(1, len(lines) + 1):
        events = decode(recording.decoder(), lines[:count], recording.exit)[:-1]
        calls.append(sum(isinstance(event, ToolCall) for event in events))
        if calls[-1] > calls[-2]:
            assert not is_idle(Run(*events))
    assert calls[-1] > 0
