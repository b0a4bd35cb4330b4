"""Our error codes → Anthropic's error types. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# https://docs.claude.com/en/api/errors: "we may also use [invalid_request_error] for other 4XX status codes".
TYPES: Mapping[str, str] = {
    "authentication_error": "authentication_error",
    "permission_denied": "permission_error",
    "key_revoked": "permission_error",
    "not_found": "not_found_error",
    "conflict": "conflict_error",
    "request_too_large": "request_too_large",
    "rate_limit_exceeded": "rate_limit_error",
    "budget_exceeded": "rate_limit_error",
    "internal_error": "api_error",
    "backend_error": "api_error",
    "backend_unavailable": "api_error",
    "backend_overloaded": "overloaded_error",
    "cancelled": "api_error",
    "server_stopped": "api_error",
    "worker_lost": "api_error",
    "request_timeout": "timeout_error",
    "timeout": "timeout_error",
}


DETAILS = ("error_code", "unsupported")
"""The members of an error's details that Anthropic's SDKs read."""


def to_error(code: str, message: str, details: Mapping[str, Any], request_id: str) -> dict[str, Any]:
    """The error body: ``{"type": "error", "error": {type, message, details?}, "request_id"}``."""
    error: dict[str, Any] = {"type": TYPES.get(code, "invalid_request_error"), "message": message}
    if shown := {name: details[name] for name in DETAILS if name in details}:
        error["details"] = shown
    return {"type": "error", "error": error, "request_id": request_id}
