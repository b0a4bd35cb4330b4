"""Classify CLI failures: a readable message, and the `FailureKind` from HTTP statuses and phrases in the output."""

from __future__ import annotations

import json
import re
from typing import Any

from services.events import FailureKind

BY_STATUS: dict[int, FailureKind] = {
    400: "invalid_prompt",
    401: "not_logged_in",
    404: "unknown_model",
    413: "prompt_too_long",
    429: "rate_limited",
    503: "overloaded",
    529: "overloaded",
}
"""HTTP status of the model API, as the CLI reports it. Every other status is ``backend``."""

# Order matters: "prompt is too long" comes with a 400 and is the more specific kind.
PHRASES: tuple[tuple[str, FailureKind], ...] = (
    (r"prompt is too long|context.length.exceeded|context window|input token count .*exceeds|maximum context", "prompt_too_long"),
    (r"no conversation found|no rollout found|invalid session identifier|error resuming session", "unknown_session"),
    (r"not logged in|run /login|authentication_failed|failed to authenticate|invalid api key|invalid auth method"
     r"|must specify the \w+_API_KEY|missing environment variable: `\w*KEY|please set an auth method", "not_logged_in"),
    (r"issue with the selected model|model_not_found|\bmodels?\b.{0,80}(not found|does not exist|not supported)|ModelNotFound",
     "unknown_model"),
    (r"rate.?limit|too many requests|quota|usage limit|resource.exhausted", "rate_limited"),
    (r"overloaded|service unavailable|at capacity", "overloaded"),
    (r"invalid_request_error", "invalid_prompt"),
)  # fmt: skip

BY_PHRASE = tuple((re.compile(pattern, re.IGNORECASE), kind) for pattern, kind in PHRASES)

STATUS = re.compile(r'(?:status:?|API Error:|"code":|rejected \()\s*"?(\d{3})\b')


def classify(message: str, status: int | None = None) -> FailureKind:
    """The kind of a failure, from the CLI's message and the model API's HTTP status, if known."""
    for pattern, kind in BY_PHRASE:
        if pattern.search(message):
            return kind
    if status is None and (found := STATUS.search(message)):
        status = int(found.group(1))
    return BY_STATUS.get(status or 0, "backend")


WRAPPED = re.compile(r"\[API Error: (.*?)\](?=\s|$)", re.DOTALL)


def human(message: str) -> str:
    """``message`` in readable form: the model API's error is extracted from the JSON that CLIs wrap it in.

    Gemini writes ``[API Error: {"error":{"code":401,"message":"…"}}]``, Codex ``{"error": {"message": "…"}}``; the inner
    message may again be such JSON (recordings gemini/err-401, codex/err-400).
    """
    for _ in range(3):
        start = message.find("{")
        if start < 0:
            break
        try:
            value, end = json.JSONDecoder().raw_decode(message, start)
        except (ValueError, RecursionError):
            break
        text = _error_text(value)
        if text is None:
            break
        message = message[:start] + text + message[end:]
    return WRAPPED.sub(r"API Error: \1", message).strip()


def _error_text(value: Any) -> str | None:
    """The message of an API error object, prefixed with its status."""
    match value:
        case {"error": {"message": str(text), **rest}}:
            status = rest.get("code", rest.get("status"))
            return f"{status} {text}" if isinstance(status, int) and not text.lstrip().startswith("{") else text
        case {"error": str(text)} | {"message": str(text)} | {"detail": str(text)}:
            return text
    return None
