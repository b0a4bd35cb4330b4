"""Why a CLI failed, told from what it says: one table from statuses and phrases to our `FailureKind`."""

from __future__ import annotations

import re

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
"""HTTP status of the model API, as the CLI repeats it. What is not here is ``backend``."""

# Order matters: "prompt is too long" comes with a 400 and is the more exact word.
BY_PHRASE: tuple[tuple[re.Pattern[str], FailureKind], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"prompt is too long|context.length.exceeded|context window|input token count .*exceeds|maximum context", "prompt_too_long"),
        (r"no conversation found|no rollout found|invalid session identifier|error resuming session", "unknown_session"),
        (r"not logged in|run /login|authentication_failed|failed to authenticate|invalid api key|invalid auth method"
         r"|must specify the \w+_API_KEY|missing environment variable: `\w*KEY|please set an auth method", "not_logged_in"),
        (r"issue with the selected model|model_not_found|model .{0,80}(not found|does not exist|not supported)", "unknown_model"),
        (r"rate.?limit|too many requests|quota|usage limit|resource.exhausted", "rate_limited"),
        (r"overloaded|service unavailable|at capacity", "overloaded"),
    )
)  # fmt: skip

STATUS = re.compile(r'(?:status:?|API Error:|"code":|rejected \()\s*"?(\d{3})\b')


def classify(message: str, status: int | None = None) -> FailureKind:
    """The kind of a failure, from the CLI's message and, where it gives one, the model API's HTTP status."""
    for pattern, kind in BY_PHRASE:
        if pattern.search(message):
            return kind
    if status is None and (found := STATUS.search(message)):
        status = int(found.group(1))
    return BY_STATUS.get(status or 0, "backend")
