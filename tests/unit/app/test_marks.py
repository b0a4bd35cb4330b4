"""What views declare about themselves: a new view appears here, or it has a mark."""

from __future__ import annotations

from blueprints.marks import UNMARKED, marks_of
from tests.unit.app.parts import shared_app

UNMARKED_VIEWS = {
    "native.list_backends",
    "plans.list_plans",
    "openai.list_models",
    "openai_extras.no_websocket",
    *(f"openai_extras.probe_{index}" for index in range(3)),
    "anthropic_extras.log_events",
    *(f"anthropic_extras.probe_{index}" for index in range(3)),
}
"""They need a key, start no CLI, and answer no error of their own."""

OPEN = {"meta.get_index", "meta.get_openapi", "meta.health", "meta.api_health", "pages.get_docs", "pages.get_start", "pages.get_asset"}

RUNS = {
    "native.run_prompt",
    "sessions.resume_session",
    "compose.run_parallel",
    "compose.run_chain",
    "compose.run_compare",
    "openai.create_chat_completion",
    "responses.create_response",
    "anthropic.create_message",
}

MARKS = {name: marks_of(view) for name, view in shared_app().view_functions.items() if not name.startswith(("echo_", "who_"))}


def test_every_other_view_has_a_mark() -> None:
    assert {name for name, marks in MARKS.items() if marks == UNMARKED} == UNMARKED_VIEWS


def test_what_only_admins_may_ask() -> None:
    assert {name for name, marks in MARKS.items() if marks.needs_admin} == {
        "keys.list_keys", "keys.create_key", "keys.revoke_key", "metrics.get_metrics",
    }  # fmt: skip


def test_only_health_and_documentation_need_no_key() -> None:
    assert {name for name, marks in MARKS.items() if marks.is_public} == OPEN
    assert {name: marks.public_setting for name, marks in MARKS.items() if marks.public_setting} == {
        "metrics.get_metrics": "metrics_public"
    }


def test_what_starts_a_cli_is_limited_and_streams() -> None:
    assert {name for name, marks in MARKS.items() if marks.runs_cli} == RUNS
    assert {name for name, marks in MARKS.items() if marks.stream_types} == RUNS | {
        "mcp.call",
        "runs.follow_events",
        "responses.get_response",
    }
