"""What the log line of a failed run says: why, and never a word of the prompt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from app.observability.run_log import fields_of_run
from services.errors import BackendUnavailable, InvalidRequest, RunFailed
from services.events import Failed, FailureKind, Finished
from services.requests import RunRequest
from services.telemetry import RunTelemetry

SECRET = "the secret plan"


def run_with(end: Finished | Failed | None = None, refusal: BaseException | None = None) -> dict[str, Any]:
    request = RunRequest(prompt="", backend="claude", request_id="req_1")
    run = RunTelemetry(SimpleNamespace(spec=SimpleNamespace(name="claude"), model="opus", request=request))  # type: ignore[arg-type]
    run.fold.end, run.refusal = end, refusal
    return fields_of_run(run)


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        ("rate_limited", "rate_limit_exceeded", "the model's vendor limits the rate or the quota"),
        ("unknown_model", "not_found", "the CLI does not accept the model"),
        ("not_logged_in", "backend_unavailable", "the CLI is not logged in on the server"),
        ("backend", "backend_error", "the CLI failed with exit code 3"),
    ],
)
def test_a_cli_s_failure_has_a_code_and_a_reason_without_the_cli_s_text(kind: FailureKind, code: str, reason: str) -> None:
    fields = run_with(Failed(kind, f"cannot do: {SECRET}", 3))
    assert (fields["code"], fields["reason"], fields["outcome"]) == (code, reason, kind)
    assert fields["request_id"] == "req_1"
    assert SECRET not in str(fields)
    refused = run_with(refusal=RunFailed(Failed(kind, f"cannot do: {SECRET}", 3)))
    assert (refused["code"], refused["reason"]) == (code, reason)


def test_the_server_s_own_failure_is_logged_as_it_is_but_bounded() -> None:
    text = "the run exceeded its time limit of 5 s and was stopped"
    assert run_with(Failed("timeout", text))["reason"] == text
    assert len(run_with(Failed("timeout", text * 100))["reason"]) == 300


def test_of_refusals_only_an_unavailable_backend_has_its_text() -> None:
    fields = run_with(refusal=BackendUnavailable("backend 'claude' is not available: 'claude' was not found on PATH"))
    assert (fields["code"], fields["reason"]) == (
        "backend_unavailable",
        "backend 'claude' is not available: 'claude' was not found on PATH",
    )
    fields = run_with(refusal=InvalidRequest(f"prompt: {SECRET}"))
    assert (fields["code"], "reason" in fields) == ("invalid_request", False)


def test_a_run_that_succeeded_has_neither() -> None:
    assert not {"code", "reason"} & set(run_with(Finished(0)))
