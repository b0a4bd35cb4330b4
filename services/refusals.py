"""A run that is refused after its stream has begun: the error → the end of the stream. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from services.errors import BackendUnavailable, BudgetExceeded, ClinvkError, RateLimited, RunFailed
from services.events import Failed, FailureKind

KINDS: Mapping[type[ClinvkError], FailureKind] = {
    BackendUnavailable: "unavailable",
    BudgetExceeded: "budget_exceeded",
    RateLimited: "rate_limited",
}
"""Of the errors that are not the request's own fault."""


def to_failure(error: ClinvkError) -> Failed:
    if isinstance(error, RunFailed):
        return error.failure
    kind: FailureKind = next((kind for refusal, kind in KINDS.items() if isinstance(error, refusal)), "invalid_prompt")
    return Failed(kind, error.message, retry_after_s=error.retry_after_s)
