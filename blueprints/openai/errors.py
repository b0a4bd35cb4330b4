"""How OpenAI's API names what went wrong: the one table of it, for whole answers, for streams and for failed responses. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from services.events import FailureKind

UNKNOWN_ROUTE = "unknown route"
"""``details["issue"]`` of a path that does not exist."""

TYPES: Mapping[str, str] = {
    "internal_error": "server_error",
    "backend_error": "server_error",
    "backend_unavailable": "server_error",
    "backend_overloaded": "server_error",
    "timeout": "server_error",
    "cancelled": "server_error",
    "rate_limit_exceeded": "requests",
}
"""OpenAI's ``type`` by our code; what is not here is ``invalid_request_error``."""

CODES: Mapping[str, str] = {
    "authentication_error": "invalid_api_key",
    "method_not_allowed": "method_not_supported",
    "unsupported_media_type": "unsupported_content_type",
}
"""OpenAI's ``code`` where it is not ours."""

NOT_FOUND_CODES: Mapping[str | None, str] = {
    "model": "model_not_found",
    "previous_response_id": "previous_response_not_found",
}
"""The ``code`` of what was not found, by the field that names it."""


def to_error(code: str, message: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an error. All four keys always: the SDKs and their users read them without asking."""
    param = details.get("field")
    told = CODES.get(code, code)
    if code == "not_found":
        told = "unknown_url" if details.get("issue") == UNKNOWN_ROUTE else NOT_FOUND_CODES.get(param, code)
    if details.get("failure") == "prompt_too_long":
        told = "context_length_exceeded"
    return {"error": {"message": message, "type": TYPES.get(code, "invalid_request_error"), "param": param, "code": told}}


SERVER_ERROR = "server_error"

RESPONSE_CODES: Mapping[FailureKind, str] = {
    "rate_limited": "rate_limit_exceeded",
    "prompt_too_long": "context_length_exceeded",
    "invalid_prompt": "invalid_prompt",
}
"""``error.code`` of a response that failed, of the few that OpenAI has for it; what is not here is ``server_error``."""

# Codex 0.169 tries a failed stream again, five times, unless it knows the code as final, and an agent's run is not safe to
# repeat. Of the codes that it knows, this one alone makes it show the message as it is; `error`, the event before, has the true one.
CODEX_RESPONSE_CODES: Mapping[FailureKind, str] = {
    **dict.fromkeys(get_args(FailureKind), "invalid_prompt"),
    "prompt_too_long": "context_length_exceeded",
}
