"""Our error codes → OpenAI's error types and codes, for error responses, streams and failed Responses. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from services.errors import UNKNOWN_RESPONSE
from services.events import FailureKind

UNKNOWN_ROUTE = "unknown route"
"""``details["issue"]`` of an unknown path."""

TYPES: Mapping[str, str] = {
    "internal_error": "server_error",
    "backend_error": "server_error",
    "backend_unavailable": "server_error",
    "backend_overloaded": "server_error",
    "timeout": "server_error",
    "cancelled": "server_error",
    "server_stopped": "server_error",
    "worker_lost": "server_error",
    "rate_limit_exceeded": "requests",
    "budget_exceeded": "insufficient_quota",
}
"""OpenAI's ``type`` by our code; default ``invalid_request_error``."""

CODES: Mapping[str, str] = {
    "authentication_error": "invalid_api_key",
    "method_not_allowed": "method_not_supported",
    "unsupported_media_type": "unsupported_content_type",
}
"""OpenAI's ``code`` where it differs from ours."""

NOT_FOUND_CODES: Mapping[str | None, str] = {
    "model": "model_not_found",
    "previous_response_id": "previous_response_not_found",
}
"""OpenAI's ``code`` for not_found, by the request field."""


def to_error(code: str, message: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """The error body. It always has all four keys, because SDKs and their users read them without checking."""
    param = details.get("field")
    openai_code = CODES.get(code, code)
    if code == "not_found":
        openai_code = "unknown_url" if details.get("issue") == UNKNOWN_ROUTE else NOT_FOUND_CODES.get(param, code)
    if details.get("issue") == UNKNOWN_RESPONSE:
        openai_code = "previous_response_not_found"
    if details.get("failure") == "prompt_too_long":
        openai_code = "context_length_exceeded"
    return {"error": {"message": message, "type": TYPES.get(code, "invalid_request_error"), "param": param, "code": openai_code}}


SERVER_ERROR = "server_error"

RESPONSE_CODES: Mapping[FailureKind, str] = {
    "rate_limited": "rate_limit_exceeded",
    "prompt_too_long": "context_length_exceeded",
    "invalid_prompt": "invalid_prompt",
}
"""``error.code`` of a failed response, among the few that OpenAI defines; default ``server_error``."""

# Codex 0.169 retries a failed stream five times unless the code is one it treats as final, and repeating an agent's run is not
# safe. Of those codes only this one makes it show the message unchanged. The preceding `error` event has the accurate code.
CODEX_RESPONSE_CODES: Mapping[FailureKind, str] = {
    **dict.fromkeys(get_args(FailureKind), "invalid_prompt"),
    "prompt_too_long": "context_length_exceeded",
}
