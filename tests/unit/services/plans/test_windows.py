"""What is known of the subscriptions' windows: merged, forgotten after their reset, told in seconds."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from services.clis.claude.plan import to_plan_update as of_claude
from services.clis.codex.connection import CodexConnection
from services.clis.codex.plan import to_plan_update as of_codex
from services.events import PlanUpdate, Retrying
from services.plans.window import PlanWindow
from services.plans.windows import NAME_LIMIT_CHARS, WINDOWS_LIMIT, Observed, PlanWindows
from tests.unit.services.decoding.recorded import FOLDER, run

NOW = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW

    def __call__(self) -> int:
        return self.now_s * 1_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def windows(clock: Clock) -> PlanWindows:
    return PlanWindows(clock)


def known(windows: PlanWindows) -> dict[str, list[PlanWindow]]:
    return {plan.backend: list(plan.windows) for plan in windows.plans()}


def window(**facts: Any) -> PlanWindow:
    return PlanWindow(**{"name": "five_hour", "used": 0.5, "resets_at": NOW + 100, "status": "allowed", **facts})


def test_a_sparse_report_erases_nothing(windows: PlanWindows) -> None:
    windows.observe("claude", [window(), window(name="seven_day", used=0.1)])
    windows.observe("claude", [PlanWindow("five_hour", status="allowed_warning")])
    windows.observe("claude", [])
    assert known(windows) == {"claude": [window(status="allowed_warning"), window(name="seven_day", used=0.1)]}


def test_a_new_period_begins_without_what_was_known_of_the_last(windows: PlanWindows) -> None:
    windows.observe("claude", [window(used=0.9, status="rejected")])
    windows.observe("claude", [PlanWindow("five_hour", resets_at=NOW + 18_000)])
    assert known(windows) == {"claude": [PlanWindow("five_hour", resets_at=NOW + 18_000)]}


def test_a_sparse_report_of_a_new_period_is_not_taken_for_the_one_that_is_over(windows: PlanWindows, clock: Clock) -> None:
    windows.observe("codex", [window(used=1.0, status="rejected")])
    clock.now_s += 100
    windows.observe("codex", [PlanWindow("five_hour", used=0.01)])
    assert known(windows) == {"codex": [PlanWindow("five_hour", used=0.01)]}


@pytest.mark.parametrize("told", [1_800_000_000_000, 1e300, 0, -1, "soon", True, None])
def test_a_reset_that_is_no_time_in_seconds_is_not_known(told: Any) -> None:
    """Milliseconds, for one: nobody could ask the backend for 50,000 years."""
    claude = of_claude({"status": "rejected", "rateLimitType": "five_hour", "resetsAt": told})
    codex = of_codex({"rateLimits": {"primary": {"usedPercent": 100, "windowDurationMins": 300, "resetsAt": told}}})
    assert codex is not None
    assert [one.resets_at for one in (*claude.windows, *codex.windows)] == [None, None]


def test_a_window_past_its_reset_is_left_out(windows: PlanWindows, clock: Clock) -> None:
    windows.observe("claude", [window(status="rejected"), window(name="seven_day", resets_at=NOW + 1_000)])
    assert (windows.rejected_until("claude"), windows.retry_after_s(["claude"])) == (NOW + 100, 100.0)
    clock.now_s += 100
    assert [one.name for one in known(windows)["claude"]] == ["seven_day"]
    assert (windows.rejected_until("claude"), windows.retry_after_s(["claude"])) == (None, None)
    clock.now_s += 900
    assert known(windows) == {}


def test_a_backend_may_be_asked_again_when_all_of_its_windows_allow_it_and_the_first_backend_counts(windows: PlanWindows) -> None:
    windows.observe("claude", [window(status="rejected"), window(name="seven_day", status="rejected", resets_at=NOW + 300)])
    windows.observe("codex", [window(status="rejected", resets_at=NOW + 200)])
    windows.observe("gemini", [window()])
    assert windows.rejected_until("claude") == NOW + 300
    assert windows.retry_after_s(["claude", "codex", "gemini", "other"]) == 200.0


def test_what_a_cli_says_has_a_limit(windows: PlanWindows) -> None:
    windows.observe("claude", [window(name="x" * (NAME_LIMIT_CHARS + 1))])
    windows.observe("claude", [window(name=str(number)) for number in range(WINDOWS_LIMIT + 5)])
    assert len(known(windows)["claude"]) == WINDOWS_LIMIT == len(windows.unsaved())


def test_the_later_report_counts_whichever_process_heard_it(windows: PlanWindows, clock: Clock) -> None:
    windows.observe("claude", [window(used=0.5)])
    for used, at_s in ((0.4, NOW - 1), (0.6, NOW + 1)):
        windows.learn("claude", Observed(window(used=used), at_s * 1_000_000))
    assert [one.used for one in known(windows)["claude"]] == [0.6]


def test_what_was_observed_meanwhile_is_not_taken_for_saved(windows: PlanWindows) -> None:
    windows.observe("claude", [window(used=0.5)])
    saving = windows.unsaved()
    windows.observe("claude", [window(used=0.6)])
    windows.saved(saving)
    assert [one.window.used for _, one in windows.unsaved()] == [0.6]
    windows.saved(windows.unsaved())
    assert windows.unsaved() == []


def test_a_report_that_is_not_understood_is_logged_once_for_a_backend(windows: PlanWindows, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "clinvk.backends"):
        for backend in ("claude", "claude", "work"):
            windows.observe(backend, [])
    assert [message.split()[0] for message in caplog.messages] == ["claude", "work"]


def updates(recorded: str) -> list[PlanUpdate]:
    return [event for event in run(recorded) if isinstance(event, PlanUpdate)]


def notification(name: str) -> dict[str, Any]:
    """The parameters of the last ``account/rateLimits/updated`` of a recording."""
    lines = (FOLDER / "codex" / "0.171.0" / f"warm-appserver-{name}.jsonl").read_text().splitlines()
    messages = [json.loads(line)["msg"] for line in lines]
    found: dict[str, Any] = [message["params"] for message in messages if message.get("method") == "account/rateLimits/updated"][-1]
    return found


def test_the_recorded_reports_of_both_clis_are_one_table() -> None:
    """Claude Code counts seconds and shares, Codex seconds and percents; their windows are as long."""
    reports = {
        "claude": updates("claude/plan")[-1],
        "claude, refused": updates("claude/plan-rejected")[-1],
        "codex": of_codex(notification("plan")),
        "codex, refused": of_codex(notification("plan-rejected")),
    }
    table = {name: [(one.name, one.used, one.status) for one in (update or PlanUpdate(())).windows] for name, update in reports.items()}
    assert table == {
        "claude": [("five_hour", 0.42, "allowed"), ("seven_day", 0.11, "allowed")],
        "claude, refused": [("five_hour", 1.0, "rejected"), ("seven_day", 0.11, "allowed")],
        "codex": [("five_hour", 0.42, "allowed"), ("seven_day", 0.11, "allowed")],
        "codex, refused": [("five_hour", 1.0, "rejected"), ("seven_day", 0.11, "allowed")],
    }
    assert all(one.resets_at for update in reports.values() if update for one in update.windows)


def test_the_oldest_claude_names_the_limiting_window_alone() -> None:
    (path,) = (FOLDER / "claude" / "2.1.197").glob("plan-rejected.stdout.jsonl")
    (info,) = [line["rate_limit_info"] for line in map(json.loads, path.read_text().splitlines()) if line["type"] == "rate_limit_event"]
    assert of_claude(info) == PlanUpdate((PlanWindow("five_hour", None, info["resetsAt"], "rejected"),))


def test_a_full_window_of_claude_refuses_nothing_while_extra_usage_is_paid_for() -> None:
    full = {"utilization": 1.2, "resetsAt": NOW, "status": "rejected"}
    told = of_claude({"status": "allowed", "rateLimitType": "overage", "resetsAt": NOW, "unifiedWindows": {"five_hour": full}})
    assert told.windows[0] == PlanWindow("five_hour", 1.0, NOW, "allowed_warning")
    assert told.windows[1] == PlanWindow("overage", None, NOW, "allowed")


def limits(**facts: Any) -> dict[str, Any]:
    return {"rateLimits": {"limitId": "codex", "primary": {"usedPercent": 100, "windowDurationMins": 300, "resetsAt": NOW}, **facts}}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (limits(credits={"hasCredits": True}), [PlanWindow("five_hour", 1.0, NOW, "allowed_warning")]),
        (limits(limitId="spark"), [PlanWindow("spark:five_hour", 1.0, NOW, "rejected")]),
        (limits(primary={"usedPercent": 1.5, "windowDurationMins": 60}), [PlanWindow("60_minutes", 0.015, None, "allowed")]),
        (limits(primary={"usedPercent": "x"}), [PlanWindow("primary", None, None, None)]),
        (limits(primary=None), None),
        (limits(primary={"share": 1}), []),
        ({"rateLimits": {"third": {}}}, []),
        ({"rateLimits": 7}, []),
        ({}, []),
    ],
)
def test_other_forms_of_codex(params: dict[str, Any], expected: list[PlanWindow] | None) -> None:
    update = of_codex(params)
    assert (None if update is None else list(update.windows)) == expected


@pytest.mark.parametrize("info", [{}, {"status": 7}, {"unifiedWindows": []}, {"status": "allowed"}, {"rateLimitType": None}])
def test_unknown_forms_of_claude_have_no_windows(info: dict[str, Any]) -> None:
    assert of_claude(info) == PlanUpdate(())


def test_a_report_of_the_shared_process_belongs_to_one_of_its_turns_and_to_none_without_one() -> None:
    connection = CodexConnection()
    line = json.dumps({"method": "account/rateLimits/updated", "params": notification("plan")}).encode() + b"\n"
    assert connection.receive(line) == []


def test_a_cli_that_asks_the_model_again_says_why() -> None:
    events = run("claude/err-429-retries1")
    assert [event.kind for event in events if isinstance(event, Retrying)] == ["rate_limited"]
