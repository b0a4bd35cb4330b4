"""Error responses: one table of status codes, and one function per API surface that formats the body.

`app.api.surfaces` decides which surface a request belongs to. Nothing here uses Flask's request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from blueprints.anthropic import errors as anthropic_errors
from blueprints.mcp import errors as mcp_errors
from blueprints.openai import errors as openai_errors
from blueprints.openai.errors import UNKNOWN_ROUTE
from blueprints.times import now, to_time
from blueprints.validation import invalid_json, invalid_request
from services.errors import BudgetExceeded, ClinvkError, KeyReused, RunEnded, RunFailed

STATUS: Mapping[str, int] = {
    "invalid_request": 400,
    "authentication_error": 401,
    "permission_denied": 403,
    "key_revoked": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "conflict": 409,
    "gone": 410,
    "request_too_large": 413,
    "unsupported_media_type": 415,
    "rate_limit_exceeded": 429,
    "budget_exceeded": 429,
    "cancelled": 499,
    "internal_error": 500,
    "worker_lost": 500,
    "backend_error": 502,
    "backend_unavailable": 503,
    "backend_overloaded": 503,
    "server_stopped": 503,
    "timeout": 504,
}
"""HTTP status of every error code. 499 is nginx's status for a disconnected client."""

CODE_OF_STATUS: Mapping[int, str] = {status: code for code, status in reversed(list(STATUS.items()))}

INTERNAL_MESSAGE = "internal server error; the server log has the details under this request id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error response before a surface formats it."""

    code: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    http_status: int | None = None
    """For an HTTP error without an error code of its own."""
    at: str = ""
    """When it happened, in RFC 3339; empty: now."""

    @property
    def status(self) -> int:
        return self.http_status or STATUS[self.code]


INTERNAL_PROBLEM = Problem(code="internal_error", message=INTERNAL_MESSAGE, headers={"x-should-retry": "false"})
"""A retry would hit the same bug, and a CLI may already have run: the SDKs must not retry automatically."""


def to_problem(error: BaseException) -> Problem:
    """Convert an exception to the problem shown to the client. Unexpected exceptions reveal no details."""
    if isinstance(error, ClinvkError):
        return _from_ours(error)
    if isinstance(error, HTTPException) and error.code:
        return _from_http(error)
    return INTERNAL_PROBLEM


def _from_ours(error: ClinvkError) -> Problem:
    headers: dict[str, str] = {}
    details = dict(error.details)
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.code == "authentication_error":
        headers["WWW-Authenticate"] = "Bearer"
    if error.code == "internal_error":
        return replace(INTERNAL_PROBLEM, details=details)
    if isinstance(error, RunFailed | RunEnded | KeyReused | BudgetExceeded):
        headers["x-should-retry"] = "false"
    if isinstance(error, RunFailed):
        details["failure"] = error.failure.kind
        if error.failure.kind == "unknown_model":
            details["field"] = "model"
    at = to_time(error.ended_at) if isinstance(error, RunEnded) and error.ended_at else ""
    return Problem(code=error.code, message=error.message, details=details, headers=headers, at=at)


def _from_http(error: HTTPException) -> Problem:
    status = error.code or 500
    if status >= 500:
        return INTERNAL_PROBLEM
    messages = getattr(error, "data", {}).get("messages")
    if status == 422 and messages:
        return _from_ours(invalid_request(messages))
    cause = getattr(error, "exc", None)
    if status == 400 and isinstance(cause, ValueError):
        return _from_ours(invalid_json(cause))
    if isinstance(error, NotFound):
        return Problem(code="not_found", message=UNKNOWN_ROUTE, details={"issue": UNKNOWN_ROUTE})
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return Problem(code="method_not_allowed", message=f"method not allowed; allowed: {allowed}", headers={"Allow": allowed})
    return Problem(code=CODE_OF_STATUS.get(status, "invalid_request"), message=error.description or error.name, http_status=status)


Envelope = Callable[[Problem, str], dict[str, Any]]
"""(problem, request id) → response body."""


def to_native_error(problem: Problem, request_id: str) -> dict[str, Any]:
    return {
        "error": {"code": problem.code, "message": problem.message, "details": dict(problem.details)},
        "meta": {"request_id": request_id, "timestamp": problem.at or now()},
    }


def to_openai_error(problem: Problem, request_id: str) -> dict[str, Any]:
    return openai_errors.to_error(problem.code, problem.message, problem.details)


def to_anthropic_error(problem: Problem, request_id: str) -> dict[str, Any]:
    return anthropic_errors.to_error(problem.code, problem.message, problem.details, request_id)


def to_mcp_error(problem: Problem, request_id: str) -> dict[str, Any]:
    return mcp_errors.to_error(problem.code, problem.message, problem.details)
